"""What an archive holds already, and what has to be embedded: the memory of ``rsretrieval embed`` between calls."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rsretrieval.archive.changes import content_digest, size_and_time
from rsretrieval.archive.inputs import Input
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile, read_shard, shard_files
from rsretrieval.embeddings.file import NAME

log = logging.getLogger(__name__)
SHARDS, SOURCES = "shards", "sources.parquet"
NOTE_MODEL, NOTE_INPUTS = b"model", b"inputs"
Skipped = list[list[str]]
"""Id and reason of each piece that could not be read."""


@dataclass
class InputState:
    """How far an input is.

    Attributes:
        source: its name.
        size: bytes.
        mtime_ns: time of its last change, in nanoseconds; see :func:`size_and_time`.
        digest: of the content of a small file, once it was read; else empty.
        options: how its images became rows, as JSON.
        part: which of ``parts`` processes embedded what is told here.
        parts: processes among which its pieces were shared out.
        finished: whether that process has done all of its pieces.
        empty: tiles of nothing but no data.
        skipped: pieces that could not be read.
    """

    source: str
    size: int
    mtime_ns: int
    options: str
    digest: str = ""
    part: int = 0
    parts: int = 1
    finished: bool = False
    empty: int = 0
    skipped: Skipped = field(default_factory=list)

    @property
    def version(self) -> tuple[int, int, str]:
        """What the rows are of: another file or other options give another."""
        return self.size, self.mtime_ns, self.options


def input_of(source: str, inputs: dict[str, Any]) -> str:
    """The input that a row's source is of: itself, or the file before ``::``."""
    return source if source in inputs else source.partition("::")[0]


class State:
    """What is there of an archive, as it was when this was made.

    Args:
        folder: of the archive.
        model: name, digest and data type of what is to be embedded now.

    Attributes:
        old: the archive's file; None before the first is written.
        sources: by name, what that file has of each input.
        shards: files of rows that are not sorted in yet.

    Raises:
        ArchiveError: if it is another model's, or a file of it is damaged.
    """

    def __init__(self, folder: Path, model: dict[str, Any]) -> None:
        self.folder = folder
        self.old = EmbeddingsFile(folder) if (folder / NAME).exists() else None
        if self.old is not None:
            _check(folder, self.old.about, model)
        self.sources = self._read_sources()
        self.shards = shard_files(folder / SHARDS)
        self._begun: dict[str, list[InputState]] = {}
        for shard in self.shards:
            notes = read_shard(shard).schema.metadata
            _check(folder, json.loads(notes[NOTE_MODEL]), model)
            for note in json.loads(notes[NOTE_INPUTS]):
                state = InputState(**note)
                self._begun.setdefault(state.source, []).append(state)

    def _read_sources(self) -> dict[str, InputState]:
        file = self.folder / SOURCES
        if not file.exists():
            return {}
        try:
            rows = pq.read_table(file).to_pylist()
            return {row["source"]: InputState(**{**row, "skipped": json.loads(row["skipped"])}) for row in rows}
        except (pa.ArrowException, OSError, TypeError, ValueError) as error:
            raise ArchiveError(
                f"'{file}' cannot be read ({error}): delete it, and `rsretrieval embed` reads all files again"
            ) from error

    def is_done(self, now: InputState) -> bool:
        """Whether every piece of an input is embedded as it is now; what could not be read is tried again."""
        known = self.sources.get(now.source)
        if self.old is not None and known is not None and known.version == now.version:
            return not known.skipped
        of_parts: dict[int, set[int]] = {}
        for state in self._of_now(now):
            if state.finished and not state.skipped:
                of_parts.setdefault(state.parts, set()).add(state.part)
        return any(len(done) == parts for parts, done in of_parts.items())

    def _of_now(self, now: InputState) -> list[InputState]:
        return [state for state in self._begun.get(now.source, []) if state.version == now.version]

    def now(self, item: Input, options: str) -> InputState:
        """An input as it is now; of a file that has another time and the same content the time that is known.

        Raises:
            OSError: if it is gone.
        """
        size, mtime_ns = size_and_time(item)
        state = InputState(item.name, size, mtime_ns, options)
        known = [self.sources.get(item.name), *self._begun.get(item.name, [])]
        alike = [other for other in known if other and (other.size, other.options) == (size, options)]
        if alike and mtime_ns not in {other.mtime_ns for other in alike}:
            digest = content_digest(item, size)
            state.mtime_ns = next((o.mtime_ns for o in alike if digest and o.digest == digest), mtime_ns)
        return state

    def has_changed(self, now: InputState) -> bool:
        """Whether rows of an input are of another version of it."""
        known = self.sources.get(now.source)
        return known is not None and known.version != now.version

    def ids_of(self, unfinished: dict[str, InputState]) -> set[str]:
        """Ids of the rows that are there of some inputs, as these are now."""
        ids: set[str] = set()
        same = {name for name, now in unfinished.items() if not self.has_changed(now) and name in self.sources}
        if self.old is not None and same:
            for part in self.old.tables(["id", "source"]):
                ids |= _ids(part, self.sources, same)
        for shard in self.shards:
            part, notes = self.rows_of(shard)
            same = {name for name, state in notes.items() if name in unfinished}
            same = {name for name in same if notes[name].version == unfinished[name].version}
            if same:
                ids |= _ids(part, notes, same)
        return ids

    @staticmethod
    def rows_of(shard: Path) -> tuple[pa.Table, dict[str, InputState]]:
        """Rows of a shard, and the inputs that they are of."""
        rows = read_shard(shard)
        notes = [InputState(**note) for note in json.loads(rows.schema.metadata[NOTE_INPUTS])]
        return rows, {note.source: note for note in notes}

    def result(self, now: dict[str, InputState]) -> dict[str, InputState]:
        """What sources.parquet says once all shards are sorted in."""
        result = dict(self.sources) if self.old is not None else {}
        for name, state in now.items():
            finished = [s for s in self._of_now(state) if s.finished]
            parts = finished[-1].parts if finished else 0
            newest = {s.part: s for s in finished if s.parts == parts}
            if newest:
                state.digest = next((s.digest for s in newest.values() if s.digest), "")
                state.empty = sum(s.empty for s in newest.values())
                state.skipped = [piece for s in newest.values() for piece in s.skipped]
                result[name] = state
        return result


