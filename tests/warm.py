"""Runs pytest in a fork of a process that has imported the libraries: importing them takes longer than most tests.

`make mutants` starts `python tests/warm.py serve`, and for each mutant cosmic-ray calls `python -S tests/warm.py` with
pytest's arguments.
"""

import os
import signal
import socket
import sys
import time
from pathlib import Path

ADDRESS = "warm.socket"  # in the folder that the mutants are in
LIMIT = 60  # seconds, after which a mutant that hangs is a mutant that was noticed


def serve() -> None:
    import datasets  # noqa: F401
    import hypothesis  # noqa: F401
    import lightning  # noqa: F401
    import open_clip  # noqa: F401
    import pytest
    import timm  # noqa: F401
    import torchmetrics  # noqa: F401
    import transformers  # noqa: F401

    sys.dont_write_bytecode = True  # a mutant has the size and often the second of the file before it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as server:
        if os.path.exists(ADDRESS):
            os.unlink(ADDRESS)
        server.bind(ADDRESS)
        server.listen()
        while True:
            connection, _ = server.accept()
            if os.fork():
                connection.close()
                continue
            signal.alarm(LIMIT)
            arguments = connection.recv(65536).decode().split("\n")
            status = 0
            with open(os.devnull, "w") as silence:
                os.dup2(silence.fileno(), 1)
                os.dup2(silence.fileno(), 2)
                for part in likely_first(arguments):
                    status = status or int(pytest.main([*part, "-n0", "-x", "-q", "-p", "no:cacheprovider"]))
            connection.sendall(str(status).encode())
            os._exit(0)


def likely_first(places: list[str]) -> list[list[str]]:
    """Test files in two parts: those of the module that is mutated, the newest file, or of its folder; all others."""
    newest = max(Path("src").rglob("*.py"), key=lambda file: file.stat().st_mtime)
    files = [str(file) for place in map(Path, places) for file in (sorted(place.rglob("test_*.py")) or [place])]
    first = [file for file in files if newest.stem in file] or [file for file in files if newest.parent.name in file]
    rest = [file for file in files if file not in first]
    return [part for part in (first, rest) if part]


def run(arguments: list[str]) -> int:
    """Exit status of pytest; 1 for a run that was ended.

    Raises:
        OSError: if there is no server after a while.
    """
    deadline = time.monotonic() + 2 * LIMIT
    while True:  # the server is on its way; a mutant that nobody looked at was not noticed
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(ADDRESS)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
                continue
            client.sendall("\n".join(arguments).encode())
            return int(client.recv(16) or 1)


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    sys.exit(run(sys.argv[1:]))
