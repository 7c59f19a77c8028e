"""The losses that a training stage may name, and what a new one must fulfil."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from rsretrieval.losses.config import ObjectiveConfig
from rsretrieval.losses.similarity import Similarity
from rsretrieval.registry import Registry
from rsretrieval.types import PairedEmbeddings


@dataclass(frozen=True)
class LossContext:
    """What a loss may need beside the embeddings.

    Attributes:
        config: settings of all losses.
        temperature: ``()``, the learnable divisor of cosines.
        affiliation_temperature: ``()``, the learnable divisor of the affiliation loss's products.
        epoch: counted from 0.
        similarity: of the ``local`` pairs to the batch, one for all losses of a step; computed when it is asked for.
        options: ``config.options`` of this loss; empty where the configuration has none.
        bias: ``()``, the learnable one that the sigmoid loss adds to its scores; None where the objective has none.
    """

    config: ObjectiveConfig
    temperature: Tensor
    affiliation_temperature: Tensor
    epoch: int
    similarity: Similarity
    options: Mapping[str, Any]
    bias: Tensor | None = None

    @property
    def local(self) -> slice:
        """Rows of the global batch that this process encoded."""
        return self.similarity.rows


class LossTerm(Protocol):
    """A loss that a training stage may name: ``term(pairs, context) -> Tensor``.

    Arguments:
        pairs: the pairs of the global batch, the same rows in the same order on every process. Gradients reach
            ``pairs.image`` and ``pairs.text`` of all processes. They are in float32 or float64, and autocast is off.
        context: settings, temperatures, epoch, and which rows are this process's own.

    Returns:
        A scalar, differentiable in ``pairs.image`` or ``pairs.text``: the loss of the whole global batch, computed
        alike on every process, or what the ``local`` pairs add to it, through
        :func:`rsretrieval.distributed.sum_of_ranks`. (DDP averages the gradients of the processes: a term that is
        computed from the ``local`` rows alone is otherwise averaged over the processes.)

    The embeddings must not be written to. A setting of a loss's own comes from the configuration,
    ``objective.options: {NAME: {...}}``, and arrives as ``context.options``.

    Example:
        The alignment loss (Wang & Isola, ICML 2020), in a file of one's own:

        >>> from rsretrieval.losses import Objective, ObjectiveConfig, register_loss
        >>> @register_loss("alignment")
        ... def alignment(pairs, context):
        ...     distance = (pairs.image - pairs.text).norm(dim=1)
        ...     return distance.pow(context.options.get("power", 2.0)).mean()

        >>> import torch
        >>> eye, ids = torch.eye(2), torch.arange(2)
        >>> pairs = PairedEmbeddings(eye, eye.flip(0), ids, ids, scenes=ids, caption_values=torch.ones(2))
        >>> objective = Objective(ObjectiveConfig(options={"alignment": {"power": 4.0}}))
        >>> round(objective(pairs, slice(0, 2), {"alignment": 1.0}, epoch=0)["alignment"].item(), 3)
        4.0
    """

    def __call__(self, pairs: PairedEmbeddings, context: LossContext, /) -> Tensor:
        """The loss of the global batch."""


class _Losses(Registry[LossTerm]):
    """Refuses what cannot be called as :class:`LossTerm`, when it is registered and not in the middle of a step."""

    def register(self, name: str) -> Callable[[LossTerm], LossTerm]:
        """See :class:`rsretrieval.registry.Registry`.

        Raises:
            TypeError: for a loss that does not take the pairs and the context.
        """
        add = super().register(name)

        def add_term(term: LossTerm) -> LossTerm:
            try:
                inspect.signature(term).bind(None, None)
            except TypeError as error:
                raise TypeError(
                    f"the loss '{name}' cannot be called with pairs and context ({error}): write a function of these "
                    "two, such as def my_loss(pairs, context)"
                ) from error
            return add(term)

        return add_term


LOSSES: Registry[LossTerm] = _Losses("loss")
"""Every loss that a training stage may name."""
register_loss = LOSSES.register
"""Decorator that adds a :class:`LossTerm` to :data:`LOSSES` under a name."""
