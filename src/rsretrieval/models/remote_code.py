"""Code that comes with a model runs only where the caller allows it."""

from __future__ import annotations

from collections.abc import Mapping


class RemoteCodeError(ValueError):
    """Settings from elsewhere that would run code from elsewhere."""


def check_remote_code(settings: object, where: str, *, trusted: bool) -> None:
    """Refuse ``trust_remote_code: true`` in settings that came with a model: only who calls may allow that.

    Args:
        settings: plain values, however nested.
        where: they come from, for the message.
        trusted: whether the caller allowed it.

    Raises:
        RemoteCodeError: saying how to allow it.
    """
    if isinstance(settings, Mapping):
        if settings.get("trust_remote_code") and not trusted:
            raise RemoteCodeError(
                f"{where} asks to run Python code that comes with a model (trust_remote_code): if you have read and "
                "trust that code, allow it by trust_remote_code=True"
            )
        settings = list(settings.values())
    if isinstance(settings, list | tuple):
        for part in settings:
            check_remote_code(part, where, trusted=trusted)
