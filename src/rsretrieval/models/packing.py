"""Tensors for a file: in half precision, or matrices in eight bits with a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = "|scale"
"""After a tensor's name, where it is kept as integers of eight bits."""


def pack(tensors: Mapping[str, Tensor], *, int8: bool) -> dict[str, Tensor]:
    """Smaller tensors by the same names; numbers that half precision cannot hold stay in single precision.

    Args:
        tensors: to write.
        int8: keep matrices as integers of eight bits, and their scales under ``NAME|scale``.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            packed[name] = tensor
        elif int8 and tensor.ndim >= 2:
            scale = tensor.abs().amax(dim=tuple(range(1, tensor.ndim)), keepdim=True).clamp_min(1e-12) / 127
            packed[name], packed[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            packed[name] = tensor.half() if tensor.abs().le(torch.finfo(torch.half).max).all() else tensor.float()
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def unpack(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`pack` was given, in float32, as far as it was kept."""
    return {
        name: tensor.float() * packed[name + SCALE] if name + SCALE in packed else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(SCALE)
    }
