"""Data sets of the Hugging Face hub: parquet tables by streaming, archives by fetching.

The first pass over a split reads its text columns alone and is kept on disk, so that lengths are known from the first
step; the revision is settled once, so that all epochs see the same rows. A block is one row group of a parquet file,
which :mod:`datasets` streams by itself, with its own retries.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import datasets
from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from rsretrieval.data.datasets.base import (
    SPLITS,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
    check_columns,
    record,
)
from rsretrieval.files import cache_folder, sha256, write_whole

CLIENTS = {"aiohttp", "httpcore", "httpx", "httpx2", "requests", "urllib3"}
"""Packages whose errors mean that a connection failed."""


class HubSource(Source):
    """A data set of parquet files on the hub, streamed.

    Args:
        path: ``OWNER/NAME``.
        columns: names of the columns.
        revision: commit, tag or branch; None for the newest. The attribute ``revision`` is the commit that it is.

    Raises:
        DataError: if the hub has no such data set or revision, or cannot be reached.
    """

    def __init__(self, path: str, columns: Columns, revision: str | None = None) -> None:
        self.repository, self.columns = path, columns
        try:
            self.revision = HfApi().dataset_info(path, revision=revision).sha
        except Exception as error:
            wanted = f"'{path}'" if revision is None else f"'{path}', revision '{revision}',"
            raise DataError(
                f"the hub's data set {wanted} cannot be reached ({error}): check the name, the revision and the "
                "connection, or give local files (--data.source parquet --data.path FOLDER)"
            ) from error
        self._indexes: dict[str, tuple[list[Record], list[int]]] = {}
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
        return self._index(split)[0]

    def blocks(self, split: str) -> list[int]:
        """Rows of each row group."""
        return self._index(split)[1]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
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
        splits = datasets.load_dataset(self.repository, revision=self.revision, streaming=True)
        name = next((alias for alias in SPLITS[split] if alias in splits), None)
        if name is None:
            raise MissingSplitError(f"the hub's '{self.repository}' has no split '{split}'; it has {sorted(splits)}")
        table = splits[name]
        check_columns(table.column_names, self.columns, f"the hub's '{self.repository}'")
        return table.reshard()

    def _index(self, split: str) -> tuple[list[Record], list[int]]:
        """Records and rows of each block, from the cache on disk or by one pass over the text columns."""
        if split not in self._indexes:
            key = hashlib.sha256(json.dumps([self.repository, self.revision, split, asdict(self.columns)]).encode())
            file = cache_folder() / "index" / f"{key.hexdigest()[:32]}.json"
            if not file.is_file():
                self._write_index(split, file)
            blocks = json.loads(file.read_text())
            records = [record(row) for block in blocks for row in block]
            self._indexes[split] = records, [len(block) for block in blocks]
        return self._indexes[split]

    def _write_index(self, split: str, file: Path) -> None:
        """Read a split's text columns; of several processes one does, and the others wait for it."""
        table = self._table(split)
        names = self.columns.text(table.column_names)
        texts, count = table.select_columns(list(names.values())), table.num_shards
        with _locked(file):
            if file.is_file():
                return
            with self._streaming(split):
                blocks = [
                    [{field: row[column] for field, column in names.items()} for row in texts.shard(count, number)]
                    for number in range(count)
                ]
            write_whole(file, lambda partial: partial.write_text(json.dumps(blocks)))

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


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time has the path; the system lets others in when it ends, however it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        yield


class Archive(NamedTuple):
    """An archive of the hub, unpacked.

    Attributes:
        folder: of what it holds.
        revision: the commit that it is from.
    """

    folder: Path
    revision: str


def fetch_archive(path: str, revision: str | None = None) -> Archive:
    """Fetch ``OWNER/NAME/FILE.zip`` from the hub, compare its SHA-256 with the hub's, and unpack it once.

    Of several processes one does, and the others wait for it. What was fetched before an interruption is not fetched
    again.

    Args:
        path: of the archive on the hub.
        revision: commit, tag or branch; None for the newest.

    Raises:
        DataError: if the hub has no such file, it arrived damaged, or it is no zip archive.
    """
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise DataError(f"'{path}' names no archive: give OWNER/NAME/FILE.zip")
    folder = cache_folder() / "archives"
    with _locked(folder / hashlib.sha256(path.encode()).hexdigest()[:32]):
        try:
            archive = Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset", revision=revision))
        except Exception as error:
            raise DataError(
                f"the hub's archive '{path}' cannot be fetched ({error}): check the name, the revision and the "
                "connection"
            ) from error
        commit = archive.parents[len(Path(file).parts) - 1].name  # …/snapshots/COMMIT/FILE.zip
        target = folder / hashlib.sha256(str(archive.resolve()).encode()).hexdigest()[:32]
        if not target.is_dir():
            _check_fetched(archive, f"{owner}/{name}", file, commit)
            _unpack(archive, target, path)
    return Archive(target, commit)


def _check_fetched(archive: Path, repository: str, file: str, revision: str) -> None:
    (listed,) = HfApi().get_paths_info(repository, [file], revision=revision, repo_type="dataset")
    expected = getattr(listed, "lfs", None)  # small files are not kept in large-file storage, and have no SHA-256
    if expected is not None and sha256(archive) != expected.sha256:
        archive.resolve().unlink()
        raise DataError(f"'{file}' of the hub's '{repository}' arrived damaged and was removed: run this again")


def _unpack(archive: Path, target: Path, path: str) -> None:
    """Whole or not at all, whenever the process is killed."""
    partial = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(partial)
        partial.rename(target)
    except zipfile.BadZipFile as error:
        raise DataError(f"the hub's '{path}' is no zip archive: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
