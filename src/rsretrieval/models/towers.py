"""Image and text towers from timm, open_clip and transformers behind one contract, and the convolutional prior.

A tower gives a global vector ``(B, width)`` and tokens ``(B, T, width)``. A new library is one class and one line in
:data:`IMAGE_TOWERS` or :data:`TEXT_TOWERS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import open_clip
import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from rsretrieval.models.layers import freeze
from rsretrieval.models.weights import FORMS, PRETRAINED, WeightsError, load_into, locate
from rsretrieval.types import Features

Texts = Mapping[str, Tensor]
"""Tokenised texts: at least ``input_ids`` ``(M, L)``."""


@dataclass(frozen=True)
class TowerConfig:
    """One tower by name.

    Attributes:
        library: a key of :data:`IMAGE_TOWERS` or :data:`TEXT_TOWERS`.
        name: the library's name of the model; for transformers a hub id or a folder with its configuration.
        weights: null, ``pretrained``, ``pretrained:TAG``, ``hub:…``, ``package:…`` or a path (see ``models.weights``).
        frozen: never train it; it stays in evaluation mode.
        frozen_layers: never train the first so many layers (the stem or the embeddings are the first).
        pooling: of transformers' tokens into the global vector, ``cls`` or ``mean``; with timm, ``levels`` puts the
            mean and the standard deviation over all positions of every stage and of the last map beside the network's
            own global vector, since texture lives in the lower ones.
        max_tokens: longest text, in tokens (transformers).
        attention_mask: False lets a text attend to its padding, as the authors' release does (transformers).
        options: further arguments of the library's constructor.
    """

    library: str
    name: str
    weights: str | None = None
    frozen: bool = False
    frozen_layers: int = 0
    pooling: str = "cls"
    max_tokens: int = 47
    attention_mask: bool = True
    options: dict[str, Any] = field(default_factory=dict)


def _pool(tokens: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """``(B, T, W)`` to ``(B, W)``: the first token, or the mean over those that the mask ``(B, T)`` keeps."""
    if pooling == "cls":
        return tokens[:, 0]
    if pooling != "mean":
        raise ValueError(f"pooling='{pooling}' is unknown; possible are 'cls' and 'mean'")
    weights = mask.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(1) / weights.sum(1)


def _is_pretrained(weights: str | None) -> bool:
    return weights is not None and weights.partition(":")[0] == PRETRAINED


def build_timm(name: str, weights: str | None, options: Mapping[str, Any], image_size: int | None = None) -> nn.Module:
    """A timm model with its weights and without its classifier.

    Raises:
        ValueError: if timm has no such model.
        WeightsError: if the weights do not fit.
    """
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('_')[0].split('.')[0]}*")[:5]
        raise ValueError(f"timm has no model '{name}'; near it are {near}: see timm.list_models()")
    sized = {"img_size": image_size} if image_size and _takes_size(name) else {}
    model: Any = timm.create_model(name, pretrained=_is_pretrained(weights), **{**sized, **options})
    if weights and not _is_pretrained(weights):
        classifier = model.pretrained_cfg.get("classifier") or ()
        names = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        load_into(model, weights, optional=tuple(f"{prefix}." for prefix in names))
    model.reset_classifier(0)
    channels_last: nn.Module = model.to(memory_format=torch.channels_last)  # nearly doubles convolutions on a CPU
    return channels_last


def _takes_size(name: str) -> bool:
    return name.startswith(("vit", "swin", "deit", "eva", "beit"))


class TimmImageTower(nn.Module):
    """Any timm classification model; its own pooling gives the global vector."""

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        self.model = build_timm(config.name, config.weights, config.options, image_size)
        self.levels = config.pooling == "levels"
        with torch.no_grad():
            probe = self.eval()(torch.zeros(1, 3, image_size, image_size))
        self.pooled_width, self.token_width = probe.pooled.shape[-1], probe.tokens.shape[-1]

    def forward(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` normalised images."""
        model: Any = self.model
        images = images.contiguous(memory_format=torch.channels_last)
        if self.levels:
            maps, stages = _stages(model, images)
            moments = [torch.std_mean(stage.float(), dim=(2, 3)) for stage in stages]
            vectors = [vector for pair in moments for vector in pair]
            pooled = torch.cat([model.forward_head(maps, pre_logits=True).float(), *vectors], dim=1)
        else:
            maps = model.forward_features(images)
            pooled = model.forward_head(maps, pre_logits=True)
        if maps.ndim == 3:
            return Features(pooled, maps[:, getattr(model, "num_prefix_tokens", 0) :])
        channels_last = str(getattr(model, "output_fmt", "NCHW")).endswith("NHWC")
        return Features(pooled, maps.flatten(1, 2) if channels_last else maps.flatten(2).transpose(1, 2))


