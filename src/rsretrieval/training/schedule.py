"""Value-guided learning as a pure function of the epoch (FISVL, section III-E): which losses, with which weights."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        from_epoch: first epoch of the stage, counted from 0.
        losses: name of a loss (see ``rsretrieval.losses.LOSSES``) to its weight in the sum.
    """

    from_epoch: int
    losses: Mapping[str, float]


PAPER_STAGES = (
    Stage(0, {"contrastive": 1.0, "affiliation": 1.0, "scene_adaptive": 1.0}),
    Stage(10, {"weighted_contrastive": 1.0, "affiliation": 1.0}),
)
"""The paper's two stages: fine-grained perception for ten epochs, then the weighted contrastive loss."""


def check_stages(stages: Sequence[Stage], losses: Mapping[str, object]) -> None:
    """Refuse a schedule that does not start at epoch 0, is out of order or names an unknown loss.

    Args:
        stages: in order.
        losses: the registry of losses.

    Raises:
        ValueError: saying what was given, what is possible and what to do.
    """
    starts = [stage.from_epoch for stage in stages]
    if not starts or starts[0] != 0 or any(b <= a for a, b in itertools.pairwise(starts)):
        raise ValueError(
            f"the stages start at epochs {starts}; they must start at 0 and rise strictly: set `from_epoch`"
        )
    for number, stage in enumerate(stages, 1):
        if not stage.losses:
            raise ValueError(f"stage {number} names no loss; known are {sorted(losses)}: give at least one")
        if not any(stage.losses.values()):
            raise ValueError(f"stage {number} gives every loss a weight of 0, so that nothing is learned: give another")
        for name in stage.losses:
            losses[name]  # refuses an unknown one


def stage_at(stages: Sequence[Stage], epoch: int) -> int:
    """Index into ``stages`` of the one in force at ``epoch``."""
    return max(index for index, stage in enumerate(stages) if stage.from_epoch <= epoch)
