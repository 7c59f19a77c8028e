"""Image and text towers from timm, open_clip and transformers behind one contract, and the convolutional branch."""

from rsretrieval.models.towers.registry import (
    IMAGE_TOWERS,
    TEXT_TOWERS,
    ImageTower,
    TextTower,
    register_image_tower,
    register_text_tower,
)

__all__ = ["IMAGE_TOWERS", "TEXT_TOWERS", "ImageTower", "TextTower", "register_image_tower", "register_text_tower"]