def _stages(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:  # noqa: ANN401 - timm is untyped
    """What a timm model's ``forward_features`` gives, and the maps ``(B, C, H, W)`` of its stages.

    Of an EfficientNet all stages and the last map; of others what timm calls intermediates, of which an EfficientNet
    would leave out two.
    """
    if not isinstance(model, timm.models.EfficientNet):
        maps, stages = model.forward_intermediates(images)
        return maps, stages
    stages = [model.bn1(model.conv_stem(images))]
    for block in model.blocks:
        stages.append(block(stages[-1]))
    last = model.bn2(model.conv_head(stages[-1]))
    return last, [*stages[1:], last]


class JointImageTower(nn.Module):
    """Several image towers side by side: their global vectors end to end, and the tokens of the first.

    ``options.towers`` lists them, each like a tower of its own.
    """

    def __init__(self, config: TowerConfig, image_size: int) -> None:
        super().__init__()
        parts = [TowerConfig(**part) for part in config.options.get("towers", ())]
        if not parts:
            raise ValueError("a tower of the library 'joint' needs options.towers: a list of image towers")
        towers: list[Any] = [library(IMAGE_TOWERS, part, "image")(part, image_size) for part in parts]
        self.kept = [
            module
            for tower, part in zip(towers, parts, strict=True)
            for module in freeze(tower, frozen=part.frozen, layers=part.frozen_layers)
        ]
        self.towers = nn.ModuleList(towers)
        self.pooled_width, self.token_width = sum(t.pooled_width for t in towers), towers[0].token_width

    def train(self, mode: bool = True) -> JointImageTower:
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        for module in getattr(self, "kept", []):
            module.eval()
        return self

    def forward(self, images: Tensor) -> Features:
        """``(B, 3, H, W)`` normalised images."""
        found: list[Features] = [tower(images) for tower in self.towers]
        return Features(torch.cat([features.pooled for features in found], dim=1), found[0].tokens)


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
        pretrained = config.weights.partition(":")[2] if _is_pretrained(config.weights) else str(locate(config.weights))
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
    if config.weights and not _is_pretrained(config.weights):
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
        self.tokenizer = AutoTokenizer.from_pretrained(place)
        self.pooled_width = self.token_width = int(self.model.config.hidden_size)
        if getattr(self.model, "pooler", None) is not None:
            self.model.pooler = None  # never used here; DDP takes parameters without a gradient for a fault

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids ``(M, L)`` and attention mask, padded to the longest."""
        encoded = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        return {key: encoded[key] for key in ("input_ids", "attention_mask")}

    def forward(self, texts: Texts) -> Features:
        """Encode tokenised texts."""
        mask = texts["attention_mask"] if self.config.attention_mask else torch.ones_like(texts["attention_mask"])
        tokens = self.model(input_ids=texts["input_ids"], attention_mask=mask).last_hidden_state
        return Features(_pool(tokens, mask, self.config.pooling), tokens)


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


class ConvolutionalPrior(nn.Module):
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
        model: Any = self.model
        images = images.contiguous(memory_format=torch.channels_last)
        early, last = model.forward_intermediates(
            images, indices=[0, len(model.feature_info) - 1], intermediates_only=True
        )
        if self.halve:  # for a ResNet this is its stem after max-pooling
            early = F.max_pool2d(early, kernel_size=3, stride=2, padding=1)
        return early, last.mean((2, 3))


IMAGE_TOWERS: dict[str, Callable[[TowerConfig, int], nn.Module]] = {
    "timm": TimmImageTower,
    "open_clip": OpenClipImageTower,
    "transformers": TransformersImageTower,
    "joint": JointImageTower,
}
TEXT_TOWERS: dict[str, Callable[[TowerConfig], nn.Module]] = {
    "open_clip": OpenClipTextTower,
    "transformers": TransformersTextTower,
}


def library(registry: Mapping[str, Any], config: TowerConfig, what: str) -> Any:  # noqa: ANN401 - each registry has its own type
    """The registry's entry for a tower's library.

    Raises:
        ValueError: naming the libraries there are.
    """
    if config.library not in registry:
        raise ValueError(f"no {what} tower from '{config.library}'; possible are {sorted(registry)}")
    return registry[config.library]
