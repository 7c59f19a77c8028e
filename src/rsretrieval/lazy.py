"""What is imported where it is first asked for: names of a package, since torch alone takes seconds; optional ones."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package.

    Args:
        package: its ``__name__``.
        places: public name to the module that defines it; a subpackage is its own place.
    """

    def __getattr__(name: str) -> Any:  # noqa: ANN401, N807 - as Python wants it
        if name not in places:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module = importlib.import_module(places[name])
        return module if places[name] == f"{package}.{name}" else getattr(module, name)

    return __getattr__


def needs(module: str, extra: str) -> Any:  # noqa: ANN401 - a module
    """An optional package's module.

    Args:
        module: its name.
        extra: of this package, that brings it.

    Raises:
        ImportError: naming the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f"this takes the package {name}, which is not installed: pip install 'rsretrieval[{extra}]'"
        ) from error
