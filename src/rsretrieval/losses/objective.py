"""The sum of losses that a stage asks for, with its learnable temperatures.

A new loss is one function in a file of its own and one line in :data:`LOSSES`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rsretrieval.losses.affiliation import affiliation_loss
from rsretrieval.losses.contrastive import contrastive_loss
from rsretrieval.losses.scene_adaptive import scene_adaptive_loss
from rsretrieval.losses.triplet import triplet_loss
from rsretrieval.schedule import scene_weight
from rsretrieval.types import Pairs


@dataclass(frozen=True)
class ObjectiveConfig:
    """Settings of the losses; the defaults are the paper's for RSICD.

    Attributes:
        temperature: start of the two temperatures, divisors of cosines.
        learn_temperature: False keeps them where they start. A small data set drives a learned one down until the
            model tells its training pairs apart by heart; a fixed one holds it back.
        margin: similarities below it count as 0 in the scene-adaptive loss (0.95 on RSICD, 1.15 on RSITMD).
        beta_inter: growth an epoch of the weight of negatives of other scenes.
        beta_intra: growth an epoch of the weight of negatives of the same scene.
        triplet_margin: margin of the triplet losses, in cosine.
        share_captions: True takes an image that has the same caption for a positive in the contrastive losses; two
            fifths of RSICD's training captions describe several images, and count against each other otherwise.
        exclude_positives: False looks for hardest negatives among the positives too, as the release does.
        truncate_weights: True keeps the integer part of the scene weights, as the release does.
        global_centres: False forms the affiliation centres on each device, as the release does.
    """

    temperature: float = 0.07
    learn_temperature: bool = True
    margin: float = 0.95
    beta_inter: float = -0.002
    beta_intra: float = 0.02
    triplet_margin: float = 0.2
    share_captions: bool = False
    exclude_positives: bool = True
    truncate_weights: bool = False
    global_centres: bool = True


class Objective(nn.Module):
    """Computes the losses of a stage on the pairs of the global batch.

    Args:
        config: settings of the losses.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.config = config
        learn = config.learn_temperature
        self.temperature = nn.Parameter(torch.tensor(config.temperature), requires_grad=learn)
        self.affiliation_temperature = nn.Parameter(torch.tensor(config.temperature), requires_grad=learn)

    def forward(self, pairs: Pairs, local: slice, losses: Mapping[str, float], epoch: int) -> dict[str, Tensor]:
        """Value of each loss, and under ``loss`` their weighted sum.

        Args:
            pairs: the global batch.
            local: rows of ``pairs`` that this process encoded.
            losses: name to weight, as in :class:`rsretrieval.schedule.Stage`.
            epoch: counted from 0.
        """
        with torch.autocast(pairs.image.device.type, enabled=False):  # cosines over 0.07 need more digits than bf16 has
            values = {name: LOSSES[name](self, pairs, local, epoch) for name in losses}
        # A loss that the stage leaves out leaves its temperature without a gradient, which DDP takes for a fault.
        idle = 0.0 * (self.temperature + self.affiliation_temperature)
        total = sum((weight * values[name] for name, weight in losses.items()), start=idle)
        return {**values, "loss": total}


def _contrastive_of(objective: Objective, pairs: Pairs, caption_values: Tensor | None) -> Tensor:
    return contrastive_loss(
        image=pairs.image,
        text=pairs.text,
        image_ids=pairs.image_ids,
        temperature=objective.temperature,
        caption_values=caption_values,
        text_ids=pairs.text_ids if objective.config.share_captions else None,
    )


def _contrastive(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    return _contrastive_of(objective, pairs, None)


def _weighted_contrastive(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    return _contrastive_of(objective, pairs, pairs.caption_values)


def _affiliation(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    seen = pairs if objective.config.global_centres else pairs.map(lambda field: field[local])
    return affiliation_loss(
        image=seen.image, text=seen.text, scenes=seen.scenes, temperature=objective.affiliation_temperature
    )


def _scene_adaptive(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    config = objective.config
    return scene_adaptive_loss(
        image=pairs.image,
        text=pairs.text,
        image_ids=pairs.image_ids,
        scenes=pairs.scenes,
        temperature=objective.temperature,
        inter_weight=scene_weight(config.beta_inter, epoch, truncate=config.truncate_weights),
        intra_weight=scene_weight(config.beta_intra, epoch, truncate=config.truncate_weights),
        margin=config.margin,
        exclude_positives=config.exclude_positives,
    )


def _triplet(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    return triplet_loss(image=pairs.image, text=pairs.text, margin=objective.config.triplet_margin, hardest=False)


def _triplet_hardest(objective: Objective, pairs: Pairs, local: slice, epoch: int) -> Tensor:
    return triplet_loss(image=pairs.image, text=pairs.text, margin=objective.config.triplet_margin, hardest=True)


LOSSES: dict[str, Callable[[Objective, Pairs, slice, int], Tensor]] = {
    "contrastive": _contrastive,
    "weighted_contrastive": _weighted_contrastive,
    "affiliation": _affiliation,
    "scene_adaptive": _scene_adaptive,
    "triplet": _triplet,
    "triplet_hardest": _triplet_hardest,
}
"""Every loss that a stage may name."""
