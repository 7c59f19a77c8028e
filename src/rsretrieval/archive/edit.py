"""Archives changed without a model: rows removed, and one archive put into another."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rsretrieval.archive.item import ITEM, write_item
from rsretrieval.archive.lock import alone
from rsretrieval.archive.rewrite import rewrite
from rsretrieval.archive.state import SOURCES
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.embeddings.rows import keys
from rsretrieval.files import write_whole

log = logging.getLogger(__name__)
Rename = Callable[[str], str]


def remove_rows(folder: Path, ids: Iterable[str]) -> int:
    """Take rows out of an archive; its indexes follow when they are built again.

    Args:
        folder: of the archive.
        ids: of the rows.

    Returns:
        How many there were.

    Raises:
        ArchiveError: for ids that no row has, for no id, or if no row would be left.
        OSError: naming the file, where the disk is full.
    """
    archive = EmbeddingsFile(folder)
    with alone(folder):
        return _remove(archive, pa.array(sorted(set(ids)), pa.string()))


def _remove(archive: EmbeddingsFile, wanted: pa.Array) -> int:
    folder = archive.file.parent
    known = archive.information(["id"]).column("id")
    unknown = wanted.filter(pc.invert(pc.is_in(wanted, value_set=known)))
    if len(unknown):
        raise ArchiveError(f"'{folder}' has no row of the ids {_some(unknown.to_pylist())}: nothing was removed")
    if not len(wanted):
        raise ArchiveError("no id of a row to remove was given")
    if len(wanted) == len(archive):
        raise ArchiveError(f"these are all {len(wanted):,} rows of '{folder}': delete the folder instead")
    parts = (part.filter(pc.invert(pc.is_in(part.column("id"), value_set=wanted))) for part in archive.tables())
    _rewrite(archive, parts)
    return len(wanted)


def merge(folder: Path, other: Path) -> int:
    """Put the rows of another archive into one; the other stays as it is.

    Its sources become relative to the root of the first, and ids with them.

    Args:
        folder: of the archive that takes them.
        other: folder of the archive that gives them.

    Returns:
        How many rows were new.

    Raises:
        ArchiveError: for embeddings of another model or form, sources that cannot be told from the first archive's
            root, or other embeddings under the same id.
        OSError: naming the file, where the disk is full.
    """
    ours, theirs = EmbeddingsFile(folder), EmbeddingsFile(other)
    with alone(folder):
        return _merge(ours, theirs)


def _merge(ours: EmbeddingsFile, theirs: EmbeddingsFile) -> int:
    folder, other = ours.file.parent, theirs.file.parent
    if ours.file.resolve() == theirs.file.resolve():
        raise ArchiveError(f"'{folder}' and '{other}' are one archive: there is nothing to merge")
    _check_same(ours, theirs)
    rename = _rename(ours, theirs)
    new = _new(ours, theirs, rename)
    if new.any():
        _rewrite(ours, _both(ours, theirs, rename, new))
    _merge_sources(folder, other, rename)
    return int(new.sum())


def _check_same(ours: EmbeddingsFile, theirs: EmbeddingsFile) -> None:
    for what, key in (("model", "digest"), ("width", "dimensions"), ("type of numbers", "data_type")):
        values = [(about["model"] if key == "digest" else about).get(key) for about in (ours.about, theirs.about)]
        if values[0] != values[1]:
            raise ArchiveError(
                f"'{ours.file}' and '{theirs.file}' are of another {what} ({values[0]}, {values[1]}): only archives by "
                "one model and of one form can be merged; embed the images of one anew"
            )
    of_each = {"written", "root", "model", *(key for key in ours.about if ours.about[key] == theirs.about.get(key))}
    if differing := sorted((ours.about.keys() | theirs.about.keys()) - of_each):
        log.warning("the archives differ in %s: the merged one says what the first says", ", ".join(differing))


def _rename(ours: EmbeddingsFile, theirs: EmbeddingsFile) -> Rename:
    """From a source of the other archive to what it is called from the root of the first."""
    bases = [archive.about.get("root") for archive in (ours, theirs)]
    if bases == [None, None]:
        return lambda source: source
    if None in bases:
        raise ArchiveError(
            f"one of '{ours.file}' and '{theirs.file}' does not say which folder its sources are relative to: embed "
            "its images anew"
        )
    root, from_root = (Path(os.path.abspath(of.file.parent / of.about["root"])) for of in (ours, theirs))
    if not from_root.is_dir():
        raise ArchiveError(
            f"the sources of '{theirs.file}' are relative to '{from_root}', which is not there, so that they cannot be "
            "told from another folder: put the images back, or the archive to where they are"
        )

    def rename(source: str) -> str:
        file, mark, row = source.partition("::")
        if root == from_root or "://" in file:
            return source
        try:
            return Path(os.path.relpath(from_root / file, root)).as_posix() + mark + row
        except ValueError as error:  # another drive of Windows
            raise ArchiveError(f"'{from_root / file}' cannot be told from the folder '{root}': {error}") from error

    return rename


def _renamed(part: pa.Table, rename: Rename) -> pa.Table:
    """Rows under their new sources; an id begins with its source."""
    pairs = list(zip(part.column("id").to_pylist(), part.column("source").to_pylist(), strict=True))
    names = {source: rename(source) for source in {source for _, source in pairs}}
    ids = [names[source] + id_.removeprefix(source) if id_.startswith(source) else id_ for id_, source in pairs]
    part = part.set_column(part.column_names.index("id"), "id", pa.array(ids, pa.string()))
    place = part.column_names.index("source")
    return part.set_column(place, "source", pa.array([names[source] for _, source in pairs], pa.string()))


def _new(ours: EmbeddingsFile, theirs: EmbeddingsFile, rename: Rename) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """``(n,)`` which rows of the other archive the first lacks."""
    known = ours.information(["id"]).column("id").combine_chunks()
    embeddings = np.concatenate([_by_embedding(part) for part in ours.tables(["embedding"])])
    new, differing = [], []
    for part in theirs.tables(["id", "source", "embedding"]):
        ids = _renamed(part, rename).column("id")
        places = pc.fill_null(pc.index_in(ids, value_set=known), -1).to_numpy()
        other = (places >= 0) & (embeddings[places] != _by_embedding(part))
        differing += ids.filter(pa.array(other)).to_pylist()
        new.append(places < 0)
    if differing:
        raise ArchiveError(
            f"'{ours.file}' and '{theirs.file}' have other embeddings of the ids {_some(differing)}: remove them from "
            "one first (`rsretrieval index DIR --remove ID`)"
        )
    return np.concatenate(new) if new else np.zeros(0, np.bool_)


def _by_embedding(part: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    return keys(pa.array([""] * len(part), pa.string()), part.column("embedding"))


def _both(
    ours: EmbeddingsFile, theirs: EmbeddingsFile, rename: Rename, new: np.ndarray[Any, np.dtype[np.bool_]]
) -> Iterator[pa.Table]:
    yield from ours.tables()
    start = 0
    for part in theirs.tables():
        yield _renamed(part.filter(pa.array(new[start : start + len(part)])), rename)
        start += len(part)


def _rewrite(archive: EmbeddingsFile, parts: Iterable[pa.Table]) -> None:
    folder = archive.file.parent
    about = rewrite(folder, archive.about, parts)
    if (folder / ITEM).is_file():
        write_item(folder, about)


def _merge_sources(folder: Path, other: Path, rename: Rename) -> None:
    """Let `embed` know which files of the other archive it need not read."""
    files = [archive / SOURCES for archive in (folder, other)]
    lacking = [str(file) for file in files if not file.is_file()]
    if lacking:
        if len(lacking) == 1:
            log.warning("there is no %s: `rsretrieval embed` may read files of that archive again", lacking[0])
        return
    ours, theirs = (pq.read_table(file) for file in files)
    rows = [_renamed_input(row, rename) for row in theirs.to_pylist()]
    known = set(ours.column("source").to_pylist())
    added = pa.Table.from_pylist([row for row in rows if row["source"] not in known], ours.schema)
    write_whole(folder / SOURCES, lambda partial: pq.write_table(pa.concat_tables([ours, added]), partial))


def _renamed_input(row: dict[str, Any], rename: Rename) -> dict[str, Any]:
    source, new = row["source"], rename(row["source"])
    skipped = json.loads(row.get("skipped") or "[]")
    pieces = [[new + id_.removeprefix(source) if id_.startswith(source) else id_, why] for id_, why in skipped]
    return {**row, "source": new, "skipped": json.dumps(pieces)}


def _some(ids: list[str]) -> str:
    return ", ".join(map(repr, ids[:3])) + (f" and {len(ids) - 3:,} more" if len(ids) > 3 else "")
