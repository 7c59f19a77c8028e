"""Figures of the training itself, for every logger: rates, gradients, temperatures, speed, waiting for data."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import Any, NamedTuple

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch.optim import Optimizer

from rsretrieval.data.loader import EpochLoader
from rsretrieval.losses import Objective
from rsretrieval.training.module import RetrievalModule


class _Mark(NamedTuple):
    """The state of the clocks at the end of a batch: seconds of training and of waiting, pairs of all processes."""

    seconds: float
    waited: float
    pairs: int


class TrainingFigures(Callback):
    """Logs what a training does, by its steps.

    - ``learning_rate/xF`` of each group of parameters, where ``F`` is its rate by ``model.optimizer.learning_rate``;
    - ``gradient_norm``, the Euclidean norm of all gradients before they are clipped;
    - ``temperature/contrastive``, ``temperature/affiliation`` and, where the objective has one, ``bias``;
    - ``speed/pairs_per_second``, of all processes, and ``speed/waiting_for_data``, the share of the time in which the
      first process waited for a batch; over the last ``trainer.log_every_n_steps`` batches, without validation;
    - after each epoch ``time/epoch``, seconds with validation (of an epoch that was resumed, of its rest),
      ``memory/peak_GB``, the most that the first process had in memory so far, without its loader's workers, and
      ``memory/gpu_peak_GB`` of its GPU.
    """

    def __init__(self) -> None:
        self._begin(1)

    def _begin(self, batches: int) -> None:
        self._start, self._pairs = time.monotonic(), 0
        self._marks = deque([_Mark(0.0, 0.0, 0)], maxlen=batches + 1)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._begin(max(trainer.log_every_n_steps, 1))  # type: ignore[attr-defined]
        self._waited_before = _waited(trainer)
        self._epoch_began = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the epoch's clock; not called where an epoch is resumed."""
        self._epoch_began = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log what the epoch took."""
        if isinstance(pl_module, RetrievalModule):
            pl_module.log_dict({"time/epoch": time.monotonic() - self._epoch_began, **_memory(pl_module.device)})

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self._stopped = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it again."""
        self._start += time.monotonic() - self._stopped

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log what the step is made with."""
        if not isinstance(pl_module, RetrievalModule):
            return
        gradients = [parameter.grad for parameter in pl_module.parameters() if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        rates = _rates(optimizer, pl_module.optimizer.learning_rate)
        pl_module.log_dict({**rates, "gradient_norm": norm, **_temperatures(pl_module.objective)})

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Log the speed."""
        if not isinstance(pl_module, RetrievalModule):
            return
        self._pairs += len(batch.image_ids) * trainer.world_size
        waited = _waited(trainer) - self._waited_before
        now = _Mark(time.monotonic() - self._start, waited, self._pairs)
        self._marks.append(now)
        first = self._marks[0]
        seconds = max(now.seconds - first.seconds, 1e-9)
        pl_module.log("speed/pairs_per_second", (now.pairs - first.pairs) / seconds)
        if isinstance(trainer.train_dataloader, EpochLoader):
            pl_module.log("speed/waiting_for_data", (now.waited - first.waited) / seconds)


def _waited(trainer: Trainer) -> float:
    """Seconds that this process has waited for batches."""
    loader = trainer.train_dataloader
    return loader.waited if isinstance(loader, EpochLoader) else 0.0


def _memory(device: torch.device) -> dict[str, float]:
    """The most that was used so far, in GB; of main memory where the system tells."""
    figures = {}
    try:
        import resource
    except ImportError:  # not on Windows
        pass
    else:
        unit = 1 if sys.platform == "darwin" else 1024  # bytes
        figures["memory/peak_GB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    if device.type == "cuda":
        figures["memory/gpu_peak_GB"] = torch.cuda.max_memory_allocated(device) / 1e9
    return figures


def _rates(optimizer: Optimizer, highest: float) -> dict[str, float]:
    """The learning rate of each group, by the factor that sets it apart; groups of one rate are one."""
    rates = {}
    for group in optimizer.param_groups:
        factor = group.get("initial_lr", highest) / highest if highest else 1.0
        rates[f"learning_rate/x{factor:.3g}"] = float(group["lr"])
    return rates


def _temperatures(objective: Objective) -> dict[str, torch.Tensor]:
    values = {
        "temperature/contrastive": objective.temperature,
        "temperature/affiliation": objective.affiliation_temperature,
        "bias": objective.bias,
    }
    return {name: value.detach() for name, value in values.items() if value is not None}
