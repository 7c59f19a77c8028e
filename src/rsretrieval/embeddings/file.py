"""The embeddings of an archive, as ``rsretrieval embed`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rsretrieval.embeddings.errors import ArchiveError
from rsretrieval.embeddings.rows import keys, vectors_of

NAME = "embeddings.parquet"
KEY = "emb"
"""Of the JSON about model and tiles in the file's metadata; the prefix of STAC's extension for embeddings."""


class EmbeddingsFile:
    """``embeddings.parquet`` of an archive; its vectors are read in pieces.

    Args:
        folder: of the archive.

    Attributes:
        file: the path.
        about: what its metadata says under ``emb``: ``model`` (``name`` and ``digest``), ``dimensions``, ``data_type``,
            ``preprocessing``, ``written`` (another text whenever the file is written), ``root`` and more.

    Raises:
        ArchiveError: if there is no such file, or it is damaged or another's.
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / NAME
        if not self.file.is_file():
            begun = " (an embedding was begun there: call the same command again, and it goes on)"
            raise ArchiveError(
                f"'{folder}' is no archive: it has no {NAME}{begun if (folder / 'shards').is_dir() else ''}: make one "
                f"by `rsretrieval embed MODEL IMAGES --to {folder}`"
            )
        try:
            self._schema = pq.read_schema(self.file)
            self.count: int = pq.read_metadata(self.file).num_rows
            self.about: dict[str, Any] = json.loads((self._schema.metadata or {})[KEY.encode()])
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise ArchiveError(
                f"'{self.file}' cannot be read ({error or type(error).__name__}): it is damaged, or not of "
                "`rsretrieval embed`, which writes it anew"
            ) from error

    def __len__(self) -> int:
        return self.count

    @property
    def width(self) -> int:
        """Numbers of an embedding."""
        return int(self._schema.field("embedding").type.list_size)

    @property
    def column_names(self) -> list[str]:
        """Of its columns; ``geometry`` and ``bbox`` are not there where no row has a place."""
        return list(self._schema.names)

    def information(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows without their embeddings, or some columns of them.

        Raises:
            ArchiveError: if the file is damaged.
        """
        wanted = columns or [name for name in self._schema.names if name != "embedding"]
        try:
            return pq.read_table(self.file, columns=list(wanted))
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Rows in order, up to 8,192 at a time.

        Raises:
            ArchiveError: if the file is damaged.
        """
        try:
            with pq.ParquetFile(self.file) as content:
                for batch in content.iter_batches(batch_size=8192, columns=columns and list(columns)):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            raise self._damaged(error) from error

    def vectors(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Keys ``(n,)`` (:func:`rsretrieval.embeddings.rows.keys`) and vectors ``(n, d)`` of rows in order."""
        for part in self.tables(["id", "embedding"]):
            column = part.column("embedding")
            yield keys(part.column("id"), column), vectors_of(column)

    def _damaged(self, error: Exception) -> ArchiveError:
        return ArchiveError(
            f"'{self.file}' cannot be read ({error}): it is damaged. Delete it and call `rsretrieval embed` again"
        )
