"""Both sides of any open_clip model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from rsretrieval.models.tower_config import Texts, TowerConfig, is_pretrained
from rsretrieval.models.weights import WeightsError, locate
from rsretrieval.types import Features


def _build_open_clip(config: TowerConfig) -> Any:  # noqa: ANN401 - open_clip is untyped
    """The whole open_clip model; ``name`` may be the path of a model configuration (JSON).

    ``text-small`` is our own: a text encoder to train from nothing, with open_clip's embedded tokeniser.
    """
    name = config.name
    open_clip.add_model_config(Path(__file__).parent / "open_clip")
    if name.endswith(".json"):
        open_clip.add_model_config(Path(name))
        name = Path(name).stem
    if name not in open_clip.list_models():
        raise ValueError(f"open_clip has no model '{config.name}'; possible are {open_clip.list_models()}")
    pretrained = None
    if config.weights:
        pretrained = config.weights.partition(":")[2] if is_pretrained(config.weights) else str(locate(config.weights))
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

    def forward(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` normalised images."""
        out = self.model.forward_intermediates(
            image=images, image_indices=1, image_output_fmt="NCHW", normalize=False, normalize_intermediates=True
        )
        return Features(out["image_features"], out["image_intermediates"][-1].flatten(2).transpose(1, 2))


class OpenClipTextTower(nn.Module):
    """The text side of any open_clip model, with its own tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.model = _build_open_clip(config)
        self.model.visual = self.model.logit_scale = None
        name = Path(config.name).stem if config.name.endswith(".json") else config.name
        self.tokenizer = open_clip.get_tokenizer(name)
        with torch.no_grad():
            probe = self.eval()(self.tokenize(["a"]))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids ``(M, context)``."""
        return {"input_ids": self.tokenizer(list(texts))}

    def forward(self, texts: Texts) -> Features:
        """Encode tokenised texts."""
        out = self.model.forward_intermediates(text=texts["input_ids"], text_indices=1, normalize=False)
        return Features(out["text_features"], out["text_intermediates"][-1])
