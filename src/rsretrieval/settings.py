"""Settings as frozen dataclasses, read from plain values by the rules of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

Settings = TypeVar("Settings")


class SettingsError(ValueError):
    """Settings that this version does not know, or whose values are not possible."""


def build(kind: type[Settings], values: Settings | Mapping[str, Any], where: str) -> Settings:
    """Settings from plain values, nested ones too; what is left out takes its default.

    Args:
        kind: the dataclass.
        values: as JSON or YAML give them; settings that are built already stay as they are.
        where: they come from, for the message.

    Raises:
        SettingsError: naming the setting that is unknown or wrong.
    """
    if not isinstance(values, Mapping):
        return values
    from jsonargparse import ArgumentError, ArgumentParser

    from rsretrieval import __version__

    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--settings", type=kind)
    try:
        built: Settings = parser.instantiate(parser.parse_object({"settings": dict(values)})).settings
    except (ArgumentError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())
        hint = "; if a newer version wrote them, upgrade" if "does not accept" in reason else ""
        raise SettingsError(
            f"{where}: these are no settings of {kind.__name__} in rsretrieval {__version__}{hint}: {reason}"
        ) from error
    return built


def plain(settings: Any) -> Any:  # noqa: ANN401 - a dataclass or None
    """Settings as JSON has them, so that a checkpoint loads with ``weights_only=True``."""
    return None if settings is None else json.loads(json.dumps(asdict(settings)))


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted names, each of its own type; lists stay.

    Example:
        >>> flat({"model": {"optimizer": {"learning_rate": 4e-05}, "pretrained": None}, "seed": 0})
        {'model.optimizer.learning_rate': 4e-05, 'model.pretrained': None, 'seed': 0}
    """
    values: dict[str, Any] = {}
    for name, value in settings.items():
        is_group = isinstance(value, Mapping) and value
        values |= flat(value, f"{prefix}{name}.") if is_group else {f"{prefix}{name}": value}
    return values
