"""Where rows come from: one registry over the contract in ``rows``.

A new source is one class and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from rsretrieval.data.catalog import DATASETS
from rsretrieval.data.hub import HubSource, fetch_archive
from rsretrieval.data.rows import (
    SPLITS,
    BrokenRowError,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
    check_columns,
    record,
)
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
            raise MissingSplitError(
                f"'{self.folder}' has no split '{split}': it needs files {split}-*.parquet and has the splits {there}"
            )
        total = {int(found[1]) for file in files if (found := re.search(r"-of-(\d+)\.parquet$", file))}
        if total and total != {len(files)}:
            raise DataError(
                f"'{self.folder}' holds {len(files)} files of split '{split}', and their names say {sorted(total)}: "
                "write or fetch the missing ones, or remove those of another copy"
            )
        table = datasets.Dataset.from_parquet(files)
        check_columns(table.column_names, self.columns, f"'{files[0]}'")
        return table.cast_column(self.columns.image, datasets.Image(decode=False))

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        table = self._table(split)
        names = self.columns.text(table.column_names)
        rows = table.select_columns(list(names.values()))
        return [record({field: row[column] for field, column in names.items()}) for row in rows]

    def blocks(self, split: str) -> list[int]:
        """Each row alone: the table is memory-mapped."""
        return [1] * len(self._table(split))

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        return [self._table(split)[block][self.columns.image]]


class FolderSource(Source):
    """Images and their authors' JSON, in one of two layouts.

    RSICD, RSITMD, UCM-Captions and Sydney-Captions: ``images[].filename, sentences[].raw, split``. NWPU-Captions:
    scene class to a list of ``filename, split, raw, raw_1, raw_2, …``.

    Args:
        path: a folder with, at any depth, one such JSON file and the images.
        columns: not used; the JSON's keys are fixed.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        folder = Path(path).expanduser()
        files = sorted(folder.rglob("*.json")) if folder.is_dir() else []
        tables = {file: rows for file in files if (rows := _rows(json.loads(file.read_text(encoding="utf-8"))))}
        if len(tables) != 1:
            raise DataError(
                f"'{path}' holds {len(tables)} JSON files with captions of images; one is needed, with "
                "images[].filename, images[].sentences[].raw and images[].split, beside the images"
            )
        self.json, self.rows = next(iter(tables.items()))
        self.paths = {file.name: file for file in folder.rglob("*") if file.is_file()}

    def _split(self, split: str) -> list[dict[str, Any]]:
        rows = [row for row in self.rows if row["split"] in SPLITS[split]]
        if not rows:
            there = sorted({row["split"] for row in self.rows})
            raise MissingSplitError(f"'{self.json}' has no split '{split}' (names {SPLITS[split]}); it has {there}")
        return rows

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        rows = self._split(split)
        return [Record(row["filename"], tuple(s["raw"] for s in row["sentences"]), row.get("scene")) for row in rows]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        name = self._split(split)[block]["filename"]
        path = self.paths.get(Path(name).name)
        if path is None:
            raise BrokenRowError(f"the image '{name}' of '{self.json}' is not below its folder: put it there")
        return [path]


def _rows(table: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - any JSON
    """``images`` of a Karpathy-style JSON, or NWPU's rows brought into its form; nothing for another JSON."""
    if not isinstance(table, dict):
        return []
    if "images" in table:
        return list(table["images"])
    return [
        {**row, "scene": scene, "sentences": [{"raw": row[key]} for key in row if re.fullmatch(r"raw(_\d+)?", key)]}
        for scene, rows in table.items()
        if isinstance(rows, list)
        for row in rows
        if isinstance(row, dict) and {"filename", "split", "raw"} <= row.keys()
    ]


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
    """The source of that name, or that of a data set of the catalogue: its folder at ``path``, or else its hub id.

    Raises:
        DataError: naming the sources there are.
    """
    if name in DATASETS:
        name, path = ("folder", path) if path else ("hub", DATASETS[name].hub_path())
    if name not in SOURCES:
        raise DataError(
            f"there is no data source '{name}'; possible are {sorted(SOURCES)} and the data sets {sorted(DATASETS)}: "
            "set --data.source"
        )
    return SOURCES[name](path, columns)
