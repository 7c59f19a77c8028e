"""``lancedb``: an embedded table on disk or on object storage, with vectors and what filters ask for in one.

https://github.com/lancedb/lancedb. The table keeps its versions, and a saved index says which one is its own, so that a
change that was not finished is never read. A URI of object storage (``s3://…``, ``gs://…``, ``az://…``) goes the way of
a folder; it has not been tried against one.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.archive.index.base import Keys, Options, VectorIndex, Vectors, register_index
from rsretrieval.archive.index.exact import SLACK, cosines, filled, ranked, search_blocks, settled
from rsretrieval.archive.index.lookup import Lookup
from rsretrieval.embeddings import ArchiveError
from rsretrieval.embeddings.rows import INFORMATION, degrees_and_pixels, lists_of, vectors_of
from rsretrieval.lazy import needs

DATA, STATE = "data", "lance.json"
SIDES = ("west", "south", "east", "north")
LISTED = 10_000
"""Keys that a condition in SQL lists at most."""


@register_index("lancedb")
class Lance(VectorIndex):
    """A table of ``key, vector, information`` and the columns of :meth:`VectorIndex.search`'s ``where``.

    Options:
        uri: of a database elsewhere, with credentials by the environment; empty for a folder of the archive. At an
            earlier URI the table stays.
        exact_rows: a table up to which is compared row by row; above it has an index, IVF of vectors as they are.
        partitions: of that index; 0 for the root of the rows.
        probes: partitions that a query looks into, and into more where a filter leaves too little in them; it can be
            changed without building anew.

    Args:
        database: of lancedb.
        name: of the table.
        version: of it that is read; None for the newest, to change it.
        options: of the kind.
    """

    exact = False
    filters_natively = True
    options = {"uri": "", "exact_rows": 50_000, "partitions": 0, "probes": 40}  # noqa: RUF012 - never written to
    options_of_search = ("probes",)

    def __init__(self, database: Any, name: str, version: int | None, options: Options) -> None:  # noqa: ANN401
        self._database, self._name, self._options = database, name, options
        self._earlier: set[str] = set()
        self._table = database.open_table(name)
        if version is not None:
            self._table.checkout(version)
        self._read()

    @classmethod
    def build(cls, folder: Path, width: int, options: Options) -> Self:  # noqa: D102
        database, name = _database(folder, options), f"rows-{uuid4().hex[:12]}"
        database.create_table(name, schema=_schema(width))
        index = cls(database, name, None, options)
        for file in folder.glob(f"*/{STATE}"):
            with suppress(OSError, ValueError, KeyError):  # a damaged one; its table stays
                index._earlier.add(json.loads(file.read_text(encoding="utf-8"))["table"])
        return index

    @classmethod
    def open(cls, folder: Path, options: Options, *, to_change: bool = False) -> Self:  # noqa: D102
        try:
            state = json.loads((folder / STATE).read_text(encoding="utf-8"))
            index = cls(_database(folder.parent, options), state["table"], state["version"], options)
            if to_change:
                index._table.restore()
                index._read()
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise ArchiveError(f"the table of '{folder}' cannot be read ({error})") from error
        return index

    def _read(self) -> None:
        """Keep key, row and information of each row; what the table gave before is void."""
        rows = self._table.search().select(["key", "information"]).with_row_id(True).to_arrow()
        self._keys, self._rows, self._information = (
            rows.column(name).to_numpy() for name in ("key", "_rowid", "information")
        )
        self._lookup, self._stale = Lookup(self._keys), False

    def _fresh(self) -> None:
        if self._stale:
            self._read()

    @property
    def keys(self) -> Keys:  # noqa: D102
        self._fresh()
        return np.asarray(self._keys, np.int64)

    def vectors(self, keys: Keys) -> Vectors:  # noqa: D102
        self._fresh()
        unique, back = np.unique(np.asarray(keys, np.int64), return_inverse=True)
        rows = self._rows[self._lookup.all(unique)]
        if not len(rows):
            return np.zeros((0, self._table.schema.field("vector").type.list_size), np.float32)
        part = self._table.take_row_ids(rows.tolist()).select(["key", "vector"]).to_arrow()
        order = np.argsort(part.column("key").to_numpy())
        return np.asarray(vectors_of(part.column("vector"))[order][back], np.float32)

    def search(  # noqa: D102
        self, queries: Vectors, k: int, allowed: Keys | None = None, where: str | None = None
    ) -> tuple[Vectors, Keys]:
        conditions = [] if where is None else [f"({where})"]
        queries = np.ascontiguousarray(queries, np.float32)
        try:
            if allowed is not None and len(allowed) > LISTED:
                return search_blocks(self._blocks(np.asarray(allowed, np.int64), conditions), queries, k)
            if allowed is not None:
                conditions.append(f"key IN ({', '.join(map(str, allowed))})" if len(allowed) else "false")
            return filled((self._near(query, k, " AND ".join(conditions)) for query in queries), k)
        except ValueError as error:
            raise ArchiveError(f"lancedb does not take the condition '{where}': {error}") from error
        except RuntimeError as error:
            raise ArchiveError(f"the index's table cannot be read, or has been replaced ({error})") from error

    def _near(self, query: Vectors, k: int, condition: str) -> tuple[Vectors, Keys]:
        slack = SLACK
        while True:
            search = self._table.search(query, vector_column_name="vector").distance_type("dot")
            search = search.minimum_nprobes(self._options["probes"]).maximum_nprobes(0)  # 0: until there are k
            search = search.where(condition, prefilter=True) if condition else search
            part = search.limit(k + slack).select(["key", "vector", "_distance"]).to_arrow()
            scores = cosines(query, vectors_of(part.column("vector")))
            if len(part) < k + slack or settled(scores, k):
                return ranked(scores, part.column("key").to_numpy(), k)
            slack *= 4

    def _blocks(self, allowed: Keys, conditions: list[str]) -> Iterator[tuple[Keys, Vectors]]:
        rows, lookup = self._table.search().select(["key", "vector"]), Lookup(np.unique(allowed))
        for batch in (rows.where(conditions[0]) if conditions else rows).to_batches(batch_size=8192):
            keys = batch.column("key").to_numpy()
            chosen = lookup(keys) >= 0
            yield keys[chosen], vectors_of(batch.column("vector"))[chosen]

    def outdated(self, keys: Keys, information: pa.Table) -> NDArray[np.bool_]:  # noqa: D102
        self._fresh()
        places = self._lookup(keys)
        return (places >= 0) & (self._information[places] != _digests(information)) if len(self._keys) else places >= 0

    def add(self, keys: Keys, vectors: Vectors, information: pa.Table) -> None:  # noqa: D102
        if len(keys):
            self._table.add(_rows(keys, vectors, information))
            self._stale = True

    def remove(self, keys: Keys) -> None:  # noqa: D102
        for start in range(0, len(keys), LISTED):
            self._table.delete(f"key IN ({', '.join(map(str, keys[start : start + LISTED]))})")
            self._stale = True

    def save(self, folder: Path) -> None:  # noqa: D102
        rows = self._settled()
        if rows > self._options["exact_rows"] and not self._table.list_indices():
            ivf = needs("lancedb.index", "archive").IvfFlat
            partitions = self._options["partitions"] or math.isqrt(rows)
            self._table.create_index("vector", config=ivf(distance_type="dot", num_partitions=partitions))
            self._settled()
        state = {"table": self._name, "version": self._table.version}
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def _settled(self) -> int:
        """Put new rows into the index, and small files together, until that gives no other version; the rows."""
        version = None
        while version != (version := self._table.version):
            self._table.optimize(cleanup_older_than=timedelta(days=10**5))  # the last index may need an old version
        return int(self._table.count_rows())

    def tidy(self) -> None:  # noqa: D102
        tables = set(self._database.list_tables().tables)
        unused = self._earlier if self._options["uri"] else tables
        for name in (unused & tables) - {self._name}:
            self._database.drop_table(name)
        self._table.checkout_latest()
        version = self._table.version
        self._settled()
        if version == self._table.version:  # so that what deletes old versions makes no new one
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # a reader of an old one is told
                self._table.optimize(cleanup_older_than=timedelta(days=bool(self._options["uri"])))

    def bytes_elsewhere(self) -> int:  # noqa: D102
        if self._options["uri"]:
            return 0
        return sum(file.stat().st_size for file in Path(self._database.uri).rglob("*") if file.is_file())


def _database(folder: Path, options: Options) -> Any:  # noqa: ANN401
    return needs("lancedb", "archive").connect(options["uri"] or str(folder / DATA))


def _schema(width: int) -> pa.Schema:
    return pa.schema(
        {
            **{"key": pa.int64(), "vector": pa.list_(pa.float32(), width), "information": pa.int64()},
            **{name: INFORMATION[name] for name in ("id", "source", "datetime", "datetime_origin")},
            **dict.fromkeys(SIDES, pa.float64()),
            **{"width": pa.int32(), "height": pa.int32()},
        }
    )


def _rows(keys: Keys, vectors: Vectors, information: pa.Table) -> pa.Table:
    form = _schema(vectors.shape[1])
    columns: dict[str, Any] = {name: information.column(name) for name in form.names if name in INFORMATION}
    columns["key"], columns["information"] = keys, _digests(information)
    columns["vector"] = lists_of(vectors)
    columns |= degrees_and_pixels(information)
    return pa.table([_one(columns[name]).cast(form.field(name).type) for name in form.names], schema=form)


def _one(column: Any) -> Any:  # noqa: ANN401 - an array of whatever holds values
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else pa.array(column)


def _digests(information: pa.Table) -> NDArray[np.int64]:
    """``(n,)`` another number for other information."""
    rows = zip(*(information.column(name).to_pylist() for name in information.column_names), strict=True)
    digests = (blake2b(repr(row).encode(), digest_size=8).digest() for row in rows)
    return np.fromiter((int.from_bytes(digest, "big", signed=True) for digest in digests), np.int64, len(information))
