"""``rsretrieval data``: the catalogue, and any source written once as local parquet shards, to train offline."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from PIL import Image
from tqdm.auto import tqdm

from rsretrieval.data.catalog import DATASETS
from rsretrieval.data.datamodule import RetrievalDataModule, check_broken
from rsretrieval.data.hub import checksum
from rsretrieval.data.rows import BrokenRowError, Columns, DataError, MissingSplitError, content, decode
from rsretrieval.data.stream import RetrievalStream

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


def show() -> None:
    """Print the data sets that are known by name."""
    for name, data in DATASETS.items():
        train, valid, test = data.splits
        print(  # noqa: T201 - a command's output
            f"{name:7} {data.title}: {data.images} images of {data.pixels} px in {data.classes} scenes; "
            f"train/valid/test {train}/{valid}/{test}\n"
            f"        hub: {data.hub or '-'} ({data.checked}; {data.size}); licence: {data.licence}\n"
            f"        layout: {data.columns}\n        cite: {data.citation}"
        )


def _write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all, whenever the process is killed."""
    partial = file.with_name(f"{file.name}.partial")
    write(partial)
    partial.replace(file)


def encode(given: object, name: str, size: int | None, quality: int) -> bytes:
    """The bytes to keep of an image in one of the forms that :func:`rsretrieval.data.rows.decode` takes.

    Args:
        given: encoded bytes, a path, the hub's ``{bytes, path}`` or an image.
        name: for the error.
        size: longest that the shorter side may be, in pixels; None keeps encoded images byte by byte.
        quality: of the JPEG that an image reduced to ``size`` becomes; one that was never encoded becomes a PNG.

    Raises:
        BrokenRowError: if it cannot be decoded.
    """
    picture, image, buffer = decode(given, name), content(given), io.BytesIO()
    side = min(picture.size)
    if size and side > size:
        width, height = (round(length * size / side) for length in picture.size)
        picture.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=quality)
        return buffer.getvalue()
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        picture.save(buffer, "PNG")
        return buffer.getvalue()
    return Path(str(image)).read_bytes()


def prepare(
    name: str,
    to: str,
    path: str = "",
    *,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    splits: list[str] | None = None,
    size: int | None = None,
    quality: int = 95,
    shard_rows: int = 1000,
    holdout: float = 0.0,
    scene_file: str | None = None,
    max_words: int = 30,
    max_broken: float = 0.01,
) -> None:
    """Write a data set as ``SPLIT-00000-of-00009.parquet``, to be read by ``--data.source parquet --data.path TO``.

    Columns: filename, captions (cleaned), image, scene, caption_values. Finished files are listed with their SHA-256 in
    ``prepared.json``; a second run checks them, and writes what is missing or damaged.

    Args:
        name: a data set (see ``rsretrieval data list``), a hub id ``OWNER/NAME``, or a source with its ``path``.
        to: the folder to write to.
        path: of the source's files.
        columns: names of the source's columns.
        splits: some of train, valid, test; null for all there are.
        size: longest that an image's shorter side may be, in pixels; null keeps the images as they are.
        quality: of JPEG, for images that are made smaller.
        shard_rows: rows of a file.
        holdout: share of the training images that becomes the split valid.
        scene_file: JSON of file name to scene class.
        max_words: longest caption, in words.
        max_broken: share of a split's rows that may be left out because they are broken.

    Raises:
        DataError: if the folder was prepared with other settings, or too many rows are broken.
    """
    source, path = ("hub", name) if "/" in name else (name, path)
    data = RetrievalDataModule(
        source, path, columns, holdout=holdout, scene_file=scene_file, max_words=max_words, max_broken=max_broken
    )
    datasets.disable_progress_bars()  # its own, of every file
    found = {}
    for split in splits or ("train", "valid", "test"):
        try:
            found[split] = data.stream(split)
        except MissingSplitError:
            if splits:
                raise
    folder = Path(to).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "source": [source, path, getattr(data.source, "revision", None), asdict(columns)],
        "images": [size, quality],
        "captions": [max_words, scene_file and checksum(Path(scene_file).expanduser())],
        "rows": [shard_rows, holdout],
    }
    file = folder / MANIFEST
    fresh: dict[str, Any] = {"settings": settings, "files": {}}
    manifest = json.loads(file.read_text()) if file.is_file() else fresh
    if manifest["settings"] != settings:
        raise DataError(
            f"'{folder}' was prepared with {manifest['settings']}, not with {settings}: give the same settings to go "
            "on with it, or another folder"
        )
    for split, stream in found.items():
        _write_split(stream, folder, manifest, size, quality, shard_rows, max_broken)
        rows = sum(written["rows"] for name, written in manifest["files"].items() if name.startswith(split))
        log.info("split '%s': %d rows", split, rows)
    log.info("ready: --data.source parquet --data.path %s", folder)


def _write_split(
    stream: RetrievalStream,
    folder: Path,
    manifest: dict[str, Any],
    size: int | None,
    quality: int,
    shard_rows: int,
    max_broken: float,
) -> None:
    total = len(stream.table.names)
    starts = range(0, total, shard_rows)
    broken: list[str] = []
    with tqdm(total=total, desc=stream.split, unit=" images") as bar:
        for number, start in enumerate(starts):
            name = f"{stream.split}-{number:05d}-of-{len(starts):05d}.parquet"
            file = folder / name
            known: dict[str, Any] = manifest["files"].get(name, {})
            chosen = range(start, min(start + shard_rows, total))
            if not (known and file.is_file() and checksum(file) == known["sha256"]):
                rows, skipped = _rows(stream, chosen, lambda image, name: encode(image, name, size, quality))
                columns = {column: [row[column] for row in rows] for column in FEATURES}
                table = datasets.Dataset.from_dict(columns, features=FEATURES)
                _write_whole(file, table.to_parquet)
                known = {"rows": len(rows), "sha256": checksum(file), "broken": skipped}
                manifest["files"][name] = known
                _write_whole(folder / MANIFEST, lambda path: path.write_text(json.dumps(manifest, indent=1)))
            bar.update(len(chosen))
            broken += known["broken"]
            check_broken(broken, total, stream.split, max_broken)


def _rows(
    stream: RetrievalStream, chosen: Iterable[int], encoded: Callable[[object, str], bytes]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The chosen rows to write, and the names of those that are broken."""
    table, read = stream.table, lru_cache(maxsize=1)(stream.source.read)
    rows, broken = [], []
    for row in chosen:
        name = table.names[row]
        try:
            if not table.captions[row]:
                raise BrokenRowError(f"'{name}' has no caption with a word in it: replace or remove the row")
            image = encoded(stream.encoded(row, read), name)
        except BrokenRowError as error:
            log.warning("split '%s': %s", stream.split, error)
            broken.append(name)
            continue
        rows.append(
            {
                "filename": name,
                "captions": table.captions[row],
                "image": {"bytes": image, "path": Path(name).name},
                "scene": table.scene_names[table.scenes[row]],
                "caption_values": table.values[row],
            }
        )
    return rows, broken
