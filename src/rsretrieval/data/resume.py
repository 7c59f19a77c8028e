"""Whether an epoch can go on where a checkpoint left it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DIVISION = ("num_workers", "batch_size", "world_size", "seed")
"""Settings that decide which samples the first batches of an epoch have."""


def continues(state: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why a position does not go on in this run; None if it does, or if it is in no epoch's middle.

    Args:
        state: of the data module in a checkpoint.
        now: the data module's own.

    Example:
        >>> now = {"epoch": 0, "batches": 0, "num_workers": 4, "batch_size": 32, "world_size": 1, "seed": 0}
        >>> continues({**now, "epoch": 3, "batches": 7}, now)
        >>> continues({**now, "epoch": 3, "batches": 7, "num_workers": 2}, now)
        'it was written with num_workers=2, and this run has num_workers=4'
    """
    if not state.get("batches"):
        return None
    if any(name not in state for name in DIVISION):
        return "an older version wrote it, without the settings that divide an epoch into batches"
    changed = [name for name in DIVISION if state[name] != now[name]]
    if not changed:
        return None
    before, after = (", ".join(f"{name}={values[name]}" for name in changed) for values in (state, now))
    return f"it was written with {before}, and this run has {after}"
