"""What a checkpoint of the middle of an epoch needs before Lightning goes on from it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any


def restart_epoch(checkpoint: MutableMapping[str, Any]) -> None:
    """Rewind Lightning's own count of batches to the beginning of the epoch, in place; at an epoch's end do nothing.

    For a position that cannot be continued exactly: the epoch's samples are then all used, some of them once more.

    Args:
        checkpoint: as Lightning hands it to ``on_load_checkpoint``.
    """
    loop = checkpoint.get("loops", {}).get("fit_loop", {})
    progress = loop.get("epoch_loop.batch_progress")
    if progress is None or progress["is_last_batch"]:
        return
    progress["current"] = dict.fromkeys(progress["current"], 0)
    if progress["total"]["completed"] < progress["total"]["processed"]:  # written at the end of a batch
        progress["total"]["completed"] = progress["total"]["processed"]
        loop["epoch_loop.state_dict"]["_batches_that_stepped"] += 1
