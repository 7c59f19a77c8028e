"""One tower by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from rsretrieval.models.weights import PRETRAINED

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
        pooling: of transformers' tokens into the global vector, ``cls`` or ``mean``, or ``levels``: the means of the
            word embeddings and of every layer end to end, since the words themselves live in the lower ones. With timm,
            ``levels`` puts the mean and the standard deviation over all positions of every stage and of the last map
            beside the network's own global vector, since texture does.
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


def is_pretrained(weights: str | None) -> bool:
    """Whether the library is to fetch its own weights."""
    return weights is not None and weights.partition(":")[0] == PRETRAINED
