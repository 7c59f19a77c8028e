"""Image towers and the convolutional branch of FGIS, from timm."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.models.config import TowerConfig, is_pretrained
from rsretrieval.models.loading import load_into
from rsretrieval.models.towers.folding import for_inference
from rsretrieval.models.towers.stages import depthwise_in_float32, stage_moments
from rsretrieval.models.weights import weights_to_load
from rsretrieval.types import TowerOutput


def build_timm(name: str, weights: str | None, options: Mapping[str, Any], image_size: int | None = None) -> nn.Module:
    """A timm model with its weights and without its classifier.

    Raises:
        ValueError: if timm has no such model.
        WeightsError: if the weights do not fit.
    """
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(pretrained=False), n=5, cutoff=0.5)
        raise ValueError(f"timm has no model '{name}'; near it are {near}: see timm.list_models()")
    weights = weights_to_load(weights)
    sized = {"img_size": image_size} if image_size and _takes_size(name) else {}
    model: Any = timm.create_model(name, pretrained=is_pretrained(weights), **{**sized, **options})
    if weights and not is_pretrained(weights):
        classifier = model.pretrained_cfg.get("classifier") or ()
        names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        load_into(model, weights, optional=tuple(f"{prefix}." for prefix in names))
    model.reset_classifier(0)
    depthwise_in_float32(model)
    channels_last: nn.Module = model.to(memory_format=torch.channels_last)  # nearly doubles convolutions on a CPU
    return channels_last


def _takes_size(name: str) -> bool:
    return name.startswith(("vit", "swin", "deit", "eva", "beit"))


class TimmImageTower(nn.Module):
    """Any timm classification model; its own pooling gives the global vector."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        self.model: Any = build_timm(config.name, config.weights, config.options, image_size)
        self.all_stages, self.correlated = config.pooling == "all_stages", config.correlated_stages
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, 3, H, W)`` normalised images."""
        model: Any = self.model if self.all_stages else for_inference(self.model)
        images = images.contiguous(memory_format=torch.channels_last)
        if self.all_stages:
            maps, *vectors = stage_moments(model, images, self.correlated)
            pooled = torch.cat([model.forward_head(maps, pre_logits=True).float(), *vectors], dim=1)
        else:
            maps = model.forward_features(images)
            pooled = model.forward_head(maps, pre_logits=True)
        if maps.ndim == 3:
            return TowerOutput(pooled, maps[:, getattr(model, "num_prefix_tokens", 0) :])
        channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        return TowerOutput(pooled, maps.flatten(1, 2) if channels_last else maps.flatten(2).transpose(1, 2))


class ConvolutionalBranch(nn.Module):
    """Early map and pooled last map of a timm network, as FGIS wants them.

    Args:
        config: a timm tower; the paper's is a frozen ResNet-50 pre-trained on remote-sensing scenes.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.model = build_timm(config.name, config.weights, config.options)
        info: Any = self.model.feature_info
        self.early_channels, self.width = info[0]["num_chs"], info[-1]["num_chs"]
        self.halve = info[0]["reduction"] == 2

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` to the early map ``(B, C, H/4, W/4)`` and the pooled last map ``(B, width)``."""
        model: Any = for_inference(self.model)
        images = images.contiguous(memory_format=torch.channels_last)
        early, last = model.forward_intermediates(
            images, indices=[0, len(model.feature_info) - 1], intermediates_only=True
        )
        if self.halve:  # for a ResNet this is its stem after max-pooling
            early = F.max_pool2d(early, kernel_size=3, stride=2, padding=1)
        return early, last.mean((2, 3))
