"""How long commands take to begin: the first step of training, and those that answer at once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from lightning import Callback
from ratios import Row, compare, seconds

PROGRAM = Path(sys.executable).parent / "rsretrieval"
STAMP = "FIRST_STEP"
ROUNDS = 3


class FirstStep(Callback):
    """Writes when the first step of the optimiser was done, and ends the run."""

    def on_train_batch_end(self, trainer: object, *_: object) -> None:
        """See Lightning."""
        Path(os.environ[STAMP]).write_text(str(time.time()))
        trainer.should_stop = True  # type: ignore[attr-defined]


def run(*command: str | Path, **environment: str) -> None:
    """To its end, without a word."""
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})


def imports(modules: str) -> None:
    """In a process of its own."""
    run(sys.executable, "-c", f"import {modules}")


def first_step() -> float:
    """Seconds from the start of the process to the end of the quickstart's first step."""
    with tempfile.TemporaryDirectory() as folder:
        stamp = Path(folder) / "stamp"
        options = (
            "--trainer.limit_val_batches=0",
            f"--trainer.default_root_dir={folder}/run",
            "--trainer.max_epochs=1",
        )
        own = {STAMP: str(stamp), "PYTHONPATH": str(Path(__file__).parent)}
        start = time.time()
        run(PROGRAM, "fit", "-c", "quickstart", *options, "--trainer.callbacks+=start.FirstStep", **own)
        return float(stamp.read_text()) - start


def rows() -> Iterator[Row]:
    """Training against the imports that it needs, all else against that of torch, which it does without."""
    libraries = "torch, lightning, timm"
    imports(libraries)
    pairs = [(first_step(), seconds(lambda: imports(libraries))) for _ in range(ROUNDS)]
    yield Row(
        "time to the first training step, quickstart",
        f"import {libraries}",
        *(median(ours for ours, _ in pairs), median(theirs for _, theirs in pairs)),
        median(ours / theirs for ours, theirs in pairs),
        "<= 2",
    )
    for options in (("--help",), ("--version",), ("data", "list"), ("models", "list"), ("fit", "--help")):
        yield compare(
            f"rsretrieval {' '.join(options)}",
            "import torch",
            lambda options=options: run(PROGRAM, *options),  # type: ignore[misc]
            lambda: imports("torch"),
            must="<= 1",
            rounds=ROUNDS,
            note="from the second time on" if options == ("fit", "--help") else "",
        )
