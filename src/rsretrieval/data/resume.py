"""Where a run is in its epoch, and whether an epoch can go on where a checkpoint left it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from rsretrieval.data.order import has_blocks
from rsretrieval.data.table import Table
from rsretrieval.redaction import redacted, redacted_values

log = logging.getLogger(__name__)

ALWAYS_WRITTEN = ("num_workers", "batch_size", "world_size", "seed")
"""What checkpoints of every version say of how an epoch was divided."""
DIVISION = (
    *ALWAYS_WRITTEN, "captions_per_image", "shuffle", "accumulate_grad_batches", "limit_train_batches",
)  # fmt: skip
"""Settings that decide which samples the batches of an epoch have, and which of them make a step."""
TRAINER_DEFAULTS = {"world_size": 1, "accumulate_grad_batches": 1, "limit_train_batches": 1.0}
"""Those that are the trainer's, and their values where there is none."""
ROWS = ("source", "columns", "holdout", "exclude")
"""Settings that decide which rows there are; compared by the rows themselves, so that a folder may move."""


@dataclass
class Position:
    """The running epoch, how many of its batches were taken, and whether that is all of them; for checkpoints to keep.

    Example:
        >>> position = Position()
        >>> position.load(3, 7)
        >>> position.start(3), position.start(3)
        (7, 0)
    """

    epoch: int = -1
    batches: int = 0
    is_complete: bool = False
    _start: tuple[int, int] = field(default=(-1, 0), repr=False)

    def load(self, epoch: int, batches: int) -> None:
        """Go on there: the next iteration, and no later one, leaves out these batches."""
        self.epoch, self.batches = self._start = epoch, batches
        self.is_complete = False

    def start(self, epoch: int) -> int:
        """Batches that the first iteration after :meth:`load` leaves out; 0 in another epoch, and for all others."""
        start, self._start = self._start, (-1, 0)
        return start[1] if start[0] == epoch else 0


def trained_batches(position: Position, trainer: Any) -> int:  # noqa: ANN401 - importing Lightning takes seconds
    """Batches of the running epoch that were trained on; a batch whose step failed was taken, and was not.

    After the last batch of an epoch it is 0: none of a running epoch.

    Args:
        position: of the loader.
        trainer: Lightning's, whose own count is used; None where there is none.
    """
    if getattr(trainer, "fit_loop", None) is None:
        return 0 if position.is_complete else position.batches
    progress = trainer.fit_loop.epoch_loop.batch_progress
    if progress.is_last_batch and progress.current.processed == progress.current.ready:
        return 0  # the epoch ends here, maybe by limit_train_batches
    return min(position.batches, int(progress.current.processed))


def division(data: Any, trainer: Any, table: Table | None) -> dict[str, Any]:  # noqa: ANN401
    """What decides how an epoch is divided into batches, for :func:`continues` to compare.

    Args:
        data: has the settings.
        trainer: Lightning's; None where there is none.
        table: of the training split; None where it was not read.
    """
    of_data = {name: getattr(data, name) for name in (*DIVISION, "holdout", "exclude") if name not in TRAINER_DEFAULTS}
    of_trainer = {name: getattr(trainer, name, value) for name, value in TRAINER_DEFAULTS.items()}
    return {
        **of_data,
        **of_trainer,
        "columns": asdict(data.columns),
        "rows": None if table is None else table.digest,
        "by_worker": None if table is None else has_blocks(table),
        "ranks_take_turns": None if table is None else not has_blocks(table),
    }


def window_start(state: Mapping[str, Any]) -> int:
    """Batches of the epoch up to the last step: gradients that were being accumulated are in no checkpoint.

    Example:
        >>> window_start({"batches": 5, "accumulate_grad_batches": 3})
        3
    """
    batches, window = int(state.get("batches", 0)), int(state.get("accumulate_grad_batches", 1))
    return batches - batches % window


def _lanes(state: Mapping[str, Any]) -> int:
    """Loading processes, of which none is as good as one."""
    return max(int(state["num_workers"]), 1)


