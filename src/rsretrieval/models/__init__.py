"""Models: where weights come from, towers, FGIS, the dual encoder made of them, and a model as a folder."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.models.config import EncoderConfig, TowerConfig
    from rsretrieval.models.dual_encoder import DualEncoder
    from rsretrieval.models.features import BackboneFeatures
    from rsretrieval.models.fgis import FGIS
    from rsretrieval.models.towers.registry import (
        IMAGE_TOWERS,
        TEXT_TOWERS,
        ImageTower,
        TextTower,
        register_image_tower,
        register_text_tower,
    )
    from rsretrieval.models.towers.timm import ConvolutionalBranch
    from rsretrieval.models.weights import WeightsError
    from rsretrieval.types import Preprocessing

__all__ = [
    "FGIS",
    "IMAGE_TOWERS",
    "TEXT_TOWERS",
    "BackboneFeatures",
    "ConvolutionalBranch",
    "DualEncoder",
    "EncoderConfig",
    "ImageTower",
    "Preprocessing",
    "TextTower",
    "TowerConfig",
    "WeightsError",
    "register_image_tower",
    "register_text_tower",
]

_TOWERS = ("IMAGE_TOWERS", "TEXT_TOWERS", "ImageTower", "TextTower", "register_image_tower", "register_text_tower")
__getattr__ = lazy(
    __name__,
    {
        "EncoderConfig": "rsretrieval.models.config",
        "TowerConfig": "rsretrieval.models.config",
        "BackboneFeatures": "rsretrieval.models.features",
        "DualEncoder": "rsretrieval.models.dual_encoder",
        "FGIS": "rsretrieval.models.fgis",
        "ConvolutionalBranch": "rsretrieval.models.towers.timm",
        "WeightsError": "rsretrieval.models.weights",
        "Preprocessing": "rsretrieval.types",
        **dict.fromkeys(_TOWERS, "rsretrieval.models.towers.registry"),
    },
)
