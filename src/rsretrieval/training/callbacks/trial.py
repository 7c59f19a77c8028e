"""A trial of a sweep: its figure after each validation, told to the process that started it, and an end without it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from rsretrieval.registry import meant


class EndsWithParent(Callback):
    """Ends a run as SIGTERM does, with a checkpoint, where the process that started it is gone.

    Args:
        parent: number of that process.
    """

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Look whether it is there."""
        if trainer.is_global_zero and os.getppid() != self.parent:
            signal.raise_signal(signal.SIGTERM)


class TrialProgress(EndsWithParent):
    """Adds a line to a file after each validation: ``{"epoch": 0, "value": 12.5}``.

    Args:
        metric: a figure of validation, such as ``val/mR``.
        file: is made new.
        parent: see :class:`EndsWithParent`.
    """

    def __init__(self, metric: str, file: str, parent: int) -> None:
        super().__init__(parent)
        self.metric, self.file = metric, Path(file)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the file."""
        if trainer.is_global_zero:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.write_text("", encoding="utf-8")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the figure.

        Raises:
            ValueError: naming those that there are, where it is not among them.
        """
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        figures = trainer.callback_metrics
        if self.metric not in figures:
            near = meant(self.metric, figures)
            raise ValueError(f"the sweep's metric '{self.metric}' was not logged{near}; there are {sorted(figures)}")
        line = json.dumps({"epoch": trainer.current_epoch, "value": float(figures[self.metric])})
        with self.file.open("a", encoding="utf-8") as content:
            content.write(f"{line}\n")
