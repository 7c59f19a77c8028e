"""Archives of the Hugging Face hub: fetched, compared with the hub's SHA-256 and unpacked, once a node."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_download

from rsretrieval.data.datasets.base import DataError
from rsretrieval.files import cache_folder, sha256


@contextmanager
def locked(path: Path) -> Iterator[None]:
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
    with locked(folder / hashlib.sha256(path.encode()).hexdigest()[:32]):
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
