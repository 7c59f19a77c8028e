"""Files of the Hugging Face hub: fetched, compared with the hub's SHA-256, archives unpacked; once a node.

A download that was cut off or killed goes on where it stopped, also in another process, which the hub's own client
does not do for its cache. What it has in that cache already is used.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from huggingface_hub import HfApi, hf_hub_url, try_to_load_from_cache
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]  # public, not listed

from rsretrieval.data.datasets.base import DataError
from rsretrieval.files import cache_folder, sha256, write_text, write_whole

log = logging.getLogger(__name__)


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


class HubFile(NamedTuple):
    """A file of the hub, on this machine.

    Attributes:
        path: of the file here.
        revision: the commit that it is from.
    """

    path: Path
    revision: str


class Listed(NamedTuple):
    """What the hub says of a file.

    Attributes:
        repository: ``OWNER/NAME`` of a data set.
        file: in it.
        commit: that is meant.
        size: in bytes.
        sha256: None for small files, which are not kept in large-file storage and are compared by size alone.
    """

    repository: str
    file: str
    commit: str
    size: int
    sha256: str | None

    def place(self) -> Path:
        """Where it is kept: equal content of two commits is one file, where the hub tells."""
        content = self.sha256 or f"{self.commit} {self.size}"
        return place_of(f"{self.repository} {self.file} {content}")


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
    with locked(place_of(path)):
        listed = _listed(path, revision, "archive")
        target = listed.place()
        if not target.is_dir():
            archive = _in_cache(listed) or _download(listed)
            unpack(archive, target, f"the hub's '{path}'")
            if archive.parent == target.parent:  # not the hub's own cache
                archive.unlink()
        _remember(path, revision, listed)
    return Archive(target, listed.commit)


def fetch_file(path: str, revision: str | None = None) -> HubFile:
    """Fetch ``OWNER/NAME/FILE``, such as a table of captions, in the same way.

    Args:
        path: of the file on the hub.
        revision: commit, tag or branch; None for the newest.

    Raises:
        DataError: if the hub has no such file, or it arrived damaged.
    """
    with locked(place_of(path)):
        listed = _listed(path, revision, "file")
        target = listed.place().with_suffix(Path(listed.file).suffix)
        if not target.is_file():
            cached = _in_cache(listed)
            if cached is None:
                _download(listed).replace(target)
            else:
                write_whole(target, partial(shutil.copyfile, cached))
        _remember(path, revision, listed)
    return HubFile(target, listed.commit)


def unpack(archive: Path, target: Path, name: str) -> None:
    """Unpack a zip archive to a folder, whole or not at all, whenever the process is killed.

    Args:
        archive: the file.
        target: the folder, which is not there yet.
        name: of the archive, for messages.

    Raises:
        DataError: if it is no zip archive.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as content:
            content.extractall(unfinished)
        unfinished.rename(target)
    except zipfile.BadZipFile as error:
        raise DataError(f"{name} is no zip archive: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def place_of(text: str) -> Path:
    """Where in the cache something is kept that a text tells from all else."""
    return cache_folder() / "archives" / hashlib.sha256(text.encode()).hexdigest()[:32]


def _listed(path: str, revision: str | None, kind: str) -> Listed:
    """What the hub says of a file, or what it said when the file was fetched, where it cannot be reached."""
    owner, _, rest = path.partition("/")
    name, _, file = rest.partition("/")
    if not file:
        raise DataError(f"'{path}' names no {kind}: give OWNER/NAME/FILE{'.zip' if kind == 'archive' else ''}")
    try:
        commit = str(HfApi().dataset_info(f"{owner}/{name}", revision=revision).sha)
        entries = HfApi().get_paths_info(f"{owner}/{name}", [file], revision=commit, repo_type="dataset")
        if not entries:
            raise FileNotFoundError(f"'{owner}/{name}' has no such file")
    except Exception as error:
        before = _remembered(path, revision, f"{owner}/{name}", file)
        if before is None or isinstance(error, FileNotFoundError):
            raise DataError(
                f"the hub's {kind} '{path}' cannot be fetched ({error}): check the name, the revision and the "
                "connection"
            ) from error
        log.warning("the hub cannot be reached (%s): '%s' is read as of revision %s", error, path, before.commit)
        return before
    lfs = getattr(entries[0], "lfs", None)
    return Listed(f"{owner}/{name}", file, commit, int(getattr(entries[0], "size", 0)), lfs and lfs.sha256)


def _remember(path: str, revision: str | None, listed: Listed) -> None:
    """Keep what the hub said of a fetched file, for when it cannot be reached."""
    for asked in {revision, listed.commit}:
        file = place_of(f"{path}@{asked}").with_suffix(".json")
        text = f"{listed.commit} {listed.size} {listed.sha256 or ''}"
        if not file.is_file() or file.read_text() != text:
            write_text(file, text)


def _remembered(path: str, revision: str | None, repository: str, file: str) -> Listed | None:
    memory = place_of(f"{path}@{revision}").with_suffix(".json")
    if not memory.is_file():
        return None
    commit, size, digest = memory.read_text().split(" ")
    return Listed(repository, file, commit, int(size), digest or None)


def _in_cache(listed: Listed) -> Path | None:
    """The file in the cache of the hub's client, if it is there."""
    cached = try_to_load_from_cache(listed.repository, listed.file, revision=listed.commit, repo_type="dataset")
    if not isinstance(cached, str):
        return None
    _check(Path(cached).resolve(), listed)
    return Path(cached)


def _download(listed: Listed) -> Path:
    """The file, from where an interrupted download of it stopped."""
    place = listed.place()
    unfinished, whole = place.with_suffix(".partial"), place.with_suffix(".whole")
    if whole.is_file():  # killed before it was unpacked
        return whole
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    url = hf_hub_url(listed.repository, listed.file, repo_type="dataset", revision=listed.commit)
    size = unfinished.stat().st_size
    if size:
        log.info("'%s' of '%s' is fetched on from byte %d of %d", listed.file, listed.repository, size, listed.size)
    try:
        with unfinished.open("r+b") as content:
            content.seek(size)
            http_get(url, content, resume_size=size, headers=build_hf_headers(), expected_size=listed.size)
    except Exception as error:
        raise DataError(
            f"'{listed.file}' of the hub's '{listed.repository}' could not be fetched to its end "
            f"({type(error).__name__}: {error}): run this again, and it goes on at byte {unfinished.stat().st_size}"
        ) from error
    _check(unfinished, listed)
    return unfinished.replace(whole)


def _check(file: Path, listed: Listed) -> None:
    """Remove a file that is not what the hub lists, and say so."""
    size, digest = file.stat().st_size, listed.sha256
    if size != listed.size or (digest is not None and sha256(file) != digest):
        file.unlink()
        raise DataError(
            f"'{listed.file}' of the hub's '{listed.repository}' arrived damaged and was removed: run this again"
        )
