"""Losses on embeddings: pure functions, and the objective that adds up those of a training stage.

A new loss is one file: a function decorated with :data:`register_loss`, as :class:`LossTerm` describes. One of this
package is imported here; another's is registered when its module is imported.
"""

from rsretrieval.losses.affiliation import affiliation_loss
from rsretrieval.losses.config import ObjectiveConfig
from rsretrieval.losses.contrastive import contrastive_loss
from rsretrieval.losses.objective import Objective
from rsretrieval.losses.registry import LOSSES, LossContext, LossTerm, register_loss
from rsretrieval.losses.scene_adaptive import hardest_negatives, scene_adaptive_loss, scene_weight
from rsretrieval.losses.sigmoid import sigmoid_loss
from rsretrieval.losses.triplet import triplet_loss

__all__ = [
    "LOSSES",
    "LossContext",
    "LossTerm",
    "Objective",
    "ObjectiveConfig",
    "affiliation_loss",
    "contrastive_loss",
    "hardest_negatives",
    "register_loss",
    "scene_adaptive_loss",
    "scene_weight",
    "sigmoid_loss",
    "triplet_loss",
]
