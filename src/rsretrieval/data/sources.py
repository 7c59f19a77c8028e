"""Where rows come from: one registry over the contract in ``rows``.

A new source is one class and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from itertools import compress
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from rsretrieval.data.catalog import DATASETS
from rsretrieval.data.hub import HubSource, fetch_archive
from rsretrieval.data.parquet import ParquetSource
from rsretrieval.data.rows import (
    SPLITS,
    BrokenRowError,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
)
from rsretrieval.data.synthetic import render, sample_scene


class FolderSource(Source):
    """Images and their authors' JSON, in one of three layouts.

    RSICD, RSITMD, UCM-Captions and Sydney-Captions: ``images[].filename, sentences[].raw, split``. NWPU-Captions:
    scene class to a list of ``filename, split, raw, raw_1, raw_2, …``. PIR and its heirs: a file for each split,
    ``NAME_train.json``, ``NAME_val.json``, ``NAME_test.json``, with a list of ``image, caption``.

    Args:
        path: a folder with, at any depth, such JSON files and the images.
        columns: not used; the JSON's keys are fixed.

    Raises:
        DataError: if there is no such file, or there are several for one split.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        folder = Path(path).expanduser()
        files = sorted(folder.rglob("*.json")) if folder.is_dir() else []
        tables = {file: rows for file in files if (rows := _rows(file))}
        splits = [split for rows in tables.values() for split in {row["split"] for row in rows}]
        if not splits or len(splits) != len(set(splits)):
            raise DataError(
                f"'{path}' holds {len(tables)} JSON files with captions of images ({[f.name for f in tables]}); each "
                "split needs one, with images[].filename, images[].sentences[].raw and images[].split, beside the "
                "images"
            )
        self.folder, self.rows = folder, [row for rows in tables.values() for row in rows]
        self.paths: dict[str, list[Path]] = {}
        for file in folder.rglob("*"):
            self.paths.setdefault(file.name, []).append(file)

    def _split(self, split: str) -> list[dict[str, Any]]:
        rows = [row for row in self.rows if row["split"] in SPLITS[split]]
        if not rows:
            there = sorted({row["split"] for row in self.rows})
            raise MissingSplitError(f"'{self.folder}' has no split '{split}' (names {SPLITS[split]}); it has {there}")
        return rows

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        rows = self._split(split)
        return [Record(row["filename"], tuple(s["raw"] for s in row["sentences"]), row.get("scene")) for row in rows]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        name = PurePath(self._split(split)[block]["filename"])
        named = self.paths.get(name.name, [])
        found = [file for file in named if file.parts[-len(name.parts) :] == name.parts] or named
        if len(found) != 1:
            raise BrokenRowError(
                f"the image '{name}' is {len(found)} times below '{self.folder}': one file of that name is needed"
            )
        return found


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file in the form of the first layout; nothing for a JSON in none of them."""
    table = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(table, list):
        captions: dict[str, list[str]] = {}
        for row in table:
            if isinstance(row, dict) and {"image", "caption"} <= row.keys():
                given = row["caption"]
                captions.setdefault(row["image"], []).extend([given] if isinstance(given, str) else given)
        split = file.stem.rpartition("_")[2]
        return [
            {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
            for name, texts in captions.items()
        ]
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
        source: what to split.
        share: of the training images.
        seed: of the choice.
    """

    def __init__(self, source: Source, share: float, seed: int) -> None:
        if not 0 < share < 1:
            raise DataError(f"holdout={share} is no share of the images: give a number between 0 and 1")
        sizes = source.blocks("train")
        held = np.zeros(sum(sizes), bool)
        held[np.random.default_rng(seed).permutation(len(held))[: round(share * len(held))]] = True
        self.source, self.kept = source, {"train": ~held, "valid": held}
        # Which rows of each block of the training split a split has; blocks of which it has none are left out.
        parts = {split: np.split(kept, np.cumsum(sizes)[:-1]) for split, kept in self.kept.items()}
        self.parts = {
            split: [(block, mine) for block, mine in enumerate(blocks) if mine.any()] for split, blocks in parts.items()
        }

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        if split not in self.kept:
            return self.source.records(split)
        return list(compress(self.source.records("train"), self.kept[split]))

    def blocks(self, split: str) -> list[int]:
        """Rows of each block of the training split, where any are this split's."""
        if split not in self.kept:
            return self.source.blocks(split)
        return [int(mine.sum()) for _, mine in self.parts[split]]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        if split not in self.kept:
            return self.source.read(split, block)
        number, mine = self.parts[split][block]
        return list(compress(self.source.read("train", number), mine))


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
