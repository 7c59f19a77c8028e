"""Files: the cache folder, checksums, and writing a file whole or not at all."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG)
"""The system's numbers for what keeps a file from being written."""


def cache_folder() -> Path:
    """``$RSRETRIEVAL_CACHE``, or ``~/.cache/rsretrieval``."""
    return Path(os.environ.get("RSRETRIEVAL_CACHE", "~/.cache/rsretrieval")).expanduser()


def sha256(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def write_whole(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all, whenever the process is killed.

    Args:
        file: to write or replace; its folder is made.
        write: writes to the path that it is given, beside ``file`` and of this process alone.

    Raises:
        OSError: naming the file, where the disk is full or may not be written to.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        write(partial)
        partial.replace(file)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        state = "what was there is as it was" if file.exists() else "nothing was written"
        raise OSError(error.errno, f"{os.strerror(error.errno)}; {state}", str(file)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text in UTF-8; see :func:`write_whole`."""
    write_whole(file, lambda partial: partial.write_text(text, encoding="utf-8"))


def write_png(file: Path, picture: Image.Image) -> None:
    """Write a picture; see :func:`write_whole`."""
    write_whole(file, lambda partial: picture.save(partial, "png"))


def write_csv(file: Path, rows: Iterable[Sequence[object]]) -> None:
    """Write rows as they come, the header first; see :func:`write_whole`."""

    def write(partial: Path) -> None:
        with partial.open("w", encoding="utf-8", newline="") as content:
            csv.writer(content).writerows(rows)

    write_whole(file, write)
