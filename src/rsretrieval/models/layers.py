"""Layers: those of a network by the names of its parameters, frozen or slower; dropout; a linear layer in blocks."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_NUMBERED = re.compile(r"(?:^|\.)(?:layers?|blocks|stages|resblocks)[._]?(\d+)(?:\.|$)")
_INPUT = re.compile(r"(?:^|\.)(?:\w+_)?(?:embed|embeddings?|tokens?)(?:\.|$)")
_OUTPUT = re.compile(r"(?:^|\.)(?:(?:\w+_)?proj(?:ection)?$|(?:attnpool|attn_pool|pooler|head)\.)")


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """Layer of every parameter, by name: 0 for what comes before the numbered layers, the last for what comes after.

    Embeddings come before and projections after, wherever they are registered (open_clip registers a tower's output
    projection first and a text's token embedding last); others by their place among the numbered layers.

    Example:
        >>> layer_numbers(nn.Sequential())
        {}
        >>> sorted(set(layer_numbers(nn.ModuleDict({"stem": nn.Linear(1, 1), "layers": nn.ModuleList(
        ...     [nn.Linear(1, 1), nn.Linear(1, 1)]), "norm": nn.LayerNorm(1)})).values()))
        [0, 1, 2, 3]
    """
    positions: dict[str, float] = {}
    for name, _ in network.named_parameters():
        if match := _NUMBERED.search(name):
            positions[name] = float(match[1])
        elif _OUTPUT.search(name):
            positions[name] = math.inf
        else:
            began = any(0 <= position < math.inf for position in positions.values())
            positions[name] = math.inf if began and not _INPUT.search(name) else -1.0
    order = sorted(set(positions.values()))
    return {name: order.index(position) for name, position in positions.items()}


def freeze(network: nn.Module, *, frozen: bool = False, layers: int = 0, statistics: bool = False) -> list[nn.Module]:
    """Stop the training of a whole network, or of its first layers.

    Args:
        network: changed in place.
        frozen: all of it.
        layers: so many layers, see :func:`layer_numbers`.
        statistics: those of all batch norms.

    Returns:
        The modules to keep in evaluation mode.

    Raises:
        ValueError: if the network has fewer layers, or no batch norm of which statistics could be frozen.
    """
    if frozen:
        network.requires_grad_(False)
        return [network]
    numbers = layer_numbers(network)
    count = max(numbers.values(), default=-1) + 1
    if layers > count:
        raise ValueError(f"{layers} layers cannot be frozen of {count}: lower frozen_layers, or set frozen")
    for name, parameter in network.named_parameters():
        if numbers[name] < layers:
            parameter.requires_grad_(False)
    owners = [(module, list(module.parameters())) for module in network.modules()]
    still = [module for module, parameters in owners if parameters and not any(p.requires_grad for p in parameters)]
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    if statistics and not norms:
        raise ValueError("frozen_statistics: the network has no batch norm, and so no statistics: leave it out")
    return still + norms * statistics


class Dropout(nn.Dropout):
    """``nn.Dropout`` with masks that a CPU draws faster: 16 random bits a value, four values in one draw."""

    def forward(self, values: Tensor) -> Tensor:
        """Zeros in places, and the rest scaled up, in training."""
        if not self.training or values.device.type != "cpu":
            return super().forward(values)
        bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
        mask = torch.empty(values.shape)
        torch.ge(bits[: values.numel()].view(values.shape), round(self.p * 2**16) - 2**15, out=mask)
        return values * mask.mul_(1 / (1 - self.p)).to(values.dtype)


class BlockLinear(nn.Module):
    """A linear layer for each part of a vector: ``(B, sum of widths)`` to ``(B, len(widths) * out)``."""

    def __init__(self, widths: Sequence[int], out: int) -> None:
        super().__init__()
        self.widths = list(widths)
        self.layers = nn.ModuleList(nn.Linear(width, out) for width in widths)

    def forward(self, vectors: Tensor) -> Tensor:
        """Each part through its layer, end to end."""
        parts = torch.split(vectors, self.widths, dim=-1)
        return torch.cat([layer(part) for layer, part in zip(self.layers, parts, strict=True)], dim=-1)


def logits_of(model: nn.Module) -> tuple[float, float]:
    """Scale and bias of an image-text model's cosines, as its own loss takes them; 1 and 0 where it has none."""
    scale, bias = getattr(model, "logit_scale", None), getattr(model, "logit_bias", None)
    return (1.0 if scale is None else scale.exp().item()), (0.0 if bias is None else bias.item())


def drop_parts(model: nn.Module, parts: Sequence[str]) -> None:
    """Let go of what a side does not need, so that it takes no memory and DDP sees no parameter without a gradient."""
    for part in parts:
        if hasattr(model, part):
            setattr(model, part, None)
