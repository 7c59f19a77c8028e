"""Layers of a network by the names of its parameters: which of them are frozen, and how fast each learns."""

from __future__ import annotations

import re

from torch import nn

_NUMBERED = re.compile(r"(?:^|\.)(?:layers?|blocks|stages|resblocks)[._]?(\d+)(?:\.|$)")


def layer_numbers(network: nn.Module) -> dict[str, int]:
    """Layer of every parameter, by name: 0 for what comes before the numbered layers, the last for what comes after.

    Example:
        >>> layer_numbers(nn.Sequential())
        {}
        >>> sorted(set(layer_numbers(nn.ModuleDict({"stem": nn.Linear(1, 1), "layers": nn.ModuleList(
        ...     [nn.Linear(1, 1), nn.Linear(1, 1)]), "norm": nn.LayerNorm(1)})).values()))
        [0, 1, 2, 3]
    """
    found = {name: _NUMBERED.search(name) for name, _ in network.named_parameters()}
    places: dict[str, float] = {}
    for name, match in found.items():
        began = any(place >= 0 for place in places.values())
        places[name] = float(match[1]) if match else float("inf") if began else -1.0
    order = sorted(set(places.values()))
    return {name: order.index(place) for name, place in places.items()}


def freeze(network: nn.Module, *, frozen: bool = False, layers: int = 0) -> list[nn.Module]:
    """Stop the training of a whole network, or of its first layers.

    Args:
        network: changed in place.
        frozen: all of it.
        layers: so many layers, see :func:`layer_numbers`.

    Returns:
        The modules to keep in evaluation mode.

    Raises:
        ValueError: if the network has fewer layers.
    """
    if frozen:
        network.requires_grad_(False)
        return [network]
    numbers = layer_numbers(network)
    there = max(numbers.values(), default=-1) + 1
    if layers > there:
        raise ValueError(f"{layers} layers cannot be frozen of {there}: lower frozen_layers, or set frozen")
    for name, parameter in network.named_parameters():
        if numbers[name] < layers:
            parameter.requires_grad_(False)
    held = [(module, list(module.parameters())) for module in network.modules()]
    return [module for module, parameters in held if parameters and not any(p.requires_grad for p in parameters)]
