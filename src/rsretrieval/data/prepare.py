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
from rsretrieval.data.datasets.registry import SOURCES, build_source, source_and_path
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
    exclude: str | None = None,
    scene_file: str | None = None,
    max_words: int = 30,
    max_broken: float = 0.01,
    scale: str | None = None,
    bands: str | None = None,
    revision: str | None = None,
    configuration: str | None = None,
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
        exclude: images to leave out of the training split, before any are held out: a CSV of ``rsretrieval data
            overlap``, or a text with a file name a line; null for none.
        scene_file: JSON of file name to scene class.
        max_words: longest caption, in words.
        max_broken: fraction of a split's rows that may be left out because they are broken.
        scale: how images that are not 8-bit become 8-bit (:class:`rsretrieval.images.Scale`): dtype, minmax, minmax LOW
            HIGH or percentile LOW HIGH; null refuses them.
        bands: which of many bands become red, green and blue, such as ``4 3 2``; null for the first three.
        revision: hub: commit, tag or branch to read; null for the newest.
        configuration: hub: which of a data set's configurations to read; null for the only one.

    Raises:
        MissingSplitError: if the source does not have a split that was asked for.
        DataError: if the folder was prepared with other settings or the source has changed since, or too many rows are
            broken.
        ValueError: naming a number that is out of its bounds.
    """
    import datasets

    from rsretrieval.data.datasets.exclusion import exclude as exclude_images
    from rsretrieval.data.datasets.holdout import hold_out
    from rsretrieval.data.reader import ImageReader
    from rsretrieval.data.shards import ShardWriter
    from rsretrieval.data.table import build_table
    from rsretrieval.images import Rendering

    _check_bounds(max_broken, holdout, quality, size=size, shard_rows=shard_rows, max_words=max_words)
    rendering = Rendering.parse(scale, bands)
    source_name, path = _source_and_path(name, path, to)
    source = build_source(source_name, path, columns, revision, configuration)
    source = hold_out(exclude_images(source, exclude), holdout)
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
        source.fetch(split)
        readers.append(ImageReader(source, split, table, rendering=rendering))
    folder = Path(to).expanduser()
    settings = {
        "source": [source_name, path, source.revision, asdict(columns)],
        "images": [size, quality, *([] if scale is bands is None else [scale, bands])],
        "captions": [max_words, scene_file and sha256(Path(scene_file).expanduser())],
        "rows": [shard_rows, holdout],
    }
    manifest = _manifest(folder, settings | _newer_settings(configuration, exclude), source.fingerprint())
    writer = ShardWriter(folder, manifest, size, quality, shard_rows, max_broken)
    for reader in readers:
        writer.write_split(reader)
    log.info("ready: --data.source parquet --data.path %s", folder)


def _check_bounds(max_broken: float, holdout: float, quality: int, **counts: int | None) -> None:
    from rsretrieval.data.checks import check_fractions, check_least

    check_fractions(max_broken=max_broken, holdout=holdout)
    check_least(1, quality=quality, **counts)
    if quality > 100:
        raise DataError(f"--quality {quality} is too large: give a whole number, 100 or less")


def _newer_settings(configuration: str | None, exclude: str | None) -> dict[str, str]:
    """Settings that older versions did not have, where they are set, so that their folders are continued."""
    excluded = None if exclude is None else sha256(Path(exclude).expanduser())
    newer = {"configuration": configuration, "exclude": excluded}
    return {name: value for name, value in newer.items() if value is not None}


def _source_and_path(name: str, path: str, to: str) -> tuple[str, str]:
    """The source and its path, where ``name`` may be a hub id.

    Raises:
        DataError: if the name is a path of this machine.
    """
    if name.partition(":")[0] in SOURCES:
        source, below = source_and_path(name)
        return source, path or below
    if "/" not in name and "\\" not in name:
        return name, path
    if name.startswith((".", "/", "~")) or "\\" in name or Path(name).exists():
        raise DataError(
            f"'{name}' is a path: write `rsretrieval data prepare folder --path {name} --to {to}` for images with a "
            "JSON or CSV of captions, `prepare parquet --path …` for tables, or `prepare hub --path OWNER/NAME`"
        )
    return "hub", name


def _manifest(folder: Path, settings: dict[str, Any], fingerprint: str | None) -> dict[str, Any]:
    """What a folder holds already; removes what a killed run left unfinished.

    Raises:
        DataError: if it was prepared with other settings, or of files that have changed since.
    """
    from rsretrieval.data.shards import MANIFEST

    for unfinished in folder.glob("*.partial"):
        unfinished.unlink()
    file = folder / MANIFEST
    if not file.is_file():
        return {"settings": settings, "source_files": fingerprint, "files": {}}
    try:
        manifest: dict[str, Any] = json.loads(file.read_text())
        manifest["settings"]["source"][2], manifest["files"]
    except (ValueError, LookupError, TypeError) as error:
        raise DataError(f"'{file}' is damaged ({error}): prepare into another folder, or remove this one") from error
    before, now = manifest["settings"], settings
    if before["source"][2] is None:  # older versions did not write it for archives, nor for held-out splits
        name, path, _, columns = settings["source"]
        now = {**settings, "source": [name, path, None, columns]}
    if before != now:
        raise DataError(
            f"'{folder}' was prepared with {before}, not with {settings}: give the same settings to go on with it, or "
            "another folder"
        )
    prepared_of = manifest.setdefault("source_files", fingerprint)  # older versions did not write it
    if prepared_of is not None and fingerprint is not None and prepared_of != fingerprint:
        raise DataError(
            f"the files of '{settings['source'][1]}' have changed since '{folder}' was prepared of them ({prepared_of} "
            f"then, {fingerprint} now), so its shards are of other rows: remove it to prepare all again, or give "
            "another folder"
        )
    return manifest
