"""How several processes end together: at SIGTERM, and when the first of them is gone."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from rsretrieval.distributed import any_rank, cpu_group

log = logging.getLogger(__name__)
STARTER = "RSRETRIEVAL_STARTER"
LOOKS_EVERY = 2
"""Seconds between two looks at the process that started this one."""
PATIENCE = 20
"""Seconds in which a process that lost the first one fails by itself, with an error that says more."""


class EndsTogether(Callback):
    """Lets all of several processes leave training before the same batch, whichever of them SIGTERM reaches.

    Lightning's handler takes part in a broadcast in the middle of whatever its process does, so that the collectives of
    processes that are told at different moments, as by srun, get mixed up. A single process is left to Lightning.

    Processes that Lightning started also end when the one that started them is gone: no collective fails for sure then.

    A process that fails writes no checkpoint, for which all would have to come together, and the others wait elsewhere.
    """

    def __init__(self) -> None:
        self._asked, self._group = False, None
        self._starter = os.environ.get(STARTER)
        os.environ[STARTER] = str(os.getpid())  # for the processes that Lightning starts from this one

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler, which puts back at the end what was there before."""
        self._asked = False
        if trainer.world_size > 1:
            self._group = cpu_group()
            signal.signal(signal.SIGTERM, self._ask)
            if trainer.local_rank and self._starter == str(os.getppid()):
                threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    def _ask(self, *_: object) -> None:
        self._asked = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Leave.

        Raises:
            SIGTERMException: on all processes, if any was told to end.
        """
        if trainer.world_size > 1 and any_rank(self._asked, self._group):
            # Lightning would kill the first process where another has left before it, which may be sending a log yet.
            getattr(trainer.strategy.launcher, "procs", []).clear()
            raise SIGTERMException

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave alone, where it is no signal, which all processes get."""
        if trainer.world_size > 1 and not isinstance(exception, SIGTERMException | KeyboardInterrupt):
            for callback in trainer.checkpoint_callbacks:
                if isinstance(callback, ModelCheckpoint):
                    callback.save_on_exception = False


def _end_with(parent: int) -> None:
    """End this process, whatever it does, a while after another."""
    while os.getppid() == parent:
        time.sleep(LOOKS_EVERY)
    time.sleep(PATIENCE)
    log.error("the first process of this run (%d) is gone: this one ends too", parent)
    os._exit(1)
