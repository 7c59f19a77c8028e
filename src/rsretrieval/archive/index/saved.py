"""Indexes of an archive on disk, and how one is opened.

``DIR/index/KIND/report.json`` names the folder beside it that holds the index; ``DIR/index/kind.txt`` the kind that was
built last.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.archive.index import faiss_kinds, lance  # noqa: F401 - they register their kinds
from rsretrieval.archive.index.base import INDEX_KINDS, Keys, VectorIndex
from rsretrieval.archive.index.lookup import Lookup
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.files import write_text

FOLDER, REPORT, LAST, ROWS, MOMENTS = "index", "report.json", "kind.txt", "rows.npy", "moments.npz"


@dataclass(frozen=True)
class IndexReport:
    """What an index was built from, and what came of it.

    Attributes:
        kind: its name.
        options: all of them.
        written: of the embeddings that it was built from.
        model: ``name`` and ``digest`` of what made them.
        rows: that it has.
        added: of these, by the last call.
        removed: by the last call.
        anew: why the last call built it anew; empty if it changed what was there, or nothing was.
        recall_at_10: see :func:`rsretrieval.archive.index.measure.recall`.
        sample: rows that were asked for as queries of that.
        seed: of their choice.
        seconds: that the last call took, without measuring the recall.
        bytes: on disk; of a table on object storage only what lies beside the archive.
        folder: of the index, beside the report.
        files: their sizes in bytes by name.
    """

    kind: str
    options: dict[str, Any]
    written: str
    model: dict[str, Any]
    rows: int
    added: int
    removed: int
    anew: str
    recall_at_10: float
    sample: int
    seed: int
    seconds: float
    bytes: int
    folder: str
    files: dict[str, int]


@dataclass(frozen=True)
class Index:
    """An archive's index, ready to be searched.

    Attributes:
        kind: its name.
        index: answers queries by keys.
        keys: ``(N,)`` of the rows of ``embeddings.parquet``, in order.
        mean: ``(d,)`` of all embeddings; a query's mean cosine over the archive is ``q·mean``.
        covariance: ``(d, d)``; the variance of its cosines is ``qᵀ·covariance·q``.
        report: how it was built.
        embeddings: of the archive.
    """

    kind: str
    index: VectorIndex
    keys: Keys
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    report: IndexReport
    embeddings: EmbeddingsFile

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.keys)

    def rows_of(self, keys: Keys) -> NDArray[np.int64]:
        """Numbers of the rows with keys of any shape, -1 for unknown ones."""
        return self._lookup(keys)


def open_index(folder: Path, kind: str | None = None) -> Index:
    """The index of an archive.

    Args:
        folder: of the archive.
        kind: of index; None for the one that was built last.

    Raises:
        ArchiveError: if there is none, it is damaged, or the archive has changed since.
        UnknownNameError: for a kind that there is not.
    """
    embeddings = EmbeddingsFile(folder)
    last = folder / FOLDER / LAST
    kind = kind or (last.read_text(encoding="utf-8").strip() if last.is_file() else "flat")
    command = f"run `rsretrieval index {folder} --kind {kind}`"
    form, place = INDEX_KINDS[kind], folder / FOLDER / kind
    report = read_report(place)
    if report is None:
        raise ArchiveError(f"'{folder}' has no index of kind {kind}: {command}")
    if report.written != embeddings.about.get("written"):
        raise ArchiveError(f"the archive '{folder}' has changed since its {kind} index was built: {command}")
    try:
        check_files(place, report)
        files = place / report.folder
        with np.load(files / MOMENTS) as moments:
            mean, covariance = moments["mean"], moments["covariance"]
        keys = np.load(files / ROWS)
        index = form.open(files, report.options)
    except (ArchiveError, OSError, ValueError, KeyError) as error:
        raise ArchiveError(f"the {kind} index of '{folder}' is damaged: {error}: {command} --rebuild true") from error
    return Index(kind, index, keys, mean, covariance, report, embeddings)


def read_report(place: Path) -> IndexReport | None:
    """Of the index of a kind; None if there is none.

    Raises:
        ArchiveError: if it cannot be read.
    """
    file = place / REPORT
    if not file.is_file():
        return None
    try:
        return IndexReport(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ArchiveError(f"'{file}' cannot be read ({error}): build the index anew by --rebuild true") from error


def write_report(place: Path, report: IndexReport) -> None:
    """From now on this is the archive's index of that kind, and the one that was built last."""
    write_text(place / REPORT, json.dumps(asdict(report), indent=2) + "\n")
    write_text(place.parent / LAST, report.kind + "\n")


def sizes(folder: Path) -> dict[str, int]:
    """Bytes of a folder's files, by path from it."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.stat().st_size for file in files}


def check_files(place: Path, report: IndexReport) -> None:
    """Look whether the files are as long as they were written.

    Raises:
        ArchiveError: naming one that is not.
    """
    there = sizes(place / report.folder)
    for name, size in report.files.items():
        if there.get(name) != size:
            state = f"has {there[name]:,} bytes and not {size:,}" if name in there else "is gone"
            raise ArchiveError(f"'{place / report.folder / name}' {state}")
