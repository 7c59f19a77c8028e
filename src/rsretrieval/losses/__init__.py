"""Losses on embeddings: pure functions, and the objective that a stage composes from them."""

from rsretrieval.losses.affiliation import affiliation_loss
from rsretrieval.losses.contrastive import contrastive_loss
from rsretrieval.losses.objective import LOSSES, Objective, ObjectiveConfig
from rsretrieval.losses.scene_adaptive import hardest_negatives, scene_adaptive_loss
from rsretrieval.losses.triplet import triplet_loss

__all__ = [
    "LOSSES",
    "Objective",
    "ObjectiveConfig",
    "affiliation_loss",
    "contrastive_loss",
    "hardest_negatives",
    "scene_adaptive_loss",
    "triplet_loss",
]
