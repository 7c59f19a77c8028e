"""Names of a package that are imported where they are first asked for: torch alone takes seconds."""

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
