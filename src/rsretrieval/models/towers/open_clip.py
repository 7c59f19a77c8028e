"""Both sides of any open_clip model, with its own heads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from rsretrieval.models.config import TowerConfig, is_pretrained
from rsretrieval.models.conversions import to_open_clip
from rsretrieval.models.layers import drop_parts, logits_of
from rsretrieval.models.loading import load_into
from rsretrieval.models.towers.architectures import architecture, check_activation
from rsretrieval.models.weights import WeightsError, weights_to_load
from rsretrieval.types import Tokens, TowerOutput

TEXT_PARTS = (
    "transformer", "text", "token_embedding", "ln_final", "text_projection", "positional_embedding", "text_decoder",
    "logit_scale", "logit_bias",
)  # fmt: skip


def build_open_clip(config: TowerConfig) -> Any:  # noqa: ANN401 - open_clip is untyped
    """The whole open_clip model.

    Raises:
        WeightsError: if weights do not fit, or their activation is not stated.
    """
    name, weights = architecture(config.name), weights_to_load(config.weights)
    if weights is None or not is_pretrained(weights):
        if weights is not None:
            check_activation(config.name, config.options)
        options = dict(config.options)
        bands = options.pop("bands", 3)
        with _without_warning() if config.weights else nullcontext():
            model = open_clip.create_model(name, pretrained_image=False, pretrained_text=False, **options)
        if bands != 3:
            _take_bands(model, bands)
        if weights is not None:
            load_into(model, weights, convert=to_open_clip)
        return model
    tag = weights.partition(":")[2]
    if not tag:
        tags = open_clip.list_pretrained_tags_by_model(name)
        raise WeightsError(f"open_clip needs a tag, as in 'pretrained:{next(iter(tags), 'TAG')}'; known are {tags}")
    return open_clip.create_model(name, pretrained=tag, **config.options)


def _take_bands(model: Any, bands: int) -> None:  # noqa: ANN401
    """A first convolution for images of so many bands; its weights come from a file."""
    first = getattr(model.visual, "conv1", None)
    if not isinstance(first, nn.Conv2d):
        raise ValueError(f"images of {bands} bands are for open_clip's own vision transformers and ResNets alone")
    side, step, border = first.kernel_size[0], first.stride[0], int(first.padding[0])
    model.visual.conv1 = nn.Conv2d(bands, first.out_channels, side, step, border, bias=first.bias is not None)


@contextmanager
def _without_warning() -> Iterator[None]:
    """Where weights come next, open_clip's warning that it loads none misleads."""
    root = logging.getLogger()
    root.addFilter(_is_no_such_warning)
    try:
        yield
    finally:
        root.removeFilter(_is_no_such_warning)


def _is_no_such_warning(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No pretrained weights loaded")


class OpenClipImageTower(nn.Module):
    """The image side of any open_clip model."""

    with_tokens = True
    """Whether its tokens are of use; a dual encoder without FGIS turns them off."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        options = {"force_image_size": image_size, **config.options}
        self.model = build_open_clip(TowerConfig(config.library, config.name, config.weights, options=options))
        self.logits = logits_of(self.model)
        drop_parts(self.model, TEXT_PARTS)
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, _channels(self.model), image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> TowerOutput:
        """``(B, C, H, W)`` normalised images."""
        if not self.with_tokens:
            return TowerOutput(self.model.encode_image(images), None)
        out = self.model.forward_intermediates(
            image=images,
            image_indices=1,
            image_output_fmt="NCHW",
            normalize=False,
            # Its norm is for what comes out of a pooling by attention, and has another width than tokens.
            normalize_intermediates=getattr(self.model.visual, "attn_pool", None) is None,
        )
        return TowerOutput(out["image_features"], out["image_intermediates"][-1].flatten(2).transpose(1, 2))


def _channels(model: Any) -> int:  # noqa: ANN401
    """Bands that an image tower takes, by its first convolution."""
    return next(module.in_channels for module in model.visual.modules() if isinstance(module, nn.Conv2d))


class OpenClipTokenizer:
    """A tokeniser of open_clip under the towers' contract."""

    def __init__(self, tokenizer: Callable[[list[str]], Tensor]) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, config: TowerConfig) -> OpenClipTokenizer:
        """That of a tower, which need not be built."""
        return cls(open_clip.get_tokenizer(architecture(config.name), config.options.get("force_context_length")))

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to token ids ``(M, context)``."""
        return {"input_ids": self.tokenizer(list(texts))}


class OpenClipTextTower(nn.Module):
    """The text side of any open_clip model, with its own tokeniser."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.model = build_open_clip(config)
        drop_parts(self.model, ("visual", "text_decoder", "logit_scale", "logit_bias"))
        self.tokenizer = OpenClipTokenizer.of(config)
        with torch.no_grad():
            self.pooled_width = self.token_width = self.eval()(self.tokenizer(["a"])).pooled.shape[-1]

    def forward(self, tokens: Tokens) -> TowerOutput:
        """Encode tokenised texts."""
        return TowerOutput(self.model.encode_text(tokens["input_ids"]), None)
