"""Image and text towers from timm, open_clip and transformers behind one contract, and the convolutional prior.

A tower gives a global vector ``(B, width)`` and tokens ``(B, T, width)``. A new library is one class and one line in
:data:`IMAGE_TOWERS` or :data:`TEXT_TOWERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rsretrieval.models.layers import freeze
from rsretrieval.models.open_clip_towers import OpenClipImageTower, OpenClipTextTower
from rsretrieval.models.timm_towers import TimmImageTower
from rsretrieval.models.tower_config import Texts, TowerConfig
from rsretrieval.models.transformers_towers import TransformersImageTower, TransformersTextTower
from rsretrieval.types import Features


class _Joint(nn.Module):
    """Several towers side by side: their global vectors end to end, and the tokens of the first."""

    def __init__(self, config: TowerConfig, build: Callable[[TowerConfig], Any]) -> None:
        super().__init__()
        parts = [TowerConfig(**part) for part in config.options.get("towers", ())]
        if not parts:
            raise ValueError("a tower of the library 'joint' needs options.towers: a list of towers")
        towers = [build(part) for part in parts]
        self.kept = [
            module
            for tower, part in zip(towers, parts, strict=True)
            for module in freeze(tower, frozen=part.frozen, layers=part.frozen_layers)
        ]
        self.towers = nn.ModuleList(towers)
        self.pooled_width, self.token_width = sum(t.pooled_width for t in towers), towers[0].token_width

    def train(self, mode: bool = True) -> _Joint:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in getattr(self, "kept", []):
            module.eval()
        return self


def _side_by_side(found: Sequence[Features]) -> Features:
    return Features(torch.cat([features.pooled for features in found], dim=1), found[0].tokens)


class JointImageTower(_Joint):
    """Several image towers side by side. ``options.towers`` lists them, each like a tower of its own."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__(config, lambda part: library(IMAGE_TOWERS, part, "image")(part, image_size))

    def forward(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` normalised images."""
        return _side_by_side([tower(images) for tower in self.towers])


class JointTextTower(_Joint):
    """Several text towers side by side, such as one that trains and the same as it was pre-trained.

    ``options.towers`` lists them, each like a tower of its own.
    """

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(config, lambda part: library(TEXT_TOWERS, part, "text")(part))

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """What each tower's tokeniser gives, under ``NUMBER.KEY``."""
        towers: Any = self.towers
        return {f"{n}.{key}": value for n, tower in enumerate(towers) for key, value in tower.tokenize(texts).items()}

    def forward(self, texts: Texts) -> Features:
        """Encode tokenised texts."""
        return _side_by_side(
            [
                tower({key.partition(".")[2]: value for key, value in texts.items() if key.startswith(f"{n}.")})
                for n, tower in enumerate(self.towers)
            ]
        )


IMAGE_TOWERS: dict[str, Callable[[TowerConfig, int], nn.Module]] = {
    "timm": TimmImageTower,
    "open_clip": OpenClipImageTower,
    "transformers": TransformersImageTower,
    "joint": JointImageTower,
}


TEXT_TOWERS: dict[str, Callable[[TowerConfig], nn.Module]] = {
    "open_clip": OpenClipTextTower,
    "transformers": TransformersTextTower,
    "joint": JointTextTower,
}


def library(registry: Mapping[str, Any], config: TowerConfig, what: str) -> Any:  # noqa: ANN401 - each registry has its own type
    """The registry's entry for a tower's library.

    Raises:
        ValueError: naming the libraries there are.
    """
    if config.library not in registry:
        raise ValueError(f"no {what} tower from '{config.library}'; possible are {sorted(registry)}")
    return registry[config.library]
