"""Checks of settings, where a configuration is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rsretrieval.data.transforms import FEW_VARIANTS


def check_least(least: int = 1, **settings: int | None) -> None:
    """Refuse numbers below ``least``.

    Raises:
        ValueError: naming the setting.
    """
    for name, value in settings.items():
        if value is not None and value < least:
            raise ValueError(f"--data.{name} {value} is too small: give a whole number, {least} or more")


def check_fractions(**settings: float) -> None:
    """Refuse numbers outside [0, 1].

    Raises:
        ValueError: naming the setting.
    """
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise ValueError(f"--data.{name} {value} is no fraction: give a number between 0 and 1")


def check_choice(choices: Iterable[str], **settings: str) -> None:
    """Refuse what is no choice.

    Raises:
        ValueError: naming the setting and the choices.
    """
    for name, value in settings.items():
        if value not in (possible := sorted(choices)):
            raise ValueError(f"--data.{name} '{value}' is unknown: possible are {possible}")


def check_variants(cached_sides: Sequence[str], augmentation: str, word_deletion: float) -> None:
    """Refuse to keep features of inputs that never come again: they would fill the disk.

    Args:
        cached_sides: of a model, ``image`` or ``text``.
        augmentation: of images.
        word_deletion: probability of each word.

    Raises:
        ValueError: saying what to set.
    """
    if "image" in cached_sides and augmentation not in FEW_VARIANTS:
        raise ValueError(
            f"cache_features keeps every variant of an image, and data.augmentation={augmentation} makes a new one "
            f"each time: use one of {sorted(FEW_VARIANTS)}, or cache_features: false"
        )
    if "text" in cached_sides and word_deletion:
        raise ValueError(
            f"cache_features keeps every variant of a text, and data.word_deletion={word_deletion} makes new ones: set "
            "it to 0, or cache_features: false"
        )
