"""Image and text towers from transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.models.config import TowerConfig
from rsretrieval.models.towers.transformers_folder import build_transformers, read_tokenizer
from rsretrieval.types import Tokens, TowerOutput


def _masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """``(B, T, W)`` to ``(B, W)``: the mean over the tokens that the mask ``(B, T)`` keeps."""
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1)


class TransformersImageTower(nn.Module):
    """Any vision model of transformers that gives hidden states; their mean, or the first of them, is the vector."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.model, _ = build_transformers(config)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used here; DDP takes parameters without a gradient for a fault
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, image_size, image_size))
        assert probe.tokens is not None
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, 3, H, W)`` normalised images."""
        tokens = self.model(pixel_values=images).last_hidden_state
        tokens = tokens.flatten(2).transpose(1, 2) if tokens.ndim == 4 else tokens
        return TowerOutput(tokens[:, 0] if self.config.pooling == "cls" else tokens.mean(1), tokens)


class TransformersTokenizer:
    """A tokeniser of transformers under the towers' contract: padded to the longest text, cut at ``max_tokens``."""

    def __init__(self, config: TowerConfig) -> None:
        self.tokenizer = read_tokenizer(config, padding_side="right")
        self.max_tokens = config.max_tokens

    @classmethod
    def of(cls, config: TowerConfig) -> TransformersTokenizer:
        """That of a tower, which need not be built."""
        return cls(config)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to token ids and attention mask, each ``(M, L)``."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        return {key: encoded[key] for key in ("input_ids", "attention_mask")}


class TransformersTextTower(nn.Module):
    """Any text encoder of transformers, with its own tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.config = config
        self.model, _ = build_transformers(config)
        self.tokenizer = TransformersTokenizer.of(config)
        self.pooled_width = self.token_width = int(self.model.config.hidden_size)
        if config.pooling == "all_layers":
            self.pooled_width *= int(self.model.config.num_hidden_layers) + 1
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used here; DDP takes parameters without a gradient for a fault

    def forward(self, tokens: Tokens) -> TowerOutput:
        """Encode tokenised texts; on a CPU those of like length together, which halves the padding."""
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        if not self.config.attention_mask:
            return self.encode(ids, torch.ones_like(mask))
        if ids.device.type != "cpu" or torch.compiler.is_compiling():  # a graph is for texts of any length
            return self.encode(ids, mask)
        lengths = mask.sum(1)
        order = lengths.argsort()
        parts = [
            self.encode(*(f[rows, : int(lengths[rows[-1]])] for f in (ids, mask))) for rows in torch.split(order, 64)
        ]
        of_parts = [part.tokens for part in parts if part.tokens is not None]
        states = [F.pad(of_part, (0, 0, 0, ids.shape[1] - of_part.shape[1])) for of_part in of_parts]
        back = order.argsort()
        return TowerOutput(torch.cat([part.pooled for part in parts])[back], torch.cat(states)[back])

    def encode(self, ids: Tensor, mask: Tensor) -> TowerOutput:
        """Token ids and mask, each ``(M, L)``, all at once."""
        all_layers = self.config.pooling == "all_layers"
        output = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=all_layers)
        last: Tensor = output.last_hidden_state
        if self.config.pooling in (None, "cls"):
            return TowerOutput(last[:, 0], last)
        states = output.hidden_states if all_layers else [last]
        return TowerOutput(torch.cat([_masked_mean(state, mask) for state in states], dim=1), last)
