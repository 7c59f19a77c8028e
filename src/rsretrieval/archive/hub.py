"""Files of data sets on the Hugging Face hub, as they are there; tables are read row group by row group."""

from __future__ import annotations

import re
from typing import IO, Any

from rsretrieval.archive.inputs import HUB
from rsretrieval.embeddings import ArchiveError


def files_on_hub(address: str) -> list[str]:
    """The files of a data set at its newest commit, which is in each address.

    Args:
        address: ``hf://datasets/OWNER/NAME``, or a folder or file of it; ``NAME@COMMIT`` for another commit.

    Raises:
        ArchiveError: if it cannot be reached, or is no such address.
    """
    from huggingface_hub import HfApi

    parts = re.fullmatch(r"hf://datasets/([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.*))?", address)
    if parts is None:
        raise ArchiveError(f"'{address}' is no data set of the hub: write hf://datasets/OWNER/NAME")
    repository, revision, below = parts[1], parts[2], (parts[3] or "").strip("/")
    try:
        api = HfApi()
        commit = api.dataset_info(repository, revision=revision).sha
        files = api.list_repo_files(repository, repo_type="dataset", revision=commit)
    except Exception as error:  # whatever keeps the hub from answering
        raise ArchiveError(
            f"'{address}' cannot be reached ({error}): check the name and the connection, or give local files"
        ) from error
    chosen = [file for file in files if not below or file == below or file.startswith(f"{below}/")]
    if not chosen:
        raise ArchiveError(f"the hub's data set '{repository}' has nothing at '{below}'; it has {sorted(files)[:8]}")
    return [f"{HUB}datasets/{repository}@{commit}/{file}" for file in sorted(chosen)]


def opened(place: str) -> IO[bytes]:
    """A file by its path or address, to read from anywhere in it."""
    if not place.startswith(HUB):
        return open(place, "rb")
    from huggingface_hub import HfFileSystem

    file: Any = HfFileSystem().open(place.removeprefix(HUB), "rb")
    return file  # type: ignore[no-any-return]
