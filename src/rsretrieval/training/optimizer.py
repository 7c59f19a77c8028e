"""AdamW, warmed up, with a rate for each layer: what of a model learns, and how fast."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from rsretrieval.models.layers import layer_numbers


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and decay; the defaults are the paper's for RSICD (6e-5 on RSITMD).

    Attributes:
        learning_rate: peak.
        tower_factor: of the learning rate, for the towers.
        layer_decay: of the learning rate, from each layer of a tower to the one below it (1 for equal rates).
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: none on biases and norms.
        warmup: fraction of the steps in which the rate rises.
    """

    learning_rate: float = 4e-5
    tower_factor: float = 1.0
    layer_decay: float = 1.0
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "betas", tuple(self.betas))  # settings files know lists alone
        if self.learning_rate == 0:
            raise ValueError("learning_rate=0: nothing would be learned; give more (tower_factor: 0 keeps towers)")
        for name in ("learning_rate", "tower_factor", "layer_decay", "weight_decay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)}: give 0 or more")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup={self.warmup}: give the fraction of the steps, from 0 to 1")


def parameter_groups(network: nn.Module, towers: Iterable[nn.Module], config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trainable parameters by learning rate and decay; none on biases and norms (fewer than two dimensions).

    Args:
        network: all that learns.
        towers: those of its parts that learn by ``tower_factor`` and ``layer_decay``.
        config: rates and decay.
    """
    depths: dict[int, int] = {}  # of a tower's parameter: layers above it
    for tower in towers:
        numbers = layer_numbers(tower)
        for name, number in numbers.items():
            depths[id(tower.get_parameter(name))] = max(numbers.values()) - number
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            depth = depths.get(id(parameter))
            factor = 1.0 if depth is None else config.tower_factor * config.layer_decay**depth
            decay = config.weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((config.learning_rate * factor, decay), []).append(parameter)
    return [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()]


def adamw(groups: list[dict[str, Any]], config: OptimizerConfig, steps: int) -> tuple[AdamW, LambdaLR]:
    """The optimiser of :func:`parameter_groups` and its schedule by step: warm-up, then linear decay to 0.

    Raises:
        ValueError: for parameters in half precision, where ``eps`` is 0.
    """
    halves = any(parameter.dtype == torch.half for group in groups for parameter in group["params"])
    if halves and not torch.tensor(config.eps, dtype=torch.half):
        raise ValueError(
            f"optimizer.eps={config.eps} is 0 in half precision, and the first step divides by it: train with "
            "--trainer.precision 16-mixed or bf16-mixed"
        )
    optimizer = AdamW(groups, betas=config.betas, eps=config.eps)
    warmup = max(round(config.warmup * steps), 1)

    def factor(step: int) -> float:
        return min((step + 1) / warmup, max(steps - step, 0) / max(steps - warmup, 1), 1.0)

    return optimizer, LambdaLR(optimizer, factor)
