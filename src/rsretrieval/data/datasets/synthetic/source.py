"""The synthetic scenes as a source of rows."""

from __future__ import annotations

from collections.abc import Sequence

from rsretrieval.data.datasets.base import Columns, DataError, Record, Source
from rsretrieval.data.datasets.synthetic.scenes import render, sample_scene


class SyntheticSource(Source):
    """The embedded procedural scenes: 2,400 / 300 / 300 images of 96 px; needs no file.

    Args:
        path: empty.
        columns: not used.

    Raises:
        DataError: if a path is given, which it would not read.
    """

    sizes = {"train": 2400, "valid": 300, "test": 300}  # noqa: RUF012 - constant
    image_size = 96

    def __init__(self, path: str, columns: Columns) -> None:
        if path:
            raise DataError(
                f"the source 'synthetic' reads no files, so '{path}' would be left aside: name the source of these "
                "files, as in --data.source folder or parquet, or leave out --data.path"
            )
        self._seeds = {split: 1_000_000 * number for number, split in enumerate(self.sizes)}

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        first = self._seeds[split]  # in the names, so that no two splits share one
        scenes = [(seed, sample_scene(seed)) for seed in range(first, first + self.sizes[split])]
        return [Record(f"{scene.label}_{seed}.png", scene.captions, scene.label) for seed, scene in scenes]

    def blocks(self, split: str) -> list[int]:
        """Each row alone: it is drawn where it is read."""
        return [1] * self.sizes[split]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        return [render(sample_scene(self._seeds[split] + block), self.image_size)]