def _changed(state: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The settings of :data:`DIVISION` that matter and differ; older versions did not write all of them."""
    changed = [name for name in DIVISION if name in state and name in now and state[name] != now[name]]
    by_worker = state.get("by_worker", True) or now.get("by_worker", True)
    if "num_workers" in changed and (_lanes(state) == _lanes(now) or not by_worker):
        changed.remove("num_workers")
    return changed


def continues(state: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Why a position does not go on in this run; None if it does, or if it is in no epoch's middle.

    Args:
        state: of the data module in a checkpoint.
        now: the data module's own.

    Example:
        >>> now = {"epoch": 0, "batches": 0, "num_workers": 4, "batch_size": 32, "world_size": 1, "seed": 0}
        >>> continues({**now, "epoch": 3, "batches": 7}, now)
        >>> continues({**now, "epoch": 3, "batches": 7, "batch_size": 16}, now)
        'it was written with batch_size=16, and this run has batch_size=32'
    """
    if not state.get("batches"):
        return None
    if any(name not in state for name in ALWAYS_WRITTEN):
        return "an older version wrote it, without the settings that divide an epoch into batches"
    changed = _changed(state, now)
    rows = state.get("rows"), now.get("rows")
    if None not in rows and rows[0] != rows[1]:
        changed += [name for name in ROWS if name in state and name in now and state[name] != now[name]]
        if not changed:
            return "the rows or captions of the training split have changed since"
    if changed:
        before, after = (", ".join(f"{name}={values[name]}" for name in changed) for values in (state, now))
        return f"it was written with {before}, and this run has {after}"
    if "by_worker" not in state and now.get("by_worker") is False and _lanes(now) > 1:
        return "an older version wrote it, whose loading processes divided an epoch otherwise"
    if "ranks_take_turns" not in state and now.get("ranks_take_turns") and now["world_size"] > 1:
        return "an older version wrote it, whose processes divided an epoch otherwise"
    return None


class CheckpointedPosition:
    """The part of a data module that goes into checkpoints and comes out of them."""

    trainer: Any
    source_name: str
    path: str
    revision: str | None
    max_words: int
    eval_image_size: int
    _settled: str | None
    _position: Position
    _tables: dict[tuple[str, bool], Table]
    table: Callable[[str], Table]
    _settle: Callable[[str | None], None]

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches of it that were trained on, how they were divided, and the revision of the rows.

        Lightning keeps it in its checkpoints. Not in the loader, whose state Lightning restores too late where the
        length was asked for before.
        """
        return {
            "epoch": self._position.epoch,
            "batches": trained_batches(self._position, self.trainer),
            **division(self, self.trainer, self._tables.get(("train", True))),
            "revision": self._settled,
            "source": [self.source_name, redacted(self.path)],
            # Not for the position: what an exported model is used with, as it was evaluated.
            "max_words": self.max_words,
            "eval_image_size": self.eval_image_size,
        }

    def restart_reason(self, state: Mapping[str, Any]) -> str | None:
        """Why the epoch of a checkpoint's state starts again; None if it goes on, or was at its end."""
        if not state.get("batches") or not self._trains():
            return None
        self._follow_revision(state)
        self.table("train")
        return continues(state, self.state_dict())

    def _trains(self) -> bool:
        return self.trainer is None or self.trainer.state.fn == "fit"

    def _follow_revision(self, state: Mapping[str, Any]) -> None:
        revision = state.get("revision")
        source = redacted_values([self.source_name, self.path])
        if self.revision is None and revision and redacted_values(state.get("source")) == source:
            if self._settled not in (None, revision):
                log.info("reading revision %s as the checkpoint did, not the newest, %s", revision, self._settled)
            self._settle(revision)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read the rows of the checkpoint's revision, and go on in the middle of its epoch if that is possible."""
        self._follow_revision(state_dict)
        reason = self.restart_reason(state_dict)
        if reason:
            log.warning(
                "the position in epoch %d is not kept, so where the run was in its middle that epoch starts again: %s",
                state_dict["epoch"],
                reason,
            )
        elif state_dict["batches"] > window_start(state_dict) and self._trains():
            log.warning(
                "the checkpoint is from the middle of %d batches whose gradients are added up: those since the last "
                "step are trained on again, from batch %d of epoch %d",
                *(state_dict["accumulate_grad_batches"], window_start(state_dict), state_dict["epoch"]),
            )
        self._position.load(*((-1, 0) if reason else (state_dict["epoch"], window_start(state_dict))))
