"""Loaders' workers and SIGTERM, which a cluster sends to every process of a run."""

import os
import signal
import subprocess
import sys
import time

import pytest

from rsretrieval.data import RetrievalDataModule

WITH_WORKERS = """
from rsretrieval.data import RetrievalDataModule
data = RetrievalDataModule("synthetic", image_size=32, batch_size=4, num_workers=2, augmentation="none")
loader = data.train_dataloader()
batches = iter(loader)
print(len(next(batches).texts), flush=True)
"""


def test_a_program_that_ends_with_workers_at_work_ends() -> None:
    """As Python ends the workers: by SIGTERM, and then it waits for them."""
    done = subprocess.run([sys.executable, "-c", WITH_WORKERS], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["4"]


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="macOS does not tell who sent a signal")
def test_a_worker_leaves_the_first_sigterm_of_others_aside() -> None:
    data = RetrievalDataModule("synthetic", image_size=32, batch_size=4, num_workers=1, augmentation="none")
    batches = iter(data.train_dataloader())
    next(batches)
    (worker,) = {process.pid for process in children()}
    subprocess.run(["kill", "-TERM", str(worker)], check=True)
    time.sleep(0.5)
    assert [len(next(batches).texts) for _ in range(5)] == [4] * 5
    assert worker in {process.pid for process in children()}
    os.kill(worker, signal.SIGTERM)  # of the parent
    end = time.monotonic() + 10
    while worker in {process.pid for process in children()} and time.monotonic() < end:
        time.sleep(0.05)
    assert worker not in {process.pid for process in children()}


def test_workers_end_with_a_parent_that_was_killed() -> None:
    """In the middle of a batch too large for a pipe, which nobody will take: what they print to is closed."""
    program = WITH_WORKERS.replace("batch_size=4", "batch_size=512") + "import time; time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "512\n"
        parent.kill()
        assert parent.communicate(timeout=20) == ("", None)
    assert parent.returncode == -signal.SIGKILL


def children() -> list:
    import multiprocessing

    return multiprocessing.active_children()
