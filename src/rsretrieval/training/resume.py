"""What a checkpoint of the middle of an epoch needs before Lightning goes on from it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from rsretrieval.data.resume import CheckpointedPosition, window_start


def go_on_as_the_data(checkpoint: MutableMapping[str, Any], data: object) -> bool:
    """Set Lightning's own count to where the data goes on: after the last step, or at the beginning of the epoch.

    Args:
        checkpoint: as Lightning hands it to ``on_load_checkpoint``.
        data: the trainer's data module.

    Returns:
        See :func:`go_on_from`.
    """
    position = checkpoint.get(type(data).__qualname__)
    if not isinstance(data, CheckpointedPosition) or position is None:
        return False
    return go_on_from(checkpoint, 0 if data.restart_reason(position) else window_start(position))


def go_on_from(checkpoint: MutableMapping[str, Any], batches: int) -> bool:
    """Set Lightning's own count to that many batches of the epoch, in place; at an epoch's end do nothing.

    For a position that cannot be continued exactly (0: the epoch's samples are then all used, some of them once more),
    for batches whose gradients no step has used, and for a batch whose step failed.

    Args:
        checkpoint: as Lightning hands it to ``on_load_checkpoint``.
        batches: of the epoch that count as done.

    Returns:
        Whether the count was another. Lightning then counts the steps for its loggers wrongly.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loop.get("epoch_loop.batch_progress")
    if progress is None:
        return False
    current, total = progress["current"], progress["total"]
    step_failed = current["processed"] < current["ready"]
    if not step_failed and (progress["is_last_batch"] or current["processed"] == batches):
        return False
    progress["current"] = dict.fromkeys(current, batches)
    progress["total"] = dict.fromkeys(total, total["processed"])
    progress["is_last_batch"] = False
    return True
