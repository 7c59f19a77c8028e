"""The weighted sum of the losses that a training stage names, with its learnable temperatures."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from rsretrieval.losses.config import PAPER_TEMPERATURE, SIGLIP_BIAS, ObjectiveConfig
from rsretrieval.losses.inputs import own_precision
from rsretrieval.losses.registry import LOSSES, LossContext
from rsretrieval.losses.similarity import Similarity
from rsretrieval.registry import UnknownNameError
from rsretrieval.types import PairedEmbeddings


class Objective(nn.Module):
    """Computes the losses of a stage on the pairs of the global batch.

    Args:
        config: settings of the losses.
        own: temperature and bias of the pre-trained pair that training starts from, where ``config`` leaves them to it;
            None without one.

    Raises:
        ValueError: for options of a loss that nobody registered.

    Example:
        >>> eye, ids = torch.eye(2), torch.arange(2)
        >>> pairs = PairedEmbeddings(eye, eye, ids, ids, scenes=ids, caption_values=torch.ones(2))
        >>> objective = Objective(ObjectiveConfig(temperature=1.0, triplet_margin=1.5))
        >>> values = objective(pairs, slice(0, 2), {"contrastive": 1.0, "triplet": 0.5}, epoch=0)
        >>> {name: round(value.item(), 3) for name, value in values.items()}
        {'contrastive': 0.313, 'triplet': 2.0, 'loss': 1.313}
    """

    least_temperature: Tensor

    def __init__(self, config: ObjectiveConfig, own: tuple[float, float] | None = None) -> None:
        super().__init__()
        for name in config.options:
            try:
                LOSSES[name]
            except UnknownNameError as error:
                raise ValueError(
                    f"options[{name!r}]: {error}; import the module that registers it, or remove its options"
                ) from error
        self.config = config
        learn = config.learn_temperature
        start, bias = starts(config, own)
        self.temperature = nn.Parameter(torch.tensor(start), requires_grad=learn)
        self.affiliation_temperature = nn.Parameter(torch.tensor(start), requires_grad=learn)
        self.bias = None if bias is None else nn.Parameter(torch.tensor(bias))
        # A checkpoint keeps it where it is the pair's, whose weights are not there when a run goes on.
        least = torch.tensor(min(config.least_temperature, start))
        self.register_buffer("least_temperature", least, persistent=config.temperature is None)

    def forward(
        self, pairs: PairedEmbeddings, local: slice, losses: Mapping[str, float], epoch: int
    ) -> dict[str, Tensor]:
        """Value of each loss, and under ``loss`` their weighted sum.

        Args:
            pairs: the global batch.
            local: rows of ``pairs`` that this process encoded.
            losses: name to weight, as in :class:`rsretrieval.training.schedule.Stage`.
            epoch: counted from 0.

        Returns:
            Name to scalar.

        Raises:
            TypeError: for pairs that are no tensors.
            ValueError: for pairs that do not go together, a loss that nobody registered, or one whose value is no
                scalar.
        """
        for temperature in (self.temperature, self.affiliation_temperature):
            # What a step brought below the bound comes back to it, as in CLIP; by `data`, since every head comes here
            # before the backward pass.
            temperature.data.clamp_(min=self.least_temperature)
        with own_precision(**pairs._asdict()):
            similarity = Similarity(pairs.image, pairs.text, pairs.image_ids, self.temperature, local)
            values = {name: self._value(name, pairs, similarity, epoch) for name in losses}
        # A loss that the stage leaves out leaves its temperature without a gradient, which DDP reports as an error.
        idle = 0.0 * torch.stack(list(self.parameters())).sum()
        total = sum((weight * values[name] for name, weight in losses.items()), start=idle)
        return {**values, "loss": total}

    def _value(self, name: str, pairs: PairedEmbeddings, similarity: Similarity, epoch: int) -> Tensor:
        context = LossContext(
            config=self.config,
            temperature=self.temperature,
            affiliation_temperature=self.affiliation_temperature,
            epoch=epoch,
            similarity=similarity,
            options=self.config.options.get(name, {}),
            bias=self.bias,
        )
        value = LOSSES[name](pairs, context)
        if not isinstance(value, Tensor) or value.ndim:
            what = f"tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(
                f"the loss '{name}' returned a {what}: return a scalar, such as a tensor's mean, from which gradients "
                "reach the embeddings"
            )
        return value


def starts(config: ObjectiveConfig, own: tuple[float, float] | None) -> tuple[float, float | None]:
    """Where temperature and bias start; the bias is None where the objective has none.

    Args:
        config: of the objective.
        own: temperature and bias of the pre-trained pair; a bias of 0 is that of a model which has none.

    Example:
        >>> starts(ObjectiveConfig(temperature=None), own=(0.01, 0.0))
        (0.01, -10.0)
        >>> starts(ObjectiveConfig(), own=(0.01, 0.0))
        (0.07, None)
    """
    if config.temperature is not None:
        return config.temperature, config.bias
    temperature, bias = own or (PAPER_TEMPERATURE, 0.0)
    return temperature, config.bias if config.bias is not None else bias or SIGLIP_BIAS
