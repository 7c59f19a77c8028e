"""Hubness correction: gallery items that are near to every query lose score to those that are near to this one.

Each method subtracts a bias from the score of every gallery item, estimated from a set of queries. Where that is the
whole evaluation set, the figures are not those of a system that answers one query at a time; where it is a bank of
training queries (Bogolin et al., "Cross Modal Retrieval with Querybank Normalisation", CVPR 2022), they are. Both are
reported apart from the plain ones.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from rsretrieval.metrics.functional import recall_of_pairs
from rsretrieval.metrics.inputs import comparable, comparable_with_owners
from rsretrieval.metrics.protocol import check_protocol, relevant_pairs
from rsretrieval.registry import Registry

log = logging.getLogger(__name__)
Queries = Literal["all", "bank"]
_CHUNK = 1024  # gallery items at a time


class HubnessMethod(Protocol):
    """``method(similarity, config) -> Tensor``: ``(Q, G)`` similarities to the bias ``(G,)`` of each gallery item."""

    def __call__(self, similarity: Tensor, config: HubnessConfig, /) -> Tensor:
        """The bias of each gallery item."""


HUBNESS_METHODS: Registry[HubnessMethod] = Registry("hubness correction")
"""Every method that :class:`HubnessConfig` may name."""


@dataclass(frozen=True)
class HubnessConfig:
    """How to correct scores for hubs.

    Attributes:
        method: a name in :data:`HUBNESS_METHODS`.
        temperature: divisor of the similarities in the softmax over queries.
        neighbours: nearest queries that ``csls`` averages over.
        queries: estimate from ``all`` queries that are evaluated, or from those of the model's ``bank``.

    Raises:
        ValueError: naming the field, its value and what is allowed.

    Example:
        >>> HubnessConfig("softmax")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        rsretrieval.registry.UnknownNameError: unknown hubness correction 'softmax' (did you mean ...
    """

    method: str = "inverted_softmax"
    temperature: float = 0.1
    neighbours: int = 10
    queries: Queries = "all"

    def __post_init__(self) -> None:
        HUBNESS_METHODS[self.method]  # an unknown name is refused with the known ones
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature={self.temperature}: give a finite number above 0")
        if self.neighbours < 1:
            raise ValueError(f"neighbours={self.neighbours}: give a number of queries, 1 or more")
        if self.queries not in get_args(Queries):
            raise ValueError(f"queries={self.queries!r}: give one of {list(get_args(Queries))}")


@HUBNESS_METHODS.register("inverted_softmax")
def _inverted_softmax(similarity: Tensor, config: HubnessConfig) -> Tensor:
    """Smith et al., "Offline bilingual word vectors, …, and the inverted softmax", ICLR 2017."""
    return config.temperature * (similarity / config.temperature).logsumexp(0)


@HUBNESS_METHODS.register("dual_softmax")
def _dual_softmax(similarity: Tensor, config: HubnessConfig) -> Tensor:
    """Softmax over items times softmax over queries (Cheng et al., arXiv 2109.04290): half the inverted one's bias."""
    return _inverted_softmax(similarity, config) / 2


@HUBNESS_METHODS.register("csls")
def _csls(similarity: Tensor, config: HubnessConfig) -> Tensor:
    """Half the mean similarity to the nearest queries (Conneau et al., "Word translation …", ICLR 2018)."""
    return similarity.topk(min(config.neighbours, len(similarity)), dim=0).values.mean(0) / 2


def hub_bias(queries: Tensor, gallery: Tensor, config: HubnessConfig) -> Tensor:
    """What to subtract from the score of each gallery item.

    Args:
        queries: ``(Q, d)`` all of them, or a bank.
        gallery: ``(G, d)``.
        config: the method.

    Returns:
        ``(G,)``, in the units of a score.

    Raises:
        TypeError: for embeddings that are no numbers.
        ValueError: if there are no queries to estimate from; for other shapes, NaN, infinity or numbers without a
            product.

    Example:
        The first item is near to both queries, the second to one of them:

        >>> gallery = torch.tensor([[0.8, 0.8], [0.0, 0.8]])
        >>> hub_bias(torch.eye(2), gallery, HubnessConfig("csls", neighbours=2))
        tensor([0.4000, 0.2000])
    """
    queries, gallery = comparable(queries=queries, gallery=gallery)
    if not len(queries):
        raise ValueError("there are no queries to estimate hubs from: give one or more")
    items, row = torch.unique(gallery, dim=0, return_inverse=True)  # equal items stay equal to the last bit
    method = HUBNESS_METHODS[config.method]
    biases = [method(queries @ part.T, config) for part in torch.split(items, _CHUNK)]
    return torch.cat(biases)[row]


def _bias(queries: Tensor, gallery: Tensor, config: HubnessConfig, kind: str) -> Tensor:
    """:func:`hub_bias`, or none where there are no queries."""
    if len(queries):
        return hub_bias(queries, gallery, config)
    log.warning("there are no queries to tell hubs among the %s by, so their scores are not corrected", kind)
    return gallery.new_zeros(len(gallery))


def hubness_corrected_recall(
    *,
    image: Tensor,
    text: Tensor,
    owners: Tensor,
    config: HubnessConfig,
    bank: tuple[Tensor, Tensor] | None = None,
    ks: Sequence[int] = (1, 5, 10),
    ties: str,
    distinct_ids: Tensor | None = None,
) -> dict[str, float]:
    """:func:`rsretrieval.metrics.retrieval_recall` on scores corrected for hubs.

    Args:
        image: ``(N, d)`` image embeddings.
        text: ``(M, d)`` caption embeddings.
        owners: ``(M,)`` row of ``image`` that each caption belongs to.
        config: the method.
        bank: image queries ``(Q, d)`` and text queries ``(R, d)`` to estimate hubs from, or none of a kind, and then
            what it would correct stays as it is, which the log says; None for ``image`` and ``text`` themselves.
        ks: the ranks.
        ties: see :func:`rsretrieval.metrics.retrieval_recall`.
        distinct_ids: ``(M,)`` equal for equal captions, each of which is one query and one item, and counts once where
            hubs are estimated; None where every caption is a query.

    Returns:
        ``i2t_R@K`` and ``t2i_R@K`` for each K, and ``mR``, in percent.

    Raises:
        TypeError: as :func:`rsretrieval.metrics.retrieval_recall`.
        ValueError: as :func:`rsretrieval.metrics.retrieval_recall` and :func:`hub_bias`.

    Example:
        Text 0 is the nearest to both images, until it is corrected for that:

        >>> text = torch.tensor([[0.8, 0.7], [0.1, 0.6]])
        >>> config = HubnessConfig("csls", neighbours=2)
        >>> hubness_corrected_recall(
        ...     image=torch.eye(2), text=text, owners=torch.arange(2), config=config, ks=(1,), ties="expected"
        ... )
        {'i2t_R@1': 100.0, 't2i_R@1': 100.0, 'mR': 100.0}
    """
    ks = check_protocol(ks, ties)
    image, text, owners = comparable_with_owners(image, text, owners)
    pairs = relevant_pairs(owners, distinct_ids)
    image, text = image.float(), text[pairs.rows].float()
    image_queries, text_queries = (image, text) if bank is None else bank
    # One dot product, image · text - image bias - text bias, serves both directions: the query's own bias is the same
    # for every item, and does not change their order.
    image_bias = _bias(text_queries, image, config, "images")
    text_bias = _bias(image_queries, text, config, "captions")
    image_rows = torch.cat([image, -image_bias[:, None], torch.ones_like(image_bias)[:, None]], dim=1)
    text_rows = torch.cat([text, torch.ones_like(text_bias)[:, None], -text_bias[:, None]], dim=1)
    return recall_of_pairs(
        image=image_rows, text=text_rows, captions=pairs.captions, images=pairs.images, ks=ks, ties=ties
    )
