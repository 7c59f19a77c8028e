"""Augmentation of training images (FISVL's recipes), in torchvision v2; all give RGB in [0, 1]."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F  # noqa: N812 - the field's name

BICUBIC = InterpolationMode.BICUBIC
Transform = Callable[[Image.Image], Tensor]

_SPACE_NAMES = (
    "Identity",
    "AutoContrast",
    "Equalize",
    "Brightness",
    "Sharpness",
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
)


class SceneRandAugment(v2.RandAugment):  # type: ignore[misc]  # torchvision is untyped
    """RandAugment of the operations that the recipe lists: those that keep an aerial scene what its caption says."""

    _AUGMENTATION_SPACE = {name: v2.RandAugment._AUGMENTATION_SPACE[name] for name in _SPACE_NAMES}  # noqa: RUF012


class GridMask(nn.Module):
    """Blacken a grid of squares (Chen et al., "GridMask Data Augmentation", 2020).

    Args:
        ratio: share of a cell's side that is masked.
        p: probability.
    """

    def __init__(self, ratio: float = 0.5, p: float = 0.5) -> None:
        super().__init__()
        self.ratio, self.p = ratio, p

    def forward(self, image: Tensor) -> Tensor:
        """``(C, H, W)`` in and out."""
        if torch.rand(()) >= self.p:
            return image
        height, width = image.shape[-2:]
        cell = int(torch.randint(height // 8, height // 3 + 1, ()).clamp(min=2))
        offset = torch.randint(0, cell, (2,))
        y, x = (
            (torch.arange(side) + shift) % cell < self.ratio * cell
            for side, shift in zip((height, width), offset, strict=True)
        )
        return image.masked_fill(y[:, None] & x[None, :], 0)


def _to_float() -> v2.Transform:
    return v2.ToDtype(torch.float32, scale=True)


def evaluation(size: int) -> Transform:
    """Resize to a square, bicubic."""
    transform: Transform = v2.Compose([*_none(size), _to_float()])
    return transform


def _rsitmd(size: int) -> list[nn.Module]:
    return [
        v2.PILToTensor(),
        v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=BICUBIC),
        v2.RandomHorizontalFlip(),
        SceneRandAugment(num_ops=2, magnitude=7),
    ]


def _rsicd(size: int) -> list[nn.Module]:
    blur = v2.RandomApply([v2.GaussianBlur(kernel_size=5)], p=0.5)
    return [*_rsitmd(size), blur, v2.RandomErasing(p=0.5, scale=(0.1, 0.2)), GridMask(p=0.5)]


class QuarterTurn(nn.Module):
    """Rotate by a random multiple of 90 degrees: from above there is no up."""

    def forward(self, image: Tensor) -> Tensor:
        """``(C, H, W)`` in and out."""
        turned: Tensor = F.rotate(image, 90.0 * int(torch.randint(4, ())))
        return turned


def _aerial(size: int) -> list[nn.Module]:
    return [
        v2.PILToTensor(),
        v2.RandomResizedCrop(size, scale=(0.5, 1.0), interpolation=BICUBIC),
        v2.RandomHorizontalFlip(),
        QuarterTurn(),
    ]


def _flips(size: int) -> list[nn.Module]:
    return [*_none(size), v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]


def _none(size: int) -> list[nn.Module]:
    return [v2.PILToTensor(), v2.Resize((size, size), BICUBIC)]


AUGMENTATIONS: dict[str, Callable[[int], list[nn.Module]]] = {
    "rsicd": _rsicd,
    "rsitmd": _rsitmd,
    "aerial": _aerial,
    "flips": _flips,
    "none": _none,
}
"""The recipes of RSICD and RSITMD, crops with flips and quarter turns, flips alone, a resize alone."""


def training(name: str, size: int) -> Transform:
    """The augmentation of that name, to ``(3, size, size)``.

    Raises:
        ValueError: naming the augmentations there are.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(f"there is no augmentation '{name}'; possible are {sorted(AUGMENTATIONS)}")
    transform: Transform = v2.Compose([*AUGMENTATIONS[name](size), _to_float()])
    return transform
