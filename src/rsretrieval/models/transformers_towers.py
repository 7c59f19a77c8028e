"""Image and text towers from transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from rsretrieval.models.tower_config import Texts, TowerConfig, is_pretrained
from rsretrieval.models.weights import FORMS, WeightsError, locate
from rsretrieval.types import Features


def _pool(tokens: Tensor, mask: Tensor) -> Tensor:
    """``(B, T, W)`` to ``(B, W)``: the mean over the tokens that the mask ``(B, T)`` keeps."""
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1)


class TransformersImageTower(nn.Module):
    """Any vision model of transformers that gives hidden states; their mean is the global vector."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        self.model, _ = _build_transformers(config)
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` normalised images."""
        tokens = self.model(pixel_values=images).last_hidden_state
        tokens = tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens
        return Features(tokens.mean(1), tokens)


def _build_transformers(config: TowerConfig) -> tuple[Any, str]:
    """The model, and the folder or hub id that it and its tokeniser came from."""
    place = config.name
    if config.weights and not is_pretrained(config.weights):
        place = str(locate(config.weights))
    try:
        if config.weights:
            model = AutoModel.from_pretrained(place, dtype=torch.float32, **config.options)
        else:
            settings = AutoConfig.from_pretrained(place, **config.options)
            model = AutoModel.from_config(settings, dtype=torch.float32)  # type: ignore[no-untyped-call]
    except OSError as error:
        raise WeightsError(f"transformers finds no model at '{place}' ({error}); weights may be {FORMS}") from error
    return model, place


class TransformersTextTower(nn.Module):
    """Any text encoder of transformers, with its own tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.model, place = _build_transformers(config)
        self.tokenizer = AutoTokenizer.from_pretrained(place, padding_side="right")
        if config.pooling not in ("cls", "mean", "levels"):
            raise ValueError(f"pooling='{config.pooling}' is unknown; possible are 'cls', 'mean' and 'levels'")
        self.pooled_width = self.token_width = int(self.model.config.hidden_size)
        if config.pooling == "levels":
            self.pooled_width *= int(self.model.config.num_hidden_layers) + 1
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used here; DDP takes parameters without a gradient for a fault

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids ``(M, L)`` and attention mask, padded to the longest."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        return {key: encoded[key] for key in ("input_ids", "attention_mask")}

    def forward(self, texts: Texts) -> Features:
        """Encode tokenised texts; on a CPU those of like length together, which halves the padding."""
        ids, mask = texts["input_ids"], texts["attention_mask"]
        if not self.config.attention_mask:
            return self._encode(ids, torch.ones_like(mask))
        if ids.device.type != "cpu":
            return self._encode(ids, mask)
        lengths = mask.sum(1)
        order = lengths.argsort()
        parts = [
            self._encode(*(f[rows, : int(lengths[rows[-1]])] for f in (ids, mask))) for rows in torch.split(order, 64)
        ]
        tokens = [F.pad(part.tokens, (0, 0, 0, ids.shape[1] - part.tokens.shape[1])) for part in parts]
        back = order.argsort()
        return Features(torch.cat([part.pooled for part in parts])[back], torch.cat(tokens)[back])

    def _encode(self, ids: Tensor, mask: Tensor) -> Features:
        levels = self.config.pooling == "levels"
        found = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=levels)
        tokens: Tensor = found.last_hidden_state
        if self.config.pooling == "cls":
            return Features(tokens[:, 0], tokens)
        states = found.hidden_states if levels else [tokens]
        return Features(torch.cat([_pool(state, mask) for state in states], dim=1), tokens)
