"""Programs in processes of their own that need not import torch again: forked from one that did.

Each gets its own environment and a fresh :mod:`huggingface_hub`, which reads the environment where it is imported.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


class Child:
    """A program that runs, or has run.

    Attributes:
        returncode: of the program.
        stdout: what it printed.
        stderr: what it printed there.
    """

    def __init__(self, forks: "Forks", pid: int, folder: Path) -> None:
        self.pid, self._forks, self._folder = pid, forks, folder
        self.returncode: int | None = None

    def running(self) -> bool:
        """Whether the program has not ended."""
        if self.returncode is None:
            self.returncode = self._forks.ask(wait=self.pid)
        return self.returncode is None

    def wait(self, seconds: float = 120.0) -> "Child":
        """Until the program ends; a program that does not is killed."""
        end = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
            time.sleep(0.02)
        self.stdout, self.stderr = ((self._folder / name).read_text() for name in ("stdout", "stderr"))
        return self


class Forks:
    """The process that the programs are forked from."""

    def __init__(self, to: IO[str], back: IO[str], folder: str) -> None:
        self._to, self._back, self._folder, self._lock = to, back, folder, threading.Lock()

    def ask(self, **request: object) -> Any:
        """Send a request, and give its answer."""
        with self._lock:
            print(json.dumps(request), file=self._to, flush=True)
            return json.loads(self._back.readline())

    def start(self, program: str, *arguments: str, env: dict[str, str]) -> Child:
        """Start a program, of Python's text."""
        folder = Path(tempfile.mkdtemp(dir=self._folder))
        pid = self.ask(program=program, arguments=arguments, env=env, folder=str(folder))
        return Child(self, pid, folder)

    def run(self, program: str, *arguments: str, env: dict[str, str]) -> Child:
        """Run a program to its end."""
        return self.start(program, *arguments, env=env).wait()


@contextmanager
def forks() -> Iterator[Forks]:
    """One interpreter that has imported torch and the data module."""
    command = [sys.executable, __file__]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        yield Forks(process.stdin, process.stdout, folder)
        process.stdin.close()


def _fork(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        folder = Path(request["folder"])
        for number, name in enumerate(("stdout", "stderr"), 1):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (io.TextIOWrapper(os.fdopen(n, "wb"), write_through=True) for n in (1, 2))
        os.environ.clear()
        os.environ.update(request["env"])
        sys.argv = ["program", *request["arguments"]]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("huggingface_hub", "datasets")]:
            del sys.modules[name]
        exec(compile(request["program"], "program", "exec"), {"__name__": "__main__"})
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    import pandas  # noqa: F401 - and the following, so that the forks need not
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    import rsretrieval.data.datamodule  # noqa: F401

    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            pid, status = os.waitpid(request["wait"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = _fork(request)
        print(json.dumps(answer), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    _serve()
