"""Bars of what takes long."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm


def bar(shown: bool | None, *items: Any, **about: Any) -> Any:  # noqa: ANN401 - tqdm's
    """A bar of tqdm; by itself (None) on a terminal alone, and not of what takes less than three seconds."""
    return tqdm(*items, disable=None if shown is None else not shown, delay=0 if shown else 3, **about)
