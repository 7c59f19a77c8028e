"""Runs the command line and kills its process by SIGKILL after a number of batches, as a cluster does."""

import os
import signal

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from rsretrieval import cli


def main(batches: int, args: list[str]) -> None:
    """Let the checkpoint of that batch be written, then die."""
    save = ModelCheckpoint.on_train_batch_end

    def save_and_die(
        self: ModelCheckpoint, trainer: Trainer, pl_module: LightningModule, *rest: object, **more: object
    ) -> None:
        save(self, trainer, pl_module, *rest, **more)
        if self.filename == "last-step" and trainer.global_step >= batches:
            os.kill(os.getpid(), signal.SIGKILL)

    ModelCheckpoint.on_train_batch_end = save_and_die
    cli.main(args)
