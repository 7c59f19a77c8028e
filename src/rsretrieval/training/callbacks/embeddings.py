"""What ``predict`` gives, as a file."""

from __future__ import annotations

import logging
from collections import ChainMap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from numpy.typing import NDArray

from rsretrieval.distributed import gather_objects, rank
from rsretrieval.embeddings.geoparquet import ROW_GROUP_BYTES
from rsretrieval.embeddings.rows import lists_of, vectors_of
from rsretrieval.embeddings.shards import ShardWriter, read_shard, shard_files
from rsretrieval.files import write_whole
from rsretrieval.training.module import RetrievalModule
from rsretrieval.types import Batch

log = logging.getLogger(__name__)


class EmbeddingWriter(Callback):
    """``predict`` as ``embeddings-RANK.parquet`` in the run's folder, one row an image that could be read.

    Columns: ``filename``, ``embedding`` ``(d,)`` float32, ``captions`` and ``caption_embeddings``, both empty for an
    image without a caption. Equal images have the embedding of the first of them, on all processes.

    Rows lie in ``predict-shards`` until all are there, so that memory is that of one row group and a few numbers a row.
    ``Trainer.predict`` keeps what the module returns beside that, unless it is given ``return_predictions=False``, as
    the command line does.
    """

    def __init__(self) -> None:
        self._writer: ShardWriter | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin; what a run that died has left is removed."""
        if isinstance(pl_module, RetrievalModule):
            folder = Path(trainer.default_root_dir) / "predict-shards"
            _remove(folder, trainer.global_rank, trainer.world_size)
            self._writer = ShardWriter(folder, trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write the batch's rows, or keep them for the next shard.

        Raises:
            OSError: naming the file, where the disk is full.
            SIGTERMException: if the process is told to end.
        """
        _end_at_sigterm(trainer)
        if self._writer is not None and len(outputs["image_ids"]):
            names = trainer.predict_dataloaders.dataset.table.names  # type: ignore[union-attr]
            self._writer.add(_rows(outputs, batch, names))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file from the shards, whole or not at all, and remove them.

        Raises:
            OSError: naming the file, where the disk is full.
            SIGTERMException: if the process is told to end.
        """
        if self._writer is None or not isinstance(pl_module, RetrievalModule):
            return
        self._writer.flush()
        files = [file for file in shard_files(self._writer.folder) if _part(file) == trainer.global_rank]
        empty = _schema(pl_module.model.embed_dim).empty_table()
        rows = pa.concat_tables([empty, *map(read_shard, files)])
        path = Path(trainer.default_root_dir) / f"embeddings-{trainer.global_rank}.parquet"
        ties = _Ties(rows)
        write_whole(path, lambda partial: _write(partial, rows, ties, trainer))
        log.info("embeddings of %d images: %s", len(rows), path)
        self._end(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave no shards."""
        self._end(trainer)

    def _end(self, trainer: Trainer) -> None:
        if self._writer is not None:
            _remove(self._writer.folder, trainer.global_rank, trainer.world_size)
            with suppress(OSError):  # other processes' shards are there yet
                self._writer.folder.rmdir()
        self._writer = None


class _Ties:
    """The first of equal images over all processes, whose embedding is that of all; every process is to make one.

    Args:
        rows: of this process, by :func:`_schema`.
    """

    def __init__(self, rows: pa.Table) -> None:
        keys = gather_objects(rows["key"].to_numpy())
        start = sum(map(len, keys[: rank()]))
        end = start + len(rows)
        _, first, inverse = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
        firsts = first[inverse]  # rows of all processes, one after the other
        others = np.concatenate([firsts[:start], firsts[end:]])
        asked = np.unique(others[(others >= start) & (others < end)])
        self._column = rows["embedding"]
        self._firsts = firsts[start:end] - start  # negative: of an earlier process
        sent = gather_objects({row: self._vector(row - start) for row in asked.tolist()})
        self._elsewhere = {row - start: vector for row, vector in ChainMap(*sent).items()}

    def _vector(self, row: int) -> NDArray[np.float32]:
        """``(d,)``."""
        return np.asarray(vectors_of(self._column.slice(row, 1))[0])

    def vectors(self, start: int, count: int) -> pa.FixedSizeListArray:
        """The embeddings of rows that follow each other."""
        vectors = vectors_of(self._column.slice(start, count))
        firsts = self._firsts[start : start + count]
        for place in np.flatnonzero(firsts != np.arange(start, start + len(vectors))):
            row = int(firsts[place])
            vectors[place] = self._vector(row) if row >= 0 else self._elsewhere[row]
        return lists_of(vectors)


def _schema(width: int) -> pa.Schema:
    """A shard's columns: those of the file, and which image it is."""
    vector = pa.list_(pa.float32(), width)
    columns = {"filename": pa.string(), "embedding": vector, "captions": pa.list_(pa.string())}
    return pa.schema({**columns, "caption_embeddings": pa.list_(vector), "key": pa.int64()})


def _rows(outputs: dict[str, Any], batch: Batch, names: list[str]) -> pa.Table:
    """A batch of ``N`` images as rows, each with its own captions."""
    image, text = (outputs[name].float().cpu().numpy() for name in ("image", "text"))
    ids, owners = outputs["image_ids"].cpu(), outputs["owners"].cpu()
    keys = ids if batch.image_keys is None else batch.image_keys.cpu()
    own = [(owners == image_id).nonzero()[:, 0].tolist() for image_id in ids]
    order = [row for rows in own for row in rows]
    ends = pa.array(np.cumsum([0, *map(len, own)]), pa.int32())
    columns = [
        pa.array([names[row] for row in ids.tolist()], pa.string()),
        lists_of(image),
        pa.ListArray.from_arrays(ends, pa.array([batch.texts[row] for row in order], pa.string())),
        pa.ListArray.from_arrays(ends, lists_of(text[order])),
        pa.array(keys.numpy()),
    ]
    return pa.Table.from_arrays(columns, schema=_schema(image.shape[1]))


def _write(partial: Path, rows: pa.Table, ties: _Ties, trainer: Trainer) -> None:
    """Rows to a file, a row group at a time."""
    step = max(1, ROW_GROUP_BYTES * len(rows) // max(1, rows.nbytes))
    content = rows.drop_columns("key")
    place = content.column_names.index("embedding")
    with pq.ParquetWriter(partial, content.schema, compression="zstd") as writer:
        for start in range(0, len(rows), step):
            _end_at_sigterm(trainer)
            group = content.slice(start, step)
            writer.write_table(group.set_column(place, content.schema.field(place), ties.vectors(start, step)), step)


def _part(file: Path) -> int:
    """The process whose file it is."""
    return int(file.name.partition("-")[0])


def _remove(folder: Path, rank: int, world: int) -> None:
    """Remove a process's files, half ones too, and its share of those of processes that are no more."""
    for file in folder.glob("[0-9]*-*"):
        if _part(file) % world == rank:
            file.unlink(missing_ok=True)


def _end_at_sigterm(trainer: Trainer) -> None:
    """Lightning heeds it in ``fit`` alone."""
    if trainer.received_sigterm:
        raise SIGTERMException
