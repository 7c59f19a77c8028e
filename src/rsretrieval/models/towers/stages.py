"""The stages of a timm network, and moments of their maps; of an EfficientNet those that do not train run apart.

Correlations are what covariance pooling takes from a map (He et al., "Remote Sensing Scene Classification Using
Multilayer Stacked Covariance Pooling", IEEE TGRS 2018), without the deviations, which are there already.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from timm.layers.conv2d_same import Conv2dSame
from timm.models import checkpoint_seq
from torch import Tensor, nn

from rsretrieval.models.feature_cache import trains
from rsretrieval.models.parallel import core_images, in_pieces
from rsretrieval.models.towers.folding import folded, for_inference

CORRELATION_SCALE = 3.0
"""Of correlations beside the other moments, whose numbers are larger: it decides how fast they are learned by AdamW."""
_FROZEN: WeakKeyDictionary[nn.Module, nn.Sequential] = WeakKeyDictionary()
"""Of a network its first stages, as far as none of them trains."""


def stage_moments(model: Any, images: Tensor, correlated: Collection[int] = ()) -> list[Tensor]:  # noqa: ANN401 - timm is untyped
    """The last map, and standard deviations and means over the positions of every stage's map.

    Of an EfficientNet all stages and the last map; of others what timm calls intermediates, of which an EfficientNet
    would leave out two.

    Args:
        model: of timm.
        images: ``(B, C, H, W)`` normalised.
        correlated: stages, the first is 1, of whose map the correlations between channels follow.

    Returns:
        ``(B, C, h, w)``, what ``forward_features`` gives, and ``(B, c)`` float32 twice for each stage; after those of a
        correlated one ``(B, c (c - 1) / 2)``.

    Raises:
        ValueError: for stages that the network does not have.
    """
    if not isinstance(model, timm.models.EfficientNet):
        last, maps = model.forward_intermediates(images)
        each = map(_moments, maps, _marked(correlated, len(maps)))
        return [last, *chain.from_iterable(each)]
    network: Any = for_inference(model)
    first, *blocks = network.blocks
    stages = [nn.Sequential(network.conv_stem, network.bn1, first), *blocks]
    stages.append(nn.Sequential(network.conv_head, network.bn2))
    marked = _marked(correlated, len(stages))
    apart, maps, moments = 0, images, []
    if network is model and torch.is_grad_enabled() and not images.requires_grad and not torch.compiler.is_compiling():
        apart = next((number for number, stage in enumerate(stages) if _changes(stage)), len(stages))
    if apart:
        with torch.no_grad():
            frozen = _frozen_stages(model, stages[:apart])
            maps, *moments = in_pieces(lambda piece: _through(frozen, piece, marked), images, core_images(model))
    last, *above = _through(stages[apart:], maps, marked[apart:], checkpoints=network.grad_checkpointing)
    return [last, *moments, *above]


def _marked(correlated: Collection[int], count: int) -> list[bool]:
    """Of each stage whether it is one of those asked for."""
    if unknown := sorted(set(correlated) - set(range(1, count + 1))):
        raise ValueError(f"correlated_stages: there are no stages {unknown}; the network has stages 1 to {count}")
    return [number in correlated for number in range(1, count + 1)]


def _changes(stage: nn.Sequential) -> bool:
    """Whether a step changes it, a weight or a statistic."""
    return trains(stage) or any(child.training for child in stage)


def _frozen_stages(model: nn.Module, stages: list[nn.Sequential]) -> Any:  # noqa: ANN401 - layers in a row
    """Stages of which none trains, their batch norms folded."""
    if model not in _FROZEN or len(_FROZEN[model]) != len(stages):
        _FROZEN[model] = nn.Sequential(*stages)
    return folded(_FROZEN[model])


def _through(
    stages: Sequence[nn.Module], maps: Tensor, marked: Sequence[bool], *, checkpoints: bool = False
) -> list[Tensor]:
    moments: list[Tensor] = []
    for stage, correlations in zip(stages, marked, strict=False):
        maps = checkpoint_seq(stage, maps) if checkpoints else stage(maps)
        moments += _moments(maps, correlations)
    return [maps, *moments]


def _moments(maps: Tensor, correlations: bool) -> list[Tensor]:
    """Standard deviation and mean of maps ``(B, C, H, W)``, each ``(B, C)`` float32; and the correlations of channels.

    The latter, times ``CORRELATION_SCALE``, are those above the diagonal, row by row. A constant channel has none: 0.
    """
    maps = maps.float()
    if maps.requires_grad:
        moments = list(torch.std_mean(maps, dim=(2, 3)))
    else:  # two passes are as exact as torch's one, and several times faster
        mean = maps.mean((2, 3), keepdim=True)
        centred = maps - mean
        squares = (centred * centred).sum((2, 3))
        moments = [(squares / (maps.shape[2] * maps.shape[3] - 1)).sqrt(), mean.flatten(1)]
    if correlations:
        rows, columns = torch.triu_indices(maps.shape[1], maps.shape[1], 1, device=maps.device)
        with torch.autocast(maps.device.type, enabled=False):
            unit = F.normalize((maps - moments[1][:, :, None, None]).flatten(2), dim=2)
            moments.append(CORRELATION_SCALE * (unit @ unit.mT)[:, rows, columns])
    return moments


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
