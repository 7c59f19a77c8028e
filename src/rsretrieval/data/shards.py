"""Rows written as parquet files, in the columns that ``ParquetSource`` reads."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
from PIL import Image
from tqdm.auto import tqdm

from rsretrieval.data.datasets.base import BrokenRowError, check_broken
from rsretrieval.data.reader import ImageReader, decode_row
from rsretrieval.files import sha256, write_text, write_whole
from rsretrieval.images import Rendering, content, is_plain

log = logging.getLogger(__name__)
MANIFEST = "prepared.json"
FEATURES = datasets.Features(
    {
        "filename": datasets.Value("string"),
        "captions": datasets.List(datasets.Value("string")),
        "image": datasets.Image(),
        "scene": datasets.Value("string"),
        "caption_values": datasets.List(datasets.Value("float32")),
    }
)


def encode(image: object, name: str, size: int | None, quality: int, rendering: Rendering | None = None) -> bytes:
    """The bytes to keep of an image in one of the forms that :func:`rsretrieval.images.decode` takes.

    Args:
        image: encoded bytes, a path, the hub's ``{bytes, path}``, an image or an array.
        name: for the error.
        size: longest that the shorter side may be, in pixels; None keeps encoded images byte by byte.
        quality: of the JPEG that an image reduced to ``size`` becomes; one that was never encoded becomes a PNG.
        rendering: of images that are not 8-bit, or of many bands; what it changes becomes a PNG too.

    Raises:
        BrokenRowError: if it cannot be decoded.
        DataError: if it needs another rendering.
    """
    picture, image, buffer = decode_row(image, name, rendering), content(image), io.BytesIO()
    side = min(picture.size)
    if size and side > size:
        width, height = (round(length * size / side) for length in picture.size)
        picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()
    if (rendering is not None and rendering.bands) or not is_plain(image):
        picture.save(buffer, "PNG")
        return buffer.getvalue()
    return image if isinstance(image, bytes) else Path(str(image)).read_bytes()


@dataclass
class ShardWriter:
    """Writes splits to a folder, file by file, and lists the finished files in ``prepared.json``.

    Attributes:
        folder: to write to.
        manifest: the content of ``prepared.json``; kept up to date.
        size: see :func:`encode`.
        quality: see :func:`encode`.
        shard_rows: rows of a file.
        max_broken: fraction of a split's rows that may be broken.
    """

    folder: Path
    manifest: dict[str, Any]
    size: int | None
    quality: int
    shard_rows: int
    max_broken: float
    _reason: str = ""  # why the first broken row is

    def write_split(self, reader: ImageReader) -> None:
        """Write the files of a split that are missing or damaged.

        Raises:
            DataError: if too many rows are broken.
        """
        split, total = reader.split, len(reader.table.names)
        starts = range(0, total, self.shard_rows)
        broken: list[str] = []
        rows_written = 0
        with tqdm(total=total, desc=split, unit=" images") as bar:
            for number, start in enumerate(starts):
                rows = range(start, min(start + self.shard_rows, total))
                file = self.folder / f"{split}-{number:05d}-of-{len(starts):05d}.parquet"
                entry = self.manifest["files"].get(file.name)
                if not (entry and file.is_file() and sha256(file) == entry["sha256"]):
                    entry = self._write_file(file, reader, rows)
                bar.update(len(rows))
                rows_written += entry["rows"]
                broken += entry["broken"]
                check_broken(broken, reader.table.images, split, self.max_broken, self._reason)
        log.info("split '%s': %d rows", split, rows_written)

    def _write_file(self, file: Path, reader: ImageReader, rows: Iterable[int]) -> dict[str, Any]:
        """Write one file and list it; gives its entry of the manifest."""
        written, broken = self._rows(reader, rows)
        columns = {column: [row[column] for row in written] for column in FEATURES}
        write_whole(file, datasets.Dataset.from_dict(columns, features=FEATURES).to_parquet)
        entry = {"rows": len(written), "sha256": sha256(file), "broken": broken}
        self.manifest["files"][file.name] = entry
        write_text(self.folder / MANIFEST, json.dumps(self.manifest, indent=1))
        return entry

    def _rows(self, reader: ImageReader, rows: Iterable[int]) -> tuple[list[dict[str, Any]], list[str]]:
        """The rows to write, and the names of those that are broken."""
        table = reader.table
        written, broken = [], []
        for row in rows:
            if row in table.merged:  # its captions are with an earlier row of the same image
                continue
            name = table.names[row]
            try:
                if not table.captions[row]:
                    raise BrokenRowError(f"'{name}' has no caption with a word in it: replace or remove the row")
                image = encode(reader.encoded(row), name, self.size, self.quality, reader.rendering)
            except BrokenRowError as error:
                log.warning("split '%s': %s", reader.split, error)
                self._reason = self._reason or str(error)
                broken.append(name)
                continue
            written.append(
                {
                    "filename": name,
                    "captions": table.captions[row],
                    "image": {"bytes": image, "path": Path(name).name},
                    "scene": table.scene_names[table.scenes[row]],
                    "caption_values": table.values[row],
                }
            )
        return written, broken
