"""Several towers side by side: their global vectors end to end, and the tokens of the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rsretrieval.models.adaptation import adapt
from rsretrieval.models.config import TowerConfig
from rsretrieval.models.towers.registry import IMAGE_TOWERS, TEXT_TOWERS
from rsretrieval.types import Tokenizer, Tokens, TowerOutput


class _Concat(nn.Module):
    """Towers of ``options.towers``, each with its own ``frozen``, ``frozen_layers`` and ``lora``."""

    def __init__(self, config: TowerConfig, build: Callable[[TowerConfig], Any], run: Callable[[Any], object]) -> None:
        super().__init__()
        parts = config.parts()
        towers = [build(part) for part in parts]
        self._frozen = [
            module
            for tower, part in zip(towers, parts, strict=True)
            for module in adapt(tower, part, partial(run, tower))
        ]
        self.towers = nn.ModuleList(towers)
        self.pooled_width, self.token_width = sum(t.pooled_width for t in towers), towers[0].token_width

    def train(self, mode: bool = True) -> _Concat:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in getattr(self, "_frozen", []):
            module.eval()
        return self


def _side_by_side(outputs: Sequence[TowerOutput]) -> TowerOutput:
    return TowerOutput(torch.cat([output.pooled for output in outputs], dim=1), outputs[0].tokens)


class ConcatImageTower(_Concat):
    """Several image towers side by side."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        blank = torch.zeros(1, 3, image_size, image_size)
        super().__init__(config, lambda part: IMAGE_TOWERS[part.library](part, image_size), lambda tower: tower(blank))

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, 3, H, W)`` normalised images."""
        return _side_by_side([tower(images) for tower in self.towers])


class ConcatTokenizer:
    """What each tower's tokeniser gives, under ``NUMBER.NAME``."""

    def __init__(self, tokenizers: Sequence[Tokenizer]) -> None:
        self.tokenizers = tokenizers

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to tensors ``(M, L)``."""
        each = enumerate(self.tokenizers)
        return {f"{number}.{key}": value for number, one in each for key, value in one(texts).items()}

    @staticmethod
    def of_tower(tokens: Tokens, number: int) -> Mapping[str, Tensor]:
        """The tokens of one tower, under its own names."""
        start = f"{number}."
        return {key.removeprefix(start): value for key, value in tokens.items() if key.startswith(start)}


class ConcatTextTower(_Concat):
    """Several text towers side by side, such as one that trains and the same as it was pre-trained."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__(
            config, lambda part: TEXT_TOWERS[part.library](part), lambda tower: tower(tower.tokenizer(["a"]))
        )
        towers: Any = self.towers
        self.tokenizer = ConcatTokenizer([tower.tokenizer for tower in towers])

    def forward(self, tokens: Tokens) -> TowerOutput:
        """Encode tokenised texts."""
        return _side_by_side(
            [tower(ConcatTokenizer.of_tower(tokens, number)) for number, tower in enumerate(self.towers)]
        )
