"""The stages of a timm network, and moments of their maps; of an EfficientNet those that do not train run apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from weakref import WeakKeyDictionary

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.models import checkpoint_seq
from torch import Tensor, nn

from rsretrieval.models.feature_cache import trains
from rsretrieval.models.parallel import core_images, in_pieces
from rsretrieval.models.towers.folding import folded, for_inference

_FROZEN: WeakKeyDictionary[nn.Module, nn.Sequential] = WeakKeyDictionary()
"""Of a network its first stages, as far as none of them trains."""


def stage_moments(model: Any, images: Tensor) -> list[Tensor]:  # noqa: ANN401 - timm is untyped
    """The last map, and standard deviations and means over the positions of every stage's map.

    Of an EfficientNet all stages and the last map; of others what timm calls intermediates, of which an EfficientNet
    would leave out two.

    Args:
        model: of timm.
        images: ``(B, C, H, W)`` normalised.

    Returns:
        ``(B, C, h, w)``, what ``forward_features`` gives, and ``(B, c)`` float32 twice for each stage.
    """
    if not isinstance(model, timm.models.EfficientNet):
        last, maps = model.forward_intermediates(images)
        return [last, *(moment for stage in maps for moment in _moments(stage))]
    network: Any = for_inference(model)
    first, *blocks = network.blocks
    stages = [nn.Sequential(network.conv_stem, network.bn1, first), *blocks]
    stages.append(nn.Sequential(network.conv_head, network.bn2))
    apart, maps, moments = 0, images, []
    if network is model and torch.is_grad_enabled() and not images.requires_grad and not torch.compiler.is_compiling():
        apart = next((number for number, stage in enumerate(stages) if _changes(stage)), len(stages))
    if apart:
        with torch.no_grad():
            frozen = _frozen_stages(model, stages[:apart])
            maps, *moments = in_pieces(lambda piece: _through(frozen, piece), images, core_images(model))
    last, *above = _through(stages[apart:], maps, checkpoints=network.grad_checkpointing)
    return [last, *moments, *above]


def _changes(stage: nn.Sequential) -> bool:
    """Whether a step changes it, a weight or a statistic."""
    return trains(stage) or any(child.training for child in stage)


def _frozen_stages(model: nn.Module, stages: list[nn.Sequential]) -> Any:  # noqa: ANN401 - layers in a row
    """Stages of which none trains, their batch norms folded."""
    if model not in _FROZEN or len(_FROZEN[model]) != len(stages):
        _FROZEN[model] = nn.Sequential(*stages)
    return folded(_FROZEN[model])


def _through(stages: Iterable[nn.Module], maps: Tensor, *, checkpoints: bool = False) -> list[Tensor]:
    moments: list[Tensor] = []
    for stage in stages:
        maps = checkpoint_seq(stage, maps) if checkpoints else stage(maps)
        moments += _moments(maps)
    return [maps, *moments]


def _moments(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean of maps ``(B, C, H, W)``, each ``(B, C)`` float32."""
    maps = maps.float()
    if maps.requires_grad:
        return torch.std_mean(maps, dim=(2, 3))
    mean = maps.mean((2, 3), keepdim=True)  # two passes are as exact as torch's one, and several times faster
    centred = maps - mean
    squares = (centred * centred).sum((2, 3))
    return (squares / (maps.shape[2] * maps.shape[3] - 1)).sqrt(), mean.flatten(1)


class Depthwise(nn.Conv2d):
    """A depthwise convolution that trains in float32 on a CPU: its gradients in bf16 take several times as long."""

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)``; the result is float32 where autocast is overruled."""
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        if not trained or maps.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(maps)
        with torch.autocast("cpu", enabled=False):
            return super().forward(maps.float())


class DepthwiseSame(Depthwise, Conv2dSame):
    """The same with TensorFlow's padding."""


def depthwise_in_float32(network: nn.Module) -> None:
    """Let a network's depthwise convolutions be :class:`Depthwise`, in place."""
    kinds: dict[type, type[nn.Module]] = {nn.Conv2d: Depthwise, Conv2dSame: DepthwiseSame}
    for module in network.modules():
        if type(module) in kinds and module.groups == module.in_channels != 1:
            module.__class__ = kinds[type(module)]
