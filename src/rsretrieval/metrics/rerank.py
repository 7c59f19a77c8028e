"""Re-ranking against hubs: gallery items that are near to every query give way to those that are near to this one.

Each method takes a bias from the score of every gallery item, found from a set of queries. Where that is the whole set
of evaluation, the figures are not those of a system that answers one query at a time; where it is a bank of training
queries (Bogolin et al., CVPR 2022), they are. Both are reported apart from the plain ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rsretrieval.metrics.functional import retrieval_recall

_CHUNK = 1024  # gallery items at a time


@dataclass(frozen=True)
class RerankConfig:
    """How to re-rank.

    Attributes:
        method: a key of :data:`METHODS`.
        temperature: of the softmax over queries.
        neighbours: queries whose similarity counts, for ``csls``.
        queries: ``all`` that are evaluated, or those of the model's ``bank``.
    """

    method: str = "inverted_softmax"
    temperature: float = 0.1
    neighbours: int = 10
    queries: Literal["all", "bank"] = "all"

    def __post_init__(self) -> None:
        if self.queries not in ("all", "bank"):
            raise ValueError(f"there are no queries '{self.queries}' to re-rank by; possible are 'all' and 'bank'")


def _inverted_softmax(similarity: Tensor, config: RerankConfig) -> Tensor:
    """Smith et al., "Offline bilingual word vectors, …, and the inverted softmax", ICLR 2017."""
    return config.temperature * (similarity / config.temperature).logsumexp(0)


def _dual_softmax(similarity: Tensor, config: RerankConfig) -> Tensor:
    """Softmax over items times softmax over queries (Cheng et al., arXiv 2109.04290): half the inverted one's bias."""
    return _inverted_softmax(similarity, config) / 2


def _csls(similarity: Tensor, config: RerankConfig) -> Tensor:
    """Half the mean similarity to the nearest queries (Conneau et al., "Word translation …", ICLR 2018)."""
    return similarity.topk(min(config.neighbours, len(similarity)), dim=0).values.mean(0) / 2


METHODS: dict[str, Callable[[Tensor, RerankConfig], Tensor]] = {
    "inverted_softmax": _inverted_softmax,
    "dual_softmax": _dual_softmax,
    "csls": _csls,
}
"""Name to a function from ``(Q, G)`` similarities to the bias ``(G,)`` of each gallery item."""


def hub_bias(queries: Tensor, gallery: Tensor, config: RerankConfig) -> Tensor:
    """What to take from the score of each gallery item.

    Args:
        queries: ``(Q, d)`` all of them, or a bank.
        gallery: ``(G, d)``.
        config: the method.

    Returns:
        ``(G,)``.

    Raises:
        ValueError: naming the methods there are.
    """
    if config.method not in METHODS:
        raise ValueError(f"there is no re-ranking '{config.method}'; possible are {sorted(METHODS)}")
    items, row = torch.unique(gallery, dim=0, return_inverse=True)  # equal items stay equal to the last bit
    biases = [METHODS[config.method](queries @ part.T, config) for part in torch.split(items, _CHUNK)]
    return torch.cat(biases)[row]


def reranked_recall(
    *,
    image: Tensor,
    text: Tensor,
    owners: Tensor,
    config: RerankConfig,
    bank: tuple[Tensor, Tensor] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    ties: str,
) -> dict[str, float]:
    """:func:`rsretrieval.metrics.retrieval_recall` on re-ranked scores, by the same arguments and names.

    ``bank`` has image queries and text queries to re-rank by; without, all images and all texts are these.
    """
    image, text = image.float(), text.float()
    image_queries, text_queries = bank or (image, text)

    def query(rows: Tensor) -> Tensor:
        return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)

    def item(rows: Tensor, queries: Tensor) -> Tensor:
        return torch.cat([rows, -hub_bias(queries, rows, config)[:, None]], dim=1)

    sentences = retrieval_recall(image=query(image), text=item(text, image_queries), owners=owners, ks=ks, ties=ties)
    images = retrieval_recall(image=item(image, text_queries), text=query(text), owners=owners, ks=ks, ties=ties)
    recall = {f"{way}_R@{k}": found[f"{way}_R@{k}"] for way, found in (("i2t", sentences), ("t2i", images)) for k in ks}
    return {**recall, "mR": sum(recall.values()) / len(recall)}
