"""Models: where weights come from, towers, FGIS, and the dual encoder made of them."""

from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.fgis import FGIS
from rsretrieval.models.timm_towers import ConvolutionalPrior
from rsretrieval.models.tower_config import TowerConfig
from rsretrieval.models.weights import WeightsError

__all__ = ["FGIS", "ConvolutionalPrior", "DualEncoder", "TowerConfig", "WeightsError"]
