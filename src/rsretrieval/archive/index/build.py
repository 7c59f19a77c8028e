"""An index of an archive's embeddings: built anew, or what changed put into the one that is there."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rsretrieval.archive.index.base import INDEX_KINDS, Keys, Options, VectorIndex, Vectors
from rsretrieval.archive.index.lookup import Lookup
from rsretrieval.archive.index.measure import Moments, recall, sample_rows
from rsretrieval.archive.index.place import latest, written_whole
from rsretrieval.archive.index.saved import (
    FOLDER,
    MOMENTS,
    ROWS,
    IndexReport,
    check_files,
    sizes,
    write_report,
)
from rsretrieval.archive.lock import alone
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.embeddings.rows import keys as keys_of
from rsretrieval.embeddings.rows import vectors_of

log = logging.getLogger(__name__)


class Filling(NamedTuple):
    """What came of going through all rows.

    Attributes:
        keys: ``(N,)`` of the rows, in order.
        queries: ``(Q, d)`` the vectors of a sample of them.
        moments: of all.
        added: rows that the index did not have, or with other information.
        removed: rows that it had, and that are gone or have other information.
    """

    keys: Keys
    queries: Vectors
    moments: Moments
    added: int
    removed: int


def build_index(
    archive: Path | str,
    kind: str = "flat",
    *,
    sample: int = 1000,
    seed: int = 0,
    rebuild: bool = False,
    **options: int | str,
) -> IndexReport:
    """Make the index of an archive, or put into it what changed since.

    An earlier index stays as it is until the new one is whole.

    Args:
        archive: its folder.
        kind: a name of ``INDEX_KINDS``.
        sample: rows by which recall@10 is measured.
        seed: of their choice.
        rebuild: build it anew, whatever there is.
        **options: of the kind; what is not given stays as it was, or is the default.

    Raises:
        ArchiveError: for an archive without rows or a damaged one, an option that is none, or while another process
            writes to it.
        ImportError: if the kind's package is not installed.
        OSError: naming the folder, if the disk is full.
        UnknownNameError: for a kind that there is not.
    """
    folder = Path(archive).expanduser()
    form, place, embeddings = INDEX_KINDS[kind], folder / FOLDER / kind, EmbeddingsFile(folder)
    if not len(embeddings):
        raise ArchiveError(f"'{embeddings.file}' has no rows: there is nothing to index")
    if sample < 1:
        raise ArchiveError(f"sample={sample}: give the number of rows to measure the recall by, 1 or more")
    known = _checked(form, kind, options)
    with alone(folder), written_whole(place) as fresh:
        before = latest(place)
        settings = {**form.options, **(before.options if before and not rebuild else {}), **known}
        index, anew = _earlier(form, place, before, settings, embeddings, rebuild=rebuild)
        if before and index is not None and _is_current(before, settings, embeddings, sample, seed):
            report = replace(before, added=0, removed=0, anew="", seconds=0.0)
            write_report(place, report)
            return report
        if anew:
            log.warning("the %s index is built anew: %s", kind, anew)
        begun, chosen = time.monotonic(), sample_rows(len(embeddings), sample, seed)
        index, filling, worn = _filled(form, place, index, settings, embeddings, chosen)
        _save(index, filling, fresh)
        seconds = time.monotonic() - begun
        del index  # what is measured is what will be read
        saved = form.open(fresh, settings)
        found = recall(saved, filling.queries, embeddings.vectors())
        about, files = embeddings.about, sizes(fresh)
        report = IndexReport(
            kind, settings, about.get("written", ""), about.get("model", {}), len(filling.keys), filling.added,
            filling.removed, worn or anew, found, sample, seed, seconds, sum(files.values()), fresh.name, files,
        )  # fmt: skip
        write_report(place, report)
        saved.tidy()
        if elsewhere := saved.bytes_elsewhere():
            report = replace(report, bytes=report.bytes + elsewhere)
            write_report(place, report)
    return report


def _checked(form: type[VectorIndex], kind: str, options: Options) -> Options:
    for name, value in options.items():
        if name not in form.options:
            names = ", ".join(form.options) or "none at all"
            raise ArchiveError(f"an index of kind {kind} has no option '{name}'; it has {names}")
        wanted = type(form.options[name])
        if type(value) is not wanted or (wanted is int and value < min(form.options[name], 1)):
            what = "a number of 1 or more" if wanted is int else "a text"
            raise ArchiveError(f"the option {name} is {value!r}: give {what}")
    return options


def _earlier(
    form: type[VectorIndex],
    place: Path,
    before: IndexReport | None,
    settings: Options,
    embeddings: EmbeddingsFile,
    *,
    rebuild: bool,
) -> tuple[VectorIndex | None, str]:
    """The index that is there, to be changed; None and why, if it cannot be or there is none."""
    if before is None or rebuild:
        return None, "as asked" if before else ""
    if before.model.get("digest") != embeddings.about.get("model", {}).get("digest"):
        return None, f"it was of another model, {before.model.get('name')}"
    changed = [name for name in form.options if settings[name] != before.options.get(name)]
    if other := [name for name in changed if name not in form.options_of_search]:
        return None, f"it had another {', '.join(other)}"
    try:
        check_files(place, before)
        return form.open(place / before.folder, settings, to_change=True), ""
    except ArchiveError as error:
        return None, str(error)


def _is_current(before: IndexReport, settings: Options, embeddings: EmbeddingsFile, sample: int, seed: int) -> bool:
    now = (settings, embeddings.about.get("written", ""), sample, seed)
    return now == (before.options, before.written, before.sample, before.seed)


def _filled(
    form: type[VectorIndex], place: Path, index: VectorIndex | None, settings: Options, embeddings: EmbeddingsFile,
    chosen: Keys,
) -> tuple[VectorIndex, Filling, str]:  # fmt: skip
    """An index with all rows and no others, and why it was built anew while it was changed."""
    changed, worn = None, ""
    if index is not None:
        changed = _fill(index, embeddings, chosen)
        if not (worn := index.worn()):
            return index, changed, ""
        log.warning("the index is built anew: %s", worn)
    fresh = form.build(place, embeddings.width, settings)
    filling = _fill(fresh, embeddings, chosen)
    if changed is not None:
        filling = filling._replace(added=changed.added, removed=changed.removed)
    return fresh, filling, worn


def _fill(index: VectorIndex, embeddings: EmbeddingsFile, chosen: Keys) -> Filling:
    """Put in what is new and remove what is gone, in one way through the rows."""
    earlier = index.keys
    lookup, moments = Lookup(earlier), Moments(embeddings.width)
    names: list[Keys] = []
    queries: list[Vectors] = []
    start = added = again = 0
    for part in embeddings.tables():
        keys, vectors = keys_of(part.column("id"), part.column("embedding")), vectors_of(part.column("embedding"))
        information = part.drop_columns("embedding")
        moments.add(vectors)
        queries.append(vectors[chosen[(chosen >= start) & (chosen < start + len(keys))] - start])
        there = lookup(keys) >= 0
        outdated = there & index.outdated(keys, information) if there.any() else ~there & False
        if outdated.any():
            index.remove(keys[outdated])
        new = ~there | outdated
        if new.any():
            index.add(keys[new], vectors[new], information.filter(new))
        names.append(keys)
        start, added, again = start + len(keys), added + int(new.sum()), again + int(outdated.sum())
    keys = np.concatenate(names)
    if len(np.unique(keys)) < len(keys):
        raise ArchiveError(f"'{embeddings.file}' has rows of the same id and embedding: embed the images anew")
    gone = np.setdiff1d(earlier, keys)
    if len(gone):
        index.remove(gone)
    return Filling(keys, np.concatenate(queries), moments, added, again + len(gone))


def _save(index: VectorIndex, filling: Filling, fresh: Path) -> None:
    index.save(fresh)
    mean, covariance = filling.moments.result()
    np.save(fresh / ROWS, filling.keys)
    np.savez(fresh / MOMENTS, mean=mean, covariance=covariance)
