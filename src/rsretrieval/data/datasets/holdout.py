"""A validation split taken out of the training split, for data sets that come without one (RSITMD)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

import numpy as np

from rsretrieval.data.datasets.base import DataError, MissingSplitError, Record, Source
from rsretrieval.data.datasets.rows import first_rows


class HoldoutSource(Source):
    """A source whose training images are divided into ``train`` and ``valid``.

    Args:
        source: what to divide; it must have no validation split.
        fraction: of the training images that become the validation split, in (0, 1).
        seed: of the choice.

    Raises:
        DataError: if the fraction is out of bounds, or the source has a validation split.
    """

    def __init__(self, source: Source, fraction: float, seed: int = 0) -> None:
        if not 0 < fraction < 1:
            raise DataError(f"holdout={fraction} is no fraction of the images: give a number between 0 and 1")
        _refuse_validation_split(source, fraction)
        sizes = source.blocks("train")
        # By image, never by row: all rows of one image are on one side.
        firsts = np.array(first_rows([record.filename for record in source.records("train")]), np.int64)
        images, image_of_row = np.unique(firsts, return_inverse=True)
        chosen_images = np.zeros(len(images), bool)
        order = np.random.default_rng(seed).permutation(len(images))
        chosen_images[order[: round(fraction * len(images))]] = True
        held_out = chosen_images[image_of_row]
        self.source, self.revision = source, source.revision
        self._rows = {"train": ~held_out, "valid": held_out}
        # Which rows of each block of the training split a split has; blocks of which it has none are left out.
        chosen = {split: np.split(rows, np.cumsum(sizes)[:-1]) for split, rows in self._rows.items()}
        self._blocks = {
            split: [(number, rows) for number, rows in enumerate(blocks) if rows.any()]
            for split, blocks in chosen.items()
        }

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        if split not in self._rows:
            return self.source.records(split)
        return list(compress(self.source.records("train"), self._rows[split]))

    def blocks(self, split: str) -> list[int]:
        """Rows of each block of the training split, where any are this split's."""
        if split not in self._blocks:
            return self.source.blocks(split)
        return [int(rows.sum()) for _, rows in self._blocks[split]]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        if split not in self._blocks:
            return self.source.read(split, block)
        number, rows = self._blocks[split][block]
        return list(compress(self.source.read("train", number), rows))

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        held_out = f"split '{split}' of it" if split in self._rows else ""
        return ", ".join(filter(None, (self.source.where("train" if held_out else split), held_out)))

    def fingerprint(self) -> str | None:
        """See :class:`Source`."""
        return self.source.fingerprint()

    def prepare(self) -> None:
        """See :class:`Source`."""
        self.source.prepare()


def hold_out(source: Source, fraction: float) -> Source:
    """The source, with a fraction of its training images as ``valid``, the same ones each time; as it is for 0.

    Raises:
        DataError: see :class:`HoldoutSource`.
    """
    return HoldoutSource(source, fraction) if fraction else source


def _refuse_validation_split(source: Source, fraction: float) -> None:
    try:
        rows = len(source.records("valid"))
    except MissingSplitError:
        rows = 0
    if rows:
        raise DataError(
            f"holdout={fraction} would replace the validation split that the data set has ({rows} images): set "
            "--data.holdout 0 to validate on it"
        )
