"""The loop of ``rsretrieval embed``: pieces are read ahead, encoded in batches, and written as shards."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from rsretrieval.archive.changes import content_digest
from rsretrieval.archive.inputs import Input
from rsretrieval.archive.loading import ahead
from rsretrieval.archive.pieces import UNREADABLE, Loaded, Piece, Reader, reason_of
from rsretrieval.archive.processes import Processes
from rsretrieval.archive.state import SHARDS, InputState, notes
from rsretrieval.embeddings import ShardWriter, table
from rsretrieval.embeddings.rows import schema
from rsretrieval.retriever import Retriever

log = logging.getLogger(__name__)


class Encoder:
    """Embeds the pieces of one process.

    Args:
        retriever: of the model.
        reader: of inputs.
        processes: that share the pieces.
        about: what shards say of the model.
        folder: of the archive.
        batch_size: pictures that are encoded at once.
        workers: threads that read ahead.
    """

    def __init__(
        self,
        retriever: Retriever,
        reader: Reader,
        processes: Processes,
        about: dict[str, Any],
        folder: Path,
        batch_size: int,
        workers: int,
    ) -> None:
        self.retriever, self.reader, self.processes = retriever, reader, processes
        self.about, self.batch_size, self.workers = about, batch_size, workers
        retriever.model.to(processes.device)
        self._batch: list[Loaded] = []
        self._states: dict[str, InputState] = {}  # of which pieces were read since the last shard
        self._ended: list[InputState] = []  # whose last rows may be in the batch still
        self._writer = ShardWriter(folder / SHARDS, processes.rank, notes=self._notes)
        self._said = 0

    def run(self, to_do: Sequence[tuple[Input, InputState]], ids: set[str], *, progress: bool) -> int:
        """Embed what is not there yet; the number of rows."""
        count = 0
        shown = progress and self.processes.rank == 0
        with tqdm(total=len(to_do), unit=" pictures", disable=not shown, smoothing=0.02) as bar:
            work = self._pieces(to_do, ids, bar)
            depth = 2 * self.batch_size + self.workers
            for (piece, state), future in ahead(self._load, work, self.workers, depth):
                self._states[state.source] = state
                if piece is None:
                    self._ended.append(state)
                    continue
                count += self._take(piece, state, future.result())
                bar.update()
            self._encode()
            self._flush(to_do)
        return count

    def _flush(self, to_do: Sequence[tuple[Input, InputState]]) -> None:
        """Write the last shard, without rows if there is only something to note."""
        if to_do:
            self._writer.flush(schema(self.about["dimensions"], self.about["data_type"]).empty_table())

    def _load(self, work: tuple[Piece | None, InputState]) -> Loaded | Exception | None:
        piece, state = work
        if piece is None:
            return None
        try:
            loaded = self.reader.load(piece)
            state.digest = state.digest or content_digest(piece.input, state.size)
            return loaded
        except UNREADABLE as error:
            return error

    def _take(self, piece: Piece, state: InputState, loaded: Loaded | Exception | None) -> int:
        """Note what was read of a piece; the number of rows that it gives."""
        if isinstance(loaded, Exception):
            self._skip(piece.id, state, reason_of(loaded))
        elif loaded is None:
            state.empty += 1
        else:
            self._batch.append(loaded)
            if len(self._batch) == self.batch_size:
                self._encode()
            return 1
        return 0

    def _skip(self, name: str, state: InputState, reason: str) -> None:
        reason = reason.removeprefix(f"{state.source}: ")
        state.skipped.append([name, reason])
        if self._said < 3:
            log.warning("%s cannot be read and is left out: %s", name, reason)
        self._said += 1

    def _encode(self) -> None:
        if self._batch:
            with self.processes.autocast():
                vectors = self.retriever.encode_squares([loaded.square for loaded in self._batch])
            rows = [loaded.row for loaded in self._batch]
            self._writer.add(table(rows, vectors.float().numpy(), self.about["data_type"]))
            self._batch = []
        for state in self._ended:
            state.finished = True
        self._ended = []

    def _notes(self) -> dict[bytes, bytes]:
        """What the next shard says: of which inputs its rows are, and which of them are done."""
        states = list(self._states.values())
        self._states = {state.source: state for state in states if not state.finished}
        return notes(self.about, states)

    def _pieces(
        self,
        to_do: Sequence[tuple[Input, InputState]],
        ids: set[str],
        bar: Any,  # noqa: ANN401 - tqdm
    ) -> Iterator[tuple[Piece | None, InputState]]:
        """This process's pieces that are not there yet, and after the last of each input None."""
        number = 0
        for item, state in to_do:
            state.part, state.parts = self.processes.rank, self.processes.count
            found = 0
            try:
                for piece in self.reader.pieces(item):
                    number += 1
                    is_ours = number % self.processes.count == self.processes.rank
                    if is_ours and piece.id not in ids:
                        found += 1
                        yield piece, state
            except UNREADABLE as error:
                if self.processes.rank == 0:
                    self._skip(item.name, state, reason_of(error))
            bar.total += found - 1
            bar.refresh()
            yield None, state
