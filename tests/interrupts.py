"""Runs the command line, keeps what each training batch was, and ends the process in the middle of one."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from rsretrieval import cli
from rsretrieval.training import RetrievalModule
from rsretrieval.types import Batch


@contextmanager
def recorded(file: Path, end: str = "", batches: int = 0) -> Iterator[None]:
    """Write epoch, texts and loss of each batch; ``end`` after so many.

    Args:
        file: to add lines to.
        end: ``SIGTERM`` or ``SIGINT`` in the step of the next batch, ``error`` in it, ``SIGKILL`` after a checkpoint of
            that many steps; of two processes ``rank0`` or ``rank1`` (and ``rank``) for one of them by SIGKILL,
            ``stuck`` for the first while the second waits for ever, ``SIGTERMs`` for both at different moments of the
            batch, ``error0`` or ``error1`` for an error of one; nothing for none.
        batches: of the run, before it ends.
    """
    step, save = RetrievalModule.training_step, ModelCheckpoint.on_train_batch_end
    done = 0

    def training_step(self: RetrievalModule, batch: Batch) -> Tensor:
        nonlocal done
        if done == batches and end == "error":
            raise RuntimeError("a step that fails")
        now, rank = done == batches, self.global_rank
        if now and end == f"error{rank}":
            raise RuntimeError("a process that fails")
        if now and end in (f"rank{rank}", ("stuck", "rank")[rank]):
            os.kill(os.getpid(), signal.SIGKILL)
        if now and end == "stuck":
            time.sleep(600)
        if now and end in ("SIGTERM", "SIGTERMs", "SIGINT") and rank == 0:
            os.kill(os.getpid(), getattr(signal, end.removesuffix("s")))
        loss = step(self, batch)
        if now and end == "SIGTERMs" and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        with file.open("a") as lines:
            lines.write(json.dumps([self.current_epoch, batch.texts, float(loss)]) + "\n")
        done += 1
        return loss

    def save_and_die(
        self: ModelCheckpoint, trainer: Trainer, pl_module: LightningModule, *rest: Any, **more: Any
    ) -> None:
        save(self, trainer, pl_module, *rest, **more)
        if end == "SIGKILL" and self.filename == "last-step" and trainer.global_step >= batches:
            os.kill(os.getpid(), signal.SIGKILL)

    with (
        patch.object(RetrievalModule, "training_step", training_step),
        patch.object(ModelCheckpoint, "on_train_batch_end", save_and_die),
    ):
        yield


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """No space for a checkpoint after that many were written."""
    save, count = torch.save, 0

    def save_until_full(content: object, file: Any, *rest: Any, **more: Any) -> None:
        nonlocal count
        count += 1
        if count > after:
            file.write(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(content, file, *rest, **more)

    with patch.object(torch, "save", save_until_full):
        yield


def main(file: str, end: str, batches: int, args: list[str]) -> None:
    """See :func:`recorded`."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell lets its background jobs ignore
    with recorded(Path(file), end, batches):
        cli.main(args)


if __name__ == "__main__":  # as a script, which Lightning can start again for its second process
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4:])
