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
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import HfApi, hf_hub_download

from rsretrieval.cache import cache_folder
from rsretrieval.data.rows import SPLITS, Columns, DataError, MissingSplitError, Record, Source, check_columns, record


def checksum(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while part := content.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


class HubSource(Source):
    """A data set of parquet files on the hub, streamed.

    Args:
        path: ``OWNER/NAME``.
        columns: names of the columns.

    Raises:
        DataError: if the hub has no such data set, or cannot be reached.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        self.repository, self.columns = path, columns
        try:
            self.revision = HfApi().dataset_info(path).sha
        except Exception as error:
            raise DataError(
                f"the hub's data set '{path}' cannot be reached ({error}): mend the name or the connection, or give "
                "local files (--data.source parquet --data.path FOLDER)"
            ) from error
        self._index = lru_cache(maxsize=None)(self._counted)
        self._shards = lru_cache(maxsize=None)(self._open)

    def _open(self, split: str) -> Any:  # noqa: ANN401 - datasets is untyped
        """The split, one shard for each row group."""
        with self._streaming(split):
            splits = datasets.load_dataset(self.repository, revision=self.revision, streaming=True)
            name = next((alias for alias in SPLITS[split] if alias in splits), None)
            if name is None:
                raise MissingSplitError(
                    f"the hub's '{self.repository}' has no split '{split}'; it has {sorted(splits)}"
                )
            table = splits[name]
            check_columns(table.column_names, self.columns, f"the hub's '{self.repository}'")
            return table.reshard()

    def _counted(self, split: str) -> tuple[list[Record], list[int]]:
        """Records and rows of each block, from the cache on disk or by one pass over the text columns."""
        key = hashlib.sha256(json.dumps([self.repository, self.revision, split, asdict(self.columns)]).encode())
        file = cache_folder() / "index" / f"{key.hexdigest()[:32]}.json"
        if not file.is_file():
            shards = self._shards(split)
            names = self.columns.text(shards.column_names)
            shards, count = shards.select_columns(list(names.values())), shards.num_shards
            with self._streaming(split):
                blocks = [
                    [{field: row[column] for field, column in names.items()} for row in shards.shard(count, i)]
                    for i in range(count)
                ]
            file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=file.parent, delete=False) as partial:
                json.dump(blocks, partial)
            Path(partial.name).replace(file)  # whole or not at all
        blocks = json.loads(file.read_text())
        return [record(row) for block in blocks for row in block], [len(block) for block in blocks]

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        return self._index(split)[0]

    def blocks(self, split: str) -> list[int]:
        """Rows of each row group."""
        return self._index(split)[1]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        column = self.columns.image
        shards = self._shards(split).select_columns([column]).cast_column(column, datasets.Image(decode=False))
        # `iter` and not a plain loop, which shares the one shard out among the loader's worker processes.
        with self._streaming(split):
            batches = shards.shard(shards.num_shards, block).iter(batch_size=64)
            return [image for batch in batches for image in batch[column]]

    @contextmanager
    def _streaming(self, split: str) -> Iterator[None]:
        """Say what to do where the client gave up; it has retried by then."""
        try:
            yield
        except DataError:
            raise
        except Exception as error:
            kind = type(error).__name__
            raise DataError(
                f"the hub's '{self.repository}' could not be read on, split '{split}' ({kind}: {error}): "
                "it is out of reach, or a file there is broken. Training goes on later with --ckpt_path last"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        """Worker processes open their own connections."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_index", "_shards")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._index = lru_cache(maxsize=None)(self._counted)
        self._shards = lru_cache(maxsize=None)(self._open)


def fetch_archive(path: str) -> Path:
    """Fetch ``OWNER/NAME/FILE.zip`` from the hub, compare its SHA-256 with the hub's, and unpack it once.

    What was fetched before an interruption is not fetched again.

    Returns:
        The folder of what it holds.

    Raises:
        DataError: if the hub has no such file, it arrived damaged, or it is no zip archive.
    """
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise DataError(f"'{path}' names no archive: give OWNER/NAME/FILE.zip")
    try:
        archive = Path(hf_hub_download(f"{owner}/{name}", file, repo_type="dataset"))
    except Exception as error:
        raise DataError(
            f"the hub's archive '{path}' cannot be fetched ({error}): mend the name or the connection"
        ) from error
    target = cache_folder() / "archives" / hashlib.sha256(str(archive.resolve()).encode()).hexdigest()[:32]
    if not target.is_dir():
        _check_fetched(archive, f"{owner}/{name}", file)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=target.parent))
        try:
            with zipfile.ZipFile(archive) as content:
                content.extractall(partial)
        except zipfile.BadZipFile as error:
            shutil.rmtree(partial)
            raise DataError(f"the hub's '{path}' is no zip archive: {error}") from error
        partial.rename(target)
    return target


def _check_fetched(archive: Path, repository: str, file: str) -> None:
    (listed,) = HfApi().get_paths_info(repository, [file], repo_type="dataset")
    expected = getattr(listed, "lfs", None)  # small files are not kept in large-file storage, and have no SHA-256
    if expected is not None and checksum(archive) != expected.sha256:
        archive.resolve().unlink()
        raise DataError(f"'{file}' of the hub's '{repository}' arrived damaged and was removed: run this again")
