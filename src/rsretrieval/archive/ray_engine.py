"""Embedding by Ray Data, on the machines of a cluster: the same rows, written by the process that asks for them.

https://docs.ray.io/en/latest/data/batch_inference.html
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from rsretrieval.archive.encode import Encoder
from rsretrieval.archive.inputs import Input
from rsretrieval.archive.loading import ahead
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import UNREADABLE, Loaded, Piece, Reader, reason_of
from rsretrieval.archive.state import InputState
from rsretrieval.embeddings import table
from rsretrieval.embeddings.rows import DataType, schema
from rsretrieval.lazy import needs
from rsretrieval.retriever import Retriever

NUMBER, PROBLEM = "piece", "problem"


class Worker:
    """Loads and encodes pieces in a process of Ray's.

    Args:
        retriever: of the model.
        options: how images become rows.
        dtype: of the embeddings.
        device: where to compute.
        threads: that read.
    """

    def __init__(self, retriever: Retriever, options: Options, dtype: DataType, device: str, threads: int) -> None:
        retriever.model.to(device)
        self.retriever, self.dtype, self.threads = retriever, dtype, threads
        self.reader = Reader(retriever, options)

    def __call__(self, batch: dict[str, Any]) -> pa.Table:
        """Rows with the numbers of their pieces; of what gives no row the reason, empty for no data alone."""
        numbers, pieces = batch[NUMBER].tolist(), list(batch["content"])
        results = [future.result() for _, future in ahead(self._load, pieces, self.threads, len(pieces))]
        pairs = list(zip(numbers, results, strict=True))
        loaded = [(number, result) for number, result in pairs if not isinstance(result, str)]
        problems = [(number, result) for number, result in pairs if isinstance(result, str)]
        form = schema(self.retriever.model.embed_dim, self.dtype)
        rows = form.empty_table()
        if loaded:
            vectors = self.retriever.encode_squares([result.square for _, result in loaded]).numpy()
            rows = table([result.row for _, result in loaded], vectors, self.dtype)
        without = pa.table({field.name: pa.nulls(len(problems), field.type) for field in form}, form)
        told = pa.array([None] * len(loaded) + [problem for _, problem in problems], pa.string())
        order = pa.array([number for number, _ in [*loaded, *problems]], pa.int64())
        return pa.concat_tables([rows, without]).append_column(NUMBER, order).append_column(PROBLEM, told)

    def _load(self, piece: Piece) -> Loaded | str:
        try:
            return self.reader.load(piece) or ""
        except UNREADABLE as error:
            return reason_of(error)


class RayEncoder(Encoder):
    """As :class:`Encoder`, by workers of Ray: on the cluster that Ray is connected to, or else on this machine.

    Files are read where the workers run: they must be there under the same paths.

    Attributes:
        actors: how many workers; None for one a GPU or core of the cluster.
    """

    actors: int | None = None

    def run(self, to_do: Sequence[tuple[Input, InputState]], ids: set[str], *, progress: bool) -> int:
        """Embed what is not there yet; the number of rows."""
        pieces: list[tuple[Piece, InputState]] = []
        with tqdm(total=len(to_do), unit=" pictures", disable=not progress, smoothing=0.02) as bar:
            for piece, state in self._pieces(to_do, ids, bar):
                self._states[state.source] = state
                if piece is not None:
                    pieces.append((piece, state))
            count = 0
            for rows in self._results([piece for piece, _ in pieces]) if pieces else ():
                count += self._note(rows, pieces)
                bar.update(len(rows))
            for state in self._states.values():
                state.finished = True
            self._flush(to_do)
        return count

    def _results(self, pieces: Sequence[Piece]) -> Any:  # noqa: ANN401 - tables, as they come
        ray, data = needs("ray", "ray"), needs("ray.data", "ray")
        device = self.processes.device.type
        count = self.actors or max(1, int(ray.cluster_resources().get("GPU" if device == "cuda" else "CPU", 1)))
        threads = max(1, (os.cpu_count() or 1) // count)
        retriever = self.retriever
        retriever.model.cpu()
        content = np.empty(len(pieces), dtype=object)
        content[:] = pieces
        rows = [{NUMBER: number, "content": piece} for number, piece in enumerate(content)]
        blocks = max(1, min(len(pieces) // self.batch_size, 20 * count))
        results = data.from_items(rows, override_num_blocks=blocks).map_batches(
            Worker,
            fn_constructor_args=(retriever, self.reader.options, self.about["data_type"], device, threads),
            batch_size=self.batch_size,
            compute=data.ActorPoolStrategy(size=count),
            num_gpus=1 if device == "cuda" else None,
        )
        return results.iter_batches(batch_size=None, batch_format="pyarrow")

    def _note(self, rows: pa.Table, pieces: Sequence[tuple[Piece, InputState]]) -> int:
        """Write what Ray gave back; the number of rows."""
        problems = rows.column(PROBLEM).to_pylist()
        for number, problem in zip(rows.column(NUMBER).to_pylist(), problems, strict=True):
            piece, state = pieces[number]
            if problem == "":
                state.empty += 1
            elif problem is not None:
                self._skip(piece.id, state, problem)
        good = rows.filter(pa.array([problem is None for problem in problems])).drop_columns([NUMBER, PROBLEM])
        form = schema(self.about["dimensions"], self.about["data_type"])
        self._writer.add(good.select(form.names).cast(form))
        return len(good)
