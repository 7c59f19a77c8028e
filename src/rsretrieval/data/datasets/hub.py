"""Data sets of the Hugging Face hub, streamed: parquet tables, and what else :mod:`datasets` reads.

The first pass over a split reads its text columns alone and is kept on disk, so that lengths are known from the first
step; the revision is settled once, so that all epochs see the same rows. A block is one row group of a parquet file,
which :mod:`datasets` streams by itself, with its own retries.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError

from rsretrieval.data.datasets.archive import fetch_archive, locked
from rsretrieval.data.datasets.base import (
    SPLITS,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
    check_columns,
)
from rsretrieval.data.datasets.splits import split_of
from rsretrieval.data.datasets.values import Place, class_name, record
from rsretrieval.files import cache_folder, write_text

__all__ = ["HubSource", "fetch_archive"]

log = logging.getLogger(__name__)

CLIENTS = {"aiohttp", "httpcore", "httpx", "httpx2", "requests", "urllib3"}
"""Packages whose errors mean that a connection failed."""


class Index(NamedTuple):
    """The text side of a split.

    Attributes:
        records: of its rows.
        sizes: rows of each block.
        paths: of the images in the data set, where they are files of their own; else nothing.
    """

    records: list[Record]
    sizes: list[int]
    paths: list[str]


class HubSource(Source):
    """A data set of the hub, streamed: parquet files, an image folder, tars.

    Args:
        path: ``OWNER/NAME``.
        columns: names of the columns.
        revision: commit, tag or branch; None for the newest. The attribute ``revision`` is the commit that it is.
        configuration: which of a data set's configurations; None for the only one, or the one that is its default.

    Raises:
        DataError: if the hub has no such data set or revision, or cannot be reached.
    """

    def __init__(
        self, path: str, columns: Columns, revision: str | None = None, configuration: str | None = None
    ) -> None:
        if not path:
            raise DataError("the source 'hub' needs the data set's id: give --data.path OWNER/NAME")
        self.repository, self.columns, self.configuration = path, columns, configuration
        try:
            self.revision = HfApi().dataset_info(path, revision=revision).sha
        except Exception as error:
            wanted = f"'{path}'" if revision is None else f"'{path}', revision '{revision}',"
            raise DataError(
                f"the hub's data set {wanted} cannot be reached ({error}): check the name, the revision and the "
                "connection, or give local files (--data.source parquet --data.path FOLDER)"
            ) from error
        self._indexes: dict[str, Index] = {}
        self._tables: dict[str, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes open their own connections."""
        return {**self.__dict__, "_indexes": {}, "_tables": {}}

    def prepare(self) -> None:
        """Read the text columns of every split into the cache."""
        for split in SPLITS:
            try:
                self._index(split)
            except MissingSplitError:
                continue

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        return self._index(split).records

    def blocks(self, split: str) -> list[int]:
        """Rows of each row group; each row alone where the images are files of their own."""
        return self._index(split).sizes

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        paths = self._index(split).paths
        if paths:
            with self._streaming(split):
                return [HfFileSystem().cat_file(f"datasets/{self.repository}@{self.revision}/{paths[block]}")]
        column = self.columns.image
        shards = self._table(split).select_columns([column]).cast_column(column, datasets.Image(decode=False))
        # `iter` and not a plain loop, which shares the one shard out among the loader's worker processes.
        with self._streaming(split):
            batches = shards.shard(shards.num_shards, block).iter(batch_size=64)
            return [image for batch in batches for image in batch[column]]

    def _table(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        """The split, one shard for each row group."""
        if split not in self._tables:
            with self._streaming(split):
                self._tables[split] = self._open(split)
        return self._tables[split]

    def _open(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        try:
            splits = datasets.load_dataset(
                self.repository, name=self.configuration, revision=self.revision, streaming=True
            )
        except Exception as error:
            self._refuse_configuration(error)
            raise
        name = next((name for name in splits if split_of(name) == split), None)
        if name is None:
            raise MissingSplitError.of(f"the hub's '{self.repository}'", split, sorted(splits))
        table = splits[name]
        if table.column_names is None:
            table = table.resolve_features()
        check_columns(table.column_names, self.columns, f"the hub's '{self.repository}'")
        return (table if table.info.builder_name == "parquet" else table.decode(False)).reshard()

    def _refuse_configuration(self, error: BaseException) -> None:
        """Say which configurations there are, if that is why the data set does not open."""
        if _unreachable(error):
            return
        names = datasets.get_dataset_config_names(self.repository, revision=self.revision)
        if self.configuration not in names and (self.configuration is not None or len(names) > 1):
            reason = "several configurations" if self.configuration is None else f"no '{self.configuration}'"
            raise DataError(
                f"the hub's '{self.repository}' has {reason}; its configurations are {names}: choose one by "
                "--data.configuration NAME"
            ) from error

    def _index(self, split: str) -> Index:
        """The text side of a split, from the cache on disk or by one pass over the text columns."""
        if split not in self._indexes:
            what = [self.repository, self.revision, split, asdict(self.columns)]
            what += [self.configuration] if self.configuration else []
            key = hashlib.sha256(json.dumps(what).encode())
            file = cache_folder() / "index" / f"{key.hexdigest()[:32]}.json"
            if not file.is_file():
                self._write_index(split, file)
            blocks = json.loads(file.read_text())
            rows = [row for block in blocks for row in block]
            paths = [row.pop("path") for row in rows if "path" in row]
            sizes = [1] * len(rows) if paths else [len(block) for block in blocks]
            self._indexes[split] = Index(self._records(split, rows), sizes, paths)
        return self._indexes[split]

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return f"the hub's '{self.repository}', split '{split}'"

    def _records(self, split: str, rows: Sequence[dict[str, Any]]) -> list[Record]:
        where, names = self.where(split), vars(self.columns)
        return [record(row, number, Place(where, number, names)) for number, row in enumerate(rows)]

    def _write_index(self, split: str, file: Path) -> None:
        """Read a split's text columns; of several processes one does, and the others wait for it."""
        table = self._table(split)
        names = self.columns.text(table.column_names)
        if "filename" not in names:
            log.info(
                "the hub's '%s' has no file names: the images' own paths or numbers of rows serve", self.repository
            )
        with locked(file):
            if file.is_file():
                return
            with self._streaming(split):
                blocks = list(self._text_blocks(table, names))
            records = iter(self._records(split, [row for block in blocks for row in block]))
            written = [
                [{**next(records)._asdict(), **({"path": row["path"]} if "path" in row else {})} for row in block]
                for block in blocks
            ]
            write_text(file, json.dumps(written))

    def _text_blocks(self, table: Any, names: dict[str, str]) -> Iterator[list[dict[str, Any]]]:  # noqa: ANN401
        """Of each block the fields of records, and the paths of images that are files of their own."""
        image, columns = self.columns.image, list(names.values())
        label = (table.features or {}).get(names.get("scene", ""))
        if table.info.builder_name != "parquet":  # of which the first image alone is a row group
            first = next(iter(table), {image: None})[image]
            if isinstance(first, dict) and first["bytes"] is None:
                columns.append(image)
        texts = table.select_columns(columns)
        prefix = f"hf://datasets/{self.repository}@{self.revision}/"
        for number in range(table.num_shards):
            rows = []
            for row in texts.shard(table.num_shards, number):
                path = row[image]["path"].removeprefix(prefix) if image in columns else None
                fields = {} if path is None else {"path": path, "filename": path}
                fields |= {field: row[column] for field, column in names.items()}
                if isinstance(label, datasets.ClassLabel):
                    fields["scene"] = class_name(label, fields["scene"])
                rows.append(fields)
            yield rows

    @contextmanager
    def _streaming(self, split: str) -> Iterator[None]:
        """Say what to do where the client gave up; it has retried by then."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            advice = (
                "it is out of reach. Training goes on later with --ckpt_path last"
                if _unreachable(error)
                else "a file there is broken, or may not be read: look at the data set, or give another --data.revision"
            )
            raise DataError(
                f"the hub's '{self.repository}' could not be read on, split '{split}' "
                f"({type(error).__name__}: {error}): {advice}"
            ) from error


def _unreachable(error: BaseException) -> bool:
    """Whether an error of the client may pass with time: no connection, or a server that is down or busy."""
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in (408, 425, 429) or error.response.status_code >= 500
    if isinstance(error, ConnectionError | TimeoutError) or type(error).__module__.partition(".")[0] in CLIENTS:
        return True
    return error.__cause__ is not None and _unreachable(error.__cause__)
