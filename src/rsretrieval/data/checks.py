"""Checks of settings, where a configuration is read."""

from __future__ import annotations

from collections.abc import Iterable


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
