"""Callbacks that watch a figure, such as checkpoints: that it will come is looked at before the first step."""

from __future__ import annotations

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from rsretrieval.registry import meant
from rsretrieval.sweeps.definition import FIGURES
from rsretrieval.training.callbacks import ValueGuidedLearning
from rsretrieval.training.module import RetrievalModule

KNOWN = ("rsretrieval", "lightning")
"""Packages whose callbacks log nothing but what is known here."""

OTHERS = ("gradient_norm", "stage", "bias", "data/skipped", "val/skipped", "step", "epoch")
GROUPS = ("learning_rate/", "temperature/", "weight/", "speed/", "time/", "memory/")
"""Beginnings of what is logged too, with names that depend on the settings."""


class MonitorError(ValueError):
    """A figure that is watched and never comes."""


def check_monitors(trainer: Trainer, module: LightningModule) -> None:
    """Refuse to train where a checkpoint or an early stop waits for a figure that nobody logs.

    A module or a callback of the user's own may log anything; then nothing is refused.

    Raises:
        MonitorError: with the near names and all of them.
    """
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    others = [one for one in callbacks if type(one).__module__.partition(".")[0] not in KNOWN]
    if others or type(module) is not RetrievalModule:
        return
    stages = [stage for one in callbacks if isinstance(one, ValueGuidedLearning) for stage in one.stages]
    trained = dict.fromkeys(f"train/{name}" for stage in stages for name in stage.losses)
    names = [*FIGURES, "train/loss", *trained, *OTHERS]
    for callback in callbacks:
        monitor = callback.monitor if isinstance(callback, ModelCheckpoint | EarlyStopping) else None
        if monitor is not None and monitor not in names and not monitor.startswith(GROUPS):
            raise MonitorError(
                f"{type(callback).__name__} monitors '{monitor}', which never comes{meant(monitor, names)}; there are "
                f"{names} (checkpoint.monitor, trainer.callbacks)"
            )
