"""Packages that an archive takes and training does not."""

from __future__ import annotations

import importlib
from typing import Any


def needs(module: str, extra: str = "archive") -> Any:  # noqa: ANN401 - a module
    """An optional package's module.

    Raises:
        ImportError: naming the extra of this package that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise ImportError(
            f"this takes the package {name}, which is not installed: pip install 'rsretrieval[{extra}]'"
        ) from error
