"""Both sides of an image-text model of transformers (CLIP, SigLIP), with its own heads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rsretrieval.models.config import TowerConfig
from rsretrieval.models.layers import drop_parts, logits_of
from rsretrieval.models.towers.transformers_folder import build_transformers, read_tokenizer, transformers_config
from rsretrieval.types import Tokens, TowerOutput

PAIRS = ("clip", "siglip")
"""Values of ``model_type`` that are read: each has ``get_image_features`` and ``get_text_features``."""
PADS_TO_THE_END = ("siglip",)
"""Those that were trained on texts filled up to their full length, which they attend to."""


def is_pair(config: TowerConfig) -> bool:
    """Whether a tower's model is an image-text model.

    Raises:
        ValueError: for an image-text model that is not read.
        WeightsError: if there is no model.
    """
    settings = transformers_config(config)
    if settings.model_type not in PAIRS and hasattr(settings, "text_config") and hasattr(settings, "vision_config"):
        raise ValueError(
            f"'{config.name}' is an image-text model of the type '{settings.model_type}', which is not read; possible "
            f"are {PAIRS} (SigLIP 2 of a fixed image size is of the type 'siglip')"
        )
    return settings.model_type in PAIRS


class TransformersPairImageTower(nn.Module):
    """The image side: the projection of CLIP, the pooled vector of SigLIP."""

    with_tokens = True

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        self.model, _ = build_transformers(config)
        own_size = int(self.model.config.vision_config.image_size)
        self.stretch = own_size != image_size
        self.logits = logits_of(self.model)
        drop_parts(self.model, ("text_model", "text_projection", "logit_scale", "logit_bias"))
        with torch.no_grad():
            channels = int(self.model.config.vision_config.num_channels)
            probe = self.eval()(torch.zeros(1, channels, image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, 3, H, W)`` normalised images; positions are stretched to an image size that is not the model's own."""
        output = self.model.get_image_features(pixel_values=images, interpolate_pos_encoding=self.stretch)
        tokens = output.last_hidden_state
        has_class_token = self.model.config.model_type == "clip"
        return TowerOutput(output.pooler_output, tokens[:, 1:] if has_class_token else tokens)


class TransformersPairTokenizer:
    """A pair's own tokeniser: padded as it was trained, cut at its context."""

    def __init__(self, config: TowerConfig) -> None:
        settings = transformers_config(config)
        self.tokenizer = read_tokenizer(config, subfolder=config.options.get("subfolder", ""))
        self.context = int(settings.text_config.max_position_embeddings)
        self.padding = "max_length" if settings.model_type in PADS_TO_THE_END else True

    @classmethod
    def of(cls, config: TowerConfig) -> TransformersPairTokenizer:
        """That of a tower, which need not be built."""
        return cls(config)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to the tensors ``(M, L)`` that the model takes."""
        encoded = self.tokenizer(
            list(texts), padding=self.padding, truncation=True, max_length=self.context, return_tensors="pt"
        )
        return {key: encoded[key] for key in ("input_ids", "attention_mask") if key in encoded}


class TransformersPairTextTower(nn.Module):
    """The text side: the projection of CLIP, the pooled vector of SigLIP."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.model, _ = build_transformers(config)
        self.tokenizer = TransformersPairTokenizer.of(config)
        drop_parts(self.model, ("vision_model", "visual_projection", "logit_scale", "logit_bias"))
        with torch.no_grad():
            self.pooled_width = self.token_width = self.eval()(self.tokenizer(["a"])).pooled.shape[-1]

    def forward(self, tokens: Tokens) -> TowerOutput:
        """Encode tokenised texts."""
        return TowerOutput(self.model.get_text_features(**tokens).pooler_output, None)
