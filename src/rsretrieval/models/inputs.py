"""What a model is given, looked at where it comes in: what it would take for something else is refused."""

from __future__ import annotations

import operator
from typing import TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)
FAR = 0.5
"""How far beyond 0 and 1 a resampled picture's values may go."""


def on_device(model: M, device: str) -> M:
    """The model, moved to a device.

    Raises:
        ValueError: if this machine has no such device.
    """
    try:
        return model.to(device)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"this machine has no device '{device}' ({reason}): give cpu, or cuda, cuda:1, mps") from error


def check_images(images: object, channels: int) -> None:
    """Refuse what is no batch of images.

    Values are looked at on a CPU alone, since a GPU would have to be waited for; and of RGB alone, since other bands
    have units of their own. A graph that is traced is for any values.

    Args:
        images: what should be ``(B, C, H, W)`` uint8, or float in [0, 1].
        channels: of the model.

    Raises:
        TypeError: for what is no tensor.
        ValueError: for a tensor of another shape, type or range.
    """
    expected = f"encode_image takes a tensor (B, {channels}, H, W) of uint8, or of floats"
    expected += " in [0, 1]" if channels == 3 else " in the units of the model's mean"
    if not isinstance(images, Tensor):
        raise TypeError(f"{expected}, not a {type(images).__name__}: give pictures to Retriever.encode_images")
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"{expected}, not of the shape {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"{expected}, not of {images.dtype}")
    if channels != 3 or images.dtype == torch.uint8 or images.device.type != "cpu" or torch.compiler.is_compiling():
        return
    if images.numel() and ((least := float(images.min())) < -FAR or float(images.max()) > 1 + FAR):
        raise ValueError(
            f"{expected}, and these go from {least:g} to {float(images.max()):g}: divide by 255, and no more"
        )


def check_texts(texts: object) -> None:
    """Refuse one text where several are expected.

    Raises:
        TypeError: saying what to give.
    """
    if isinstance(texts, str | bytes):
        raise TypeError(f"encode_text takes a list of texts, not one {type(texts).__name__}: give [text]")


def check_batch_size(batch_size: object) -> int:
    """The number of items to take at once.

    Raises:
        ValueError: if it is no whole number, or below 1.
    """
    try:
        size = operator.index(batch_size)  # type: ignore[arg-type]
    except TypeError:
        size = 0
    if size < 1:
        raise ValueError(f"batch_size={batch_size!r}: give a whole number, 1 or more")
    return size
