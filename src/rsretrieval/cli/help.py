"""Help that takes seconds to compose (LightningCLI's), kept on disk until the package or its libraries change."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import rsretrieval
from rsretrieval.files import cache_folder, write_whole


def cached_help(command: str, compose: Callable[[Sequence[str]], None]) -> str:
    """The help of a command, composed the first time.

    Args:
        command: such as ``fit``.
        compose: prints the help for ``[command, "--help"]`` and exits.
    """
    libraries = ("lightning", "jsonargparse", "torch", "torchmetrics")
    sources = sorted(Path(rsretrieval.__path__[0]).rglob("*.py"))
    state = [command, *map(version, libraries), *((str(file), file.stat().st_mtime_ns) for file in sources)]
    file = cache_folder() / "help" / f"{command}-{hashlib.sha256(repr(state).encode()).hexdigest()[:16]}.txt"
    if not file.is_file():
        page = io.StringIO()
        with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
            compose([command, "--help"])
        for older in file.parent.glob(f"{command}-*.txt"):
            older.unlink(missing_ok=True)
        write_whole(file, lambda partial: partial.write_text(page.getvalue(), encoding="utf-8"))
    return file.read_text(encoding="utf-8")
