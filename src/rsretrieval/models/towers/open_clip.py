"""Both sides of any open_clip model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from rsretrieval.models.config import TowerConfig, is_pretrained
from rsretrieval.models.weights import WeightsError, locate, weights_to_load
from rsretrieval.types import Tokens, TowerOutput

ARCHITECTURES = Path(__file__).parent / "architectures"
"""Configurations of our own, by name beside open_clip's."""


def _build_open_clip(config: TowerConfig) -> Any:  # noqa: ANN401 - open_clip is untyped
    """The whole open_clip model; ``name`` may be the path of a model configuration (JSON).

    ``text-small`` is our own: a text encoder to train from nothing, with open_clip's embedded tokeniser.
    """
    name = config.name
    open_clip.add_model_config(ARCHITECTURES)
    if name.endswith(".json"):
        open_clip.add_model_config(Path(name))
        name = Path(name).stem
    if name not in open_clip.list_models():
        raise ValueError(f"open_clip has no model '{config.name}'; possible are {open_clip.list_models()}")
    pretrained, weights = None, weights_to_load(config.weights)
    if weights:
        pretrained = weights.partition(":")[2] if is_pretrained(weights) else str(locate(weights))
        if not pretrained:
            tags = open_clip.list_pretrained_tags_by_model(name)
            raise WeightsError(f"open_clip needs a tag, as in 'pretrained:{next(iter(tags), 'TAG')}'; known are {tags}")
    return open_clip.create_model(name, pretrained=pretrained, **config.options)


class OpenClipImageTower(nn.Module):
    """The image side of any open_clip model."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        options = {"force_image_size": image_size, **config.options}
        self.model = _build_open_clip(TowerConfig(config.library, config.name, config.weights, options=options))
        for part in ("transformer", "text", "token_embedding", "ln_final", "text_projection", "positional_embedding"):
            if hasattr(self.model, part):
                setattr(self.model, part, None)
        self.model.logit_scale = None
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, 3, H, W)`` normalised images."""
        out = self.model.forward_intermediates(
            image=images, image_indices=1, image_output_fmt="NCHW", normalize=False, normalize_intermediates=True
        )
        return TowerOutput(out["image_features"], out["image_intermediates"][-1].flatten(2).transpose(1, 2))


class OpenClipTokenizer:
    """A tokeniser of open_clip under the towers' contract."""

    def __init__(self, tokenizer: Callable[[list[str]], Tensor]) -> None:
        self.tokenizer = tokenizer

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to token ids ``(M, context)``."""
        return {"input_ids": self.tokenizer(list(texts))}


class OpenClipTextTower(nn.Module):
    """The text side of any open_clip model, with its own tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.model = _build_open_clip(config)
        self.model.visual = self.model.logit_scale = None
        name = Path(config.name).stem if config.name.endswith(".json") else config.name
        self.tokenizer = OpenClipTokenizer(open_clip.get_tokenizer(name))
        with torch.no_grad():
            probe = self.eval()(self.tokenizer(["a"]))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, tokens: Tokens) -> TowerOutput:
        """Encode tokenised texts."""
        out = self.model.forward_intermediates(text=tokens["input_ids"], text_indices=1, normalize=False)
        return TowerOutput(out["text_features"], out["text_intermediates"][-1])
