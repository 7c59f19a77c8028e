"""``rsretrieval data prepare``: any source written once as local parquet shards, to train offline.

The command line reads the signature of :func:`prepare`, so what is slow to import is imported inside (and not for type
checkers alone either: jsonargparse follows that too).
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rsretrieval.data.datasets.base import SPLITS, Columns, DataError, MissingSplitError
from rsretrieval.data.datasets.catalogue import describe_datasets
from rsretrieval.data.datasets.registry import build_source
from rsretrieval.files import sha256

__all__ = ["describe_datasets", "prepare"]

log = logging.getLogger(__name__)


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
    revision: str | None = None,
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
        holdout: fraction of the training images that becomes the split valid, where there is none.
        scene_file: JSON of file name to scene class.
        max_words: longest caption, in words.
        max_broken: fraction of a split's rows that may be left out because they are broken.
        revision: hub: commit, tag or branch to read; null for the newest.

    Raises:
        MissingSplitError: if the source does not have a split that was asked for.
        DataError: if the folder was prepared with other settings, or too many rows are broken.
    """
    import datasets

    from rsretrieval.data.datasets.holdout import hold_out
    from rsretrieval.data.reader import ImageReader
    from rsretrieval.data.shards import ShardWriter
    from rsretrieval.data.table import build_table

    source_name, path = ("hub", name) if "/" in name else (name, path)
    source = hold_out(build_source(source_name, path, columns, revision), holdout)
    datasets.disable_progress_bars()  # its own, of every file
    readers = []
    for split in splits or SPLITS:
        if split not in SPLITS:
            raise DataError(f"there is no split '{split}'; possible are {list(SPLITS)}: set --splits")
        try:
            table = build_table(source, split, max_words=max_words, max_broken=max_broken, scene_file=scene_file)
        except MissingSplitError:
            if splits:
                raise
            continue
        readers.append(ImageReader(source, split, table))
    folder = Path(to).expanduser()
    settings = {
        "source": [source_name, path, source.revision, asdict(columns)],
        "images": [size, quality],
        "captions": [max_words, scene_file and sha256(Path(scene_file).expanduser())],
        "rows": [shard_rows, holdout],
    }
    writer = ShardWriter(folder, _manifest(folder, settings), size, quality, shard_rows, max_broken)
    for reader in readers:
        writer.write_split(reader)
    log.info("ready: --data.source parquet --data.path %s", folder)


def _manifest(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a folder holds already; removes what a killed run left unfinished.

    Raises:
        DataError: if it was prepared with other settings.
    """
    from rsretrieval.data.shards import MANIFEST

    for unfinished in folder.glob("*.partial"):
        unfinished.unlink()
    file = folder / MANIFEST
    if not file.is_file():
        return {"settings": settings, "files": {}}
    manifest: dict[str, Any] = json.loads(file.read_text())
    before, now = manifest["settings"], settings
    if before["source"][2] is None:  # older versions did not write it for archives, nor for held-out splits
        name, path, _, columns = settings["source"]
        now = {**settings, "source": [name, path, None, columns]}
    if before != now:
        raise DataError(
            f"'{folder}' was prepared with {before}, not with {settings}: give the same settings to go on with it, or "
            "another folder"
        )
    return manifest
