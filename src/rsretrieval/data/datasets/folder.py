"""Folders of images beside their authors' JSON files."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from rsretrieval.data.datasets.base import SPLITS, BrokenRowError, Columns, DataError, MissingSplitError, Record, Source


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
            splits = sorted({row["split"] for row in self.rows})
            raise MissingSplitError(f"'{self.folder}' has no split '{split}' (names {SPLITS[split]}); it has {splits}")
        return rows

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        rows = self._split(split)
        return [Record(row["filename"], tuple(s["raw"] for s in row["sentences"]), row.get("scene")) for row in rows]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`.

        Raises:
            BrokenRowError: if not exactly one file has the image's name.
        """
        name = PurePath(self._split(split)[block]["filename"])
        same_name = self.paths.get(name.name, [])
        files = [file for file in same_name if file.parts[-len(name.parts) :] == name.parts] or same_name
        if len(files) != 1:
            raise BrokenRowError(
                f"the image '{name}' is {len(files)} times below '{self.folder}': one file of that name is needed"
            )
        return files


def _rows(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSON file in the form of the first layout; nothing for a JSON in none of them."""
    table = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(table, list):
        return _rows_of_a_split(table, file.stem.rpartition("_")[2])
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


def _rows_of_a_split(table: list[Any], split: str) -> list[dict[str, Any]]:
    """PIR's list, where an image has a row for each caption or one row for several."""
    captions: dict[str, list[str]] = {}
    for row in table:
        if isinstance(row, dict) and {"image", "caption"} <= row.keys():
            caption = row["caption"]
            captions.setdefault(row["image"], []).extend([caption] if isinstance(caption, str) else caption)
    return [
        {"filename": name, "split": split, "sentences": [{"raw": text} for text in texts]}
        for name, texts in captions.items()
    ]
