"""A user's own files, imported so that what they register is there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from jsonargparse import ArgumentParser


def add_plugins(parser: ArgumentParser) -> None:
    """The option ``--plugins`` of a command."""
    summary = "Python files or modules that register data sets, towers, losses"
    parser.add_argument("--plugins", type=list[str] | str, default=[], help=summary)


def named_plugins(value: Sequence[str] | str | None) -> Sequence[str] | str:
    """What ``--plugins`` names where it is not parsed yet: text of the command line may be a list in YAML."""
    return yaml.safe_load(value) if isinstance(value, str) else value or []


def load_plugins(plugins: Sequence[str] | str) -> None:
    """Import modules by name, or files by path (``./towers.py``), so that their registrations take effect.

    A file is imported as the module of its name, from its folder, so that worker processes find it too.

    Raises:
        ImportError: naming the one that cannot be imported.
    """
    for plugin in [plugins] if isinstance(plugins, str) else plugins:
        path = Path(plugin).expanduser().resolve()
        is_file = plugin.endswith(".py")
        if is_file and str(path.parent) not in sys.path:
            sys.path.insert(0, str(path.parent))
        name = path.stem if is_file else plugin
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever its own code raises
            said = error if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
            raise ImportError(f"the plugin '{plugin}' cannot be imported: {said}") from error
        if is_file and Path(str(module.__file__)).resolve() != path:
            raise ImportError(f"the plugin '{plugin}' has the name of another module, '{module.__file__}': rename it")
