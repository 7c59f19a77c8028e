"""Help that takes seconds to compose (LightningCLI's), kept on disk until the package or its libraries change."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import rsretrieval
from rsretrieval.files import cache_folder, write_text


def cached_help(command: str, compose: Callable[[Sequence[str]], None]) -> str:
    """The help of a command, composed the first time.

    Args:
        command: such as ``fit``.
        compose: prints the help for ``[command, "--help"]`` and exits.
    """
    libraries = ("lightning", "jsonargparse", "torch", "torchmetrics")
    sources = sorted(Path(rsretrieval.__path__[0]).rglob("*.py"))
    state = [
        command,
        shutil.get_terminal_size().columns,
        *map(version, libraries),
        *((str(file), file.stat().st_mtime_ns) for file in sources),
    ]
    file = cache_folder() / "help" / f"{command}-{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}.txt"
    if not file.is_file():
        page = io.StringIO()
        try:
            with contextlib.redirect_stdout(page):
                compose([command, "--help"])
        except SystemExit as end:
            if end.code:
                raise
        with contextlib.suppress(OSError):  # a folder that may not be written to, or is full
            for older in file.parent.glob(f"{command}-*.txt"):
                older.unlink(missing_ok=True)
            write_text(file, page.getvalue())
        return page.getvalue()
    return file.read_text(encoding="utf-8")
