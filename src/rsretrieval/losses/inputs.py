"""What the losses are given, checked by kind, shape and type alone: nothing here waits for a device."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def own_precision(
    *, image: Tensor, text: Tensor, temperature: Tensor | float = 1.0, **fields: Tensor | None
) -> torch.autocast:
    """Where a loss is computed in its embeddings' own precision; refuses what is no batch of pairs before.

    Cosines over 0.07 need more digits than autocast's bfloat16 has.

    Args:
        image: ``(B, d)`` floating point.
        text: ``(B, d)`` of the same type.
        temperature: divisor of the cosines; the value of a tensor is not looked at.
        fields: by their names ``(B,)``, one of each pair; None for what is not given.

    Returns:
        A context without autocast.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for other shapes and types, no pairs, and temperatures that are not above 0.
    """
    columns = {name: field for name, field in fields.items() if field is not None}
    _check_tensors(image=image, text=text, **columns)
    if image.ndim != 2 or not image.numel() or image.shape != text.shape:
        shapes = f"image {tuple(image.shape)} and text {tuple(text.shape)}"
        raise ValueError(f"{shapes} are no batch of pairs: give (B, d) of both, 1 or more each")
    if image.dtype != text.dtype or not image.is_floating_point():
        raise ValueError(f"image is {image.dtype} and text {text.dtype}: give both in one floating-point type")
    for name, field in columns.items():
        if field.shape != image.shape[:1]:
            raise ValueError(
                f"{name} {tuple(field.shape)} and image {tuple(image.shape)} differ in length: give one of each pair"
            )
    if not isinstance(temperature, Tensor) and not (math.isfinite(temperature) and temperature > 0):
        raise ValueError(f"temperature={temperature}: give a finite number above 0")
    return torch.autocast(image.device.type, enabled=False)


def check_square(similarity: Tensor, image_ids: Tensor) -> None:
    """Refuse what is no similarity of a batch of pairs, ``(B, B)``, with an id of each, ``(B,)``.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for other shapes.
    """
    _check_tensors(similarity=similarity, image_ids=image_ids)
    if similarity.ndim != 2 or not similarity.numel() or similarity.shape != 2 * image_ids.shape:
        raise ValueError(
            f"similarity {tuple(similarity.shape)} and image_ids {tuple(image_ids.shape)} are not of a batch of pairs: "
            "give (B, B) and (B,), 1 or more"
        )


def _check_tensors(**fields: Tensor) -> None:
    for name, field in fields.items():
        if not isinstance(field, Tensor):
            raise TypeError(f"{name} is a {type(field).__name__}: give a tensor, as by torch.as_tensor")
