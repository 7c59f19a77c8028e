"""Gradient checkpointing of towers (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from rsretrieval.models.config import EncoderConfig


def checkpoint_gradients(towers: Sequence[nn.Module], config: EncoderConfig) -> None:
    """Let every tower that trains keep the inputs of its blocks alone, where the settings ask for that.

    Args:
        towers: of an encoder, changed in place.
        config: its settings, of as many towers.

    Raises:
        ValueError: naming the tower that cannot.
    """
    if not config.gradient_checkpointing:
        return
    sides = [side for side in (config.image, config.text, config.convolutional_branch) if side is not None]
    for tower, part in zip(towers, [part for side in sides for part in side.parts()], strict=True):
        if any(parameter.requires_grad for parameter in tower.parameters()) and not _switch_on(tower):
            raise ValueError(
                f"gradient_checkpointing: the tower '{part.name}' ({part.library}) has no such mode: set "
                "gradient_checkpointing: false and use chunk_size, freeze this tower, or take another"
            )


def _switch_on(tower: nn.Module) -> bool:
    """Use each library's own switch; whether there was one."""
    found = False
    module: Any
    for module in tower.modules():
        if hasattr(module, "grad_checkpointing"):  # timm and open_clip
            module.grad_checkpointing = found = True
        elif getattr(module, "supports_gradient_checkpointing", False):  # transformers
            module.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            found = True
    return found
