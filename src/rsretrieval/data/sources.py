"""Where rows come from: one registry, one contract.

A source gives the text side of every row of a split at once (:class:`Record`, small even for a large archive) and the
images in blocks, so that a stream reads each block about once and a table reads any row alone. A new source is one
class and one line in :data:`SOURCES`.
"""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from PIL import Image

from rsretrieval.data.synthetic import render, sample_scene

SPLITS = {"train": ("train",), "valid": ("valid", "val", "validation"), "test": ("test",)}
"""Our name of a split to the names that data sets give it."""


class DataError(ValueError):
    """Data that is not there or not as it must be."""


class Record(NamedTuple):
    """The text side of a row: file name, raw captions, and the scene where a column has it."""

    filename: str
    captions: tuple[str, ...]
    scene: str | None = None


@dataclass(frozen=True)
class Columns:
    """Names of the columns of a table; ``scene`` is None where there is none."""

    image: str = "image"
    captions: str = "captions"
    filename: str = "filename"
    scene: str | None = None


class Source(ABC):
    """Contract of a source of rows."""

    @abstractmethod
    def records(self, split: str) -> list[Record]:
        """The text side of every row of a split, in order.

        Raises:
            DataError: if there is no such split.
        """

    def blocks(self, split: str) -> list[int]:
        """Rows of each block that is read at once; by default each row alone."""
        return [1] * len(self.records(split))

    @abstractmethod
    def read(self, split: str, block: int) -> list[Image.Image]:
        """The decoded images (RGB) of a block, in order."""


def decode(image: object, name: str) -> Image.Image:
    """An RGB image from encoded bytes, the hub's ``{bytes, path}`` or a path.

    Raises:
        DataError: naming the image that cannot be read.
    """
    if isinstance(image, dict):
        image = image["bytes"] if image.get("bytes") is not None else image["path"]
    try:
        opened = Image.open(io.BytesIO(image) if isinstance(image, bytes) else str(image))
        return opened.convert("RGB")
    except OSError as error:
        raise DataError(f"the image of '{name}' cannot be decoded ({error}): replace or remove the row") from error


def _check_columns(have: Sequence[str], columns: Columns, where: str) -> None:
    wanted = [c for c in (columns.image, columns.captions, columns.filename, columns.scene) if c is not None]
    missing = [column for column in wanted if column not in have]
    if missing:
        raise DataError(
            f"{where} has no column {missing}; it has {list(have)}: name the right ones, as in "
            "--data.columns.captions=NAME"
        )


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
        _check_columns(table.column_names, self.columns, f"'{files[0]}'")
        return table.cast_column(self.columns.image, datasets.Image(decode=False))

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        c = self.columns
        text = self._table(split).select_columns([x for x in (c.filename, c.captions, c.scene) if x])
        return [Record(r[c.filename], tuple(r[c.captions]), r[c.scene] if c.scene else None) for r in text]

    def blocks(self, split: str) -> list[int]:
        """Each row alone: the table is memory-mapped."""
        return [1] * len(self._table(split))

    def read(self, split: str, block: int) -> list[Image.Image]:
        """See :class:`Source`."""
        row = self._table(split)[block]
        return [decode(row[self.columns.image], row[self.columns.filename])]


class FolderSource(Source):
    """Images and a Karpathy-style JSON: ``images[].filename, sentences[].raw, split``.

    Args:
        path: a folder with the only such JSON file and, at any depth, the images.
        columns: not used; the JSON's keys are fixed.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        folder = Path(path).expanduser()
        files = sorted(folder.glob("*.json")) if folder.is_dir() else []
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

    def read(self, split: str, block: int) -> list[Image.Image]:
        """See :class:`Source`."""
        name = self._split(split)[block]["filename"]
        path = self.paths.get(Path(name).name)
        if path is None:
            raise DataError(f"the image '{name}' of '{self.json}' is not below its folder: put it there")
        return [decode(path, name)]


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

    def read(self, split: str, block: int) -> list[Image.Image]:
        """See :class:`Source`."""
        return [render(sample_scene(self._seeds[split] + block), self.image_size)]


SOURCES: dict[str, type[Source]] = {
    "parquet": ParquetSource,
    "folder": FolderSource,
    "synthetic": SyntheticSource,
}


def build_source(name: str, path: str, columns: Columns) -> Source:
    """The source of that name.

    Raises:
        DataError: naming the sources there are.
    """
    if name not in SOURCES:
        raise DataError(f"there is no data source '{name}'; possible are {sorted(SOURCES)}: set --data.source")
    return SOURCES[name](path, columns)  # type: ignore[call-arg]
