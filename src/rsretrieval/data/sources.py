"""Where rows come from: one registry over the contract in ``rows``.

A new source is one class and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from rsretrieval.data.hub import HubSource, fetch_archive
from rsretrieval.data.rows import SPLITS, BrokenRowError, Columns, DataError, Record, Source, check_columns
from rsretrieval.data.synthetic import render, sample_scene


class ParquetSource(Source):
    """A folder of ``{train,valid,test}-*.parquet`` in the hub's columns.

    Args:
        path: the folder.
        columns: names of the columns.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        self.folder, self.columns = Path(path).expanduser(), columns
        if not self.folder.is_dir():
            raise DataError(f"there is no folder '{path}': give the folder of the parquet files as --data.path")
        self._table = lru_cache(maxsize=None)(self._load)

    def _load(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        files = sorted(str(f) for alias in SPLITS[split] for f in self.folder.glob(f"{alias}-*.parquet"))
        if not files:
            there = sorted({f.name.rsplit("-of-")[0].partition("-")[0] for f in self.folder.glob("*.parquet")})
            raise DataError(
                f"'{self.folder}' has no split '{split}': it needs files {split}-*.parquet and has the splits {there}"
            )
        table = datasets.Dataset.from_parquet(files)
        check_columns(table.column_names, self.columns, f"'{files[0]}'")
        return table.cast_column(self.columns.image, datasets.Image(decode=False))

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        c = self.columns
        text = self._table(split).select_columns([x for x in (c.filename, c.captions, c.scene) if x])
        return [Record(r[c.filename], tuple(r[c.captions] or ()), r[c.scene] if c.scene else None) for r in text]

    def blocks(self, split: str) -> list[int]:
        """Each row alone: the table is memory-mapped."""
        return [1] * len(self._table(split))

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        return [self._table(split)[block][self.columns.image]]


class FolderSource(Source):
    """Images and a Karpathy-style JSON: ``images[].filename, sentences[].raw, split``.

    Args:
        path: a folder with, at any depth, one such JSON file and the images.
        columns: not used; the JSON's keys are fixed.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        folder = Path(path).expanduser()
        files = sorted(folder.rglob("*.json")) if folder.is_dir() else []
        tables = {file: data for file in files if isinstance(data := json.loads(file.read_text()), dict)}
        tables = {file: data for file, data in tables.items() if "images" in data}
        if len(tables) != 1:
            raise DataError(
                f"'{path}' holds {len(tables)} JSON files with a list 'images'; one is needed, with "
                "images[].filename, images[].sentences[].raw and images[].split, beside the images"
            )
        self.json, data = next(iter(tables.items()))
        self.rows: list[dict[str, Any]] = data["images"]
        self.paths = {file.name: file for file in folder.rglob("*") if file.is_file()}

    def _split(self, split: str) -> list[dict[str, Any]]:
        rows = [row for row in self.rows if row["split"] in SPLITS[split]]
        if not rows:
            there = sorted({row["split"] for row in self.rows})
            raise DataError(f"'{self.json}' has no split '{split}' (names {SPLITS[split]}); it has {there}")
        return rows

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        return [Record(row["filename"], tuple(s["raw"] for s in row["sentences"])) for row in self._split(split)]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        name = self._split(split)[block]["filename"]
        path = self.paths.get(Path(name).name)
        if path is None:
            raise BrokenRowError(f"the image '{name}' of '{self.json}' is not below its folder: put it there")
        return [path]


class SyntheticSource(Source):
    """The embedded procedural scenes: 2,400 / 300 / 300 images of 96 px; needs no file.

    Args:
        path: not used.
        columns: not used.
    """

    sizes = {"train": 2400, "valid": 300, "test": 300}  # noqa: RUF012 - constant
    image_size = 96

    def __init__(self, path: str, columns: Columns) -> None:
        self._seeds = {split: 1_000_000 * number for number, split in enumerate(self.sizes)}

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        scenes = (sample_scene(self._seeds[split] + row) for row in range(self.sizes[split]))
        return [Record(f"{s.label}_{row}.png", s.captions, s.label) for row, s in enumerate(scenes)]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        return [render(sample_scene(self._seeds[split] + block), self.image_size)]


class Holdout(Source):
    """Takes the validation split out of the training split, for data sets that come without one (RSITMD).

    Args:
        source: what to split; any row of it must be readable alone.
        share: of the training images.
        seed: of the choice.
    """

    def __init__(self, source: Source, share: float, seed: int) -> None:
        if not 0 < share < 1:
            raise DataError(f"holdout={share} is no share of the images: give a number between 0 and 1")
        blocks = source.blocks("train")
        if max(blocks) > 1:
            raise DataError("holdout needs a source that reads single rows: 'parquet', 'folder' or an archive")
        order = np.random.default_rng(seed).permutation(len(blocks))
        held = round(share * len(blocks))
        self.source, self.rows = (
            source,
            {"valid": sorted(order[:held].tolist()), "train": sorted(order[held:].tolist())},
        )

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        if split not in self.rows:
            return self.source.records(split)
        records = self.source.records("train")
        return [records[row] for row in self.rows[split]]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        if split not in self.rows:
            return self.source.read(split, block)
        return self.source.read("train", self.rows[split][block])


def _hub(path: str, columns: Columns) -> Source:
    """``OWNER/NAME`` is streamed; ``OWNER/NAME/FILE.zip`` is fetched, unpacked and read as a folder."""
    return FolderSource(str(fetch_archive(path)), columns) if path.endswith(".zip") else HubSource(path, columns)


SOURCES: dict[str, Callable[[str, Columns], Source]] = {
    "hub": _hub,
    "parquet": ParquetSource,
    "folder": FolderSource,
    "synthetic": SyntheticSource,
}
"""Every source: its path and columns to a :class:`Source`."""


def build_source(name: str, path: str, columns: Columns) -> Source:
    """The source of that name.

    Raises:
        DataError: naming the sources there are.
    """
    if name not in SOURCES:
        raise DataError(f"there is no data source '{name}'; possible are {sorted(SOURCES)}: set --data.source")
    return SOURCES[name](path, columns)