def _ids(rows: pa.Table, known: dict[str, Any], wanted: set[str]) -> set[str]:
    pairs = zip(rows.column("id").to_pylist(), rows.column("source").to_pylist(), strict=True)
    return {id_ for id_, source in pairs if input_of(source, known) in wanted}


def _check(folder: Path, about: dict[str, Any], model: dict[str, Any]) -> None:
    """Refuse rows of another model or type.

    Raises:
        ArchiveError: saying what differs.
    """
    there, wanted = about.get("model", {}), model["model"]
    if there.get("digest") != wanted["digest"]:
        raise ArchiveError(
            f"'{folder}' is an archive of the model '{there.get('name')}' (digest {str(there.get('digest'))[:12]}…), "
            f"and '{wanted['name']}' is another (digest {wanted['digest'][:12]}…): give that one, or another --to"
        )
    if about.get("data_type") != model["data_type"]:
        raise ArchiveError(
            f"'{folder}' stores embeddings as {about.get('data_type')}, not as {model['data_type']}: give --dtype "
            f"{about.get('data_type')}, or another folder --to"
        )


def notes(model: dict[str, Any], inputs: list[InputState]) -> dict[bytes, bytes]:
    """What a shard says of its rows."""
    return {NOTE_MODEL: json.dumps(model).encode(), NOTE_INPUTS: json.dumps([asdict(of) for of in inputs]).encode()}


def sources_table(states: Iterable[InputState]) -> pa.Table:
    """As sources.parquet has it."""
    rows: list[dict[str, Any]] = [{**asdict(state), "skipped": json.dumps(state.skipped)} for state in states]
    form = [("source", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("options", pa.string())]
    form += [("digest", pa.string()), ("part", pa.int32()), ("parts", pa.int32()), ("finished", pa.bool_())]
    return pa.Table.from_pylist(rows, pa.schema([*form, ("empty", pa.int64()), ("skipped", pa.string())]))


def not_in(rows: pa.Table, ids: set[str], inputs: set[str], known: dict[str, Any]) -> pa.Table:
    """Rows but those of some ids, and those of some inputs."""
    pairs: Iterator[tuple[str, str]] = zip(rows["id"].to_pylist(), rows["source"].to_pylist(), strict=True)
    kept = [id_ not in ids and input_of(source, known) not in inputs for id_, source in pairs]
    return rows if all(kept) else rows.filter(pa.array(kept, pa.bool_()))


def vanished(sources: Sequence[str], root: Path) -> list[str]:
    """Inputs of an archive that are no longer at their place."""
    return [name for name in sources if "://" not in name and not (root / name).exists()]
