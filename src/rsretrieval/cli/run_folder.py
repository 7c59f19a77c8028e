"""A run's folder: its configuration, its checkpoints by name, and one training or prediction at a time."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from rsretrieval.distributed import gather_objects
from rsretrieval.files import write_text
from rsretrieval.models.checkpoint import CheckpointError, load_checkpoint
from rsretrieval.redaction import redacted, redacted_values

log = logging.getLogger(__name__)
NAMES = ("best", "last", "auto")
"""What ``--ckpt_path`` may say in place of a file."""
LEFT_BEHIND = 20
"""Seconds in which the loaders of a killed run notice that it is gone."""


class RunConfig(SaveConfigCallback):
    """Writes the whole configuration to ``config.yaml`` in the run's folder, and to the logger; without secrets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - LightningCLI's own arguments
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See Lightning; on every process.

        Raises:
            RuntimeError: if the processes would begin from different checkpoints.
        """
        begins = gather_objects(self.config.get("ckpt_path"))
        if len(set(begins)) > 1:
            raise RuntimeError(
                f"the processes would begin from different checkpoints, in their order {begins}: give a folder that "
                "all machines share as --trainer.default_root_dir, and start them again"
            )
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """On the first process alone; Lightning sees to it."""
        if stage != "fit":
            return
        path = Path(trainer.default_root_dir) / "config.yaml"
        write_text(path, redacted(self.parser.dump(self.config, skip_none=False)))
        settings = json.loads(self.parser.dump(self.config, format="json", skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams({"config": redacted_values(settings)})


def find_checkpoint(folder: Path, which: str) -> Path | None:
    """The checkpoint of a run that a name means, told by the content of the files.

    Args:
        folder: of the run's checkpoints.
        which: one of :data:`NAMES`. ``best``: of files called so that of the highest score of what was monitored;
            ``last``: that of the most steps; ``auto``: that of the most steps of all files, or None if there is none.

    Raises:
        FileNotFoundError: saying what there is; for ``auto`` only if there are files, and none can be read.
    """
    files = sorted(folder.glob("*.ckpt" if which == "auto" else f"{which}*.ckpt"))
    ranks = {file: rank for file in files if (rank := _rank(file, which)) is not None}
    earlier = _earlier(folder)
    if which == "auto" and not files:
        if earlier:
            log.warning(
                "'%s' holds no checkpoint, so that the run begins anew; earlier ones lie in %s", folder, earlier
            )
        return None
    if not ranks:
        if which == "auto":
            raise FileNotFoundError(
                f"no checkpoint in '{folder}' can be read, of {[file.name for file in files]}: move them away to begin "
                "anew, or give a file as --ckpt_path"
            )
        names = sorted(file.name for file in folder.glob("*.ckpt"))
        also = f" (earlier ones lie in {earlier})" if earlier else ""
        raise FileNotFoundError(
            f"no checkpoint '{which}' in '{folder}', which has {names}{also}: give the run's folder as "
            "--trainer.default_root_dir, or a file as --ckpt_path"
        )
    return max(ranks, key=lambda file: ranks[file])


def _rank(file: Path, which: str) -> tuple[float, int, float] | None:
    """What a checkpoint is preferred by; None for a file that cannot be read."""
    try:
        content = load_checkpoint(file)
        step, date = int(content["global_step"]), file.stat().st_mtime
    except (CheckpointError, KeyError, OSError) as error:
        log.warning("'%s' cannot be read as a checkpoint and is passed over: %s", file, str(error).splitlines()[:1])
        return None
    scores = [
        -state["current_score"] if "'mode': 'min'" in name else state["current_score"]
        for name, state in content.get("callbacks", {}).items()
        if isinstance(state, Mapping) and state.get("monitor") and state.get("current_score") is not None
    ]
    return float(scores[0]) if which == "best" and scores else 0.0, step, date


def check_is_newest(folder: Path, chosen: str | None) -> None:
    """Refuse to go on, or to begin anew, where another process wrote on while this one waited for the folder.

    Args:
        folder: of the run's checkpoints.
        chosen: what ``auto`` meant before.

    Raises:
        RuntimeError: saying to start again.
    """
    newest = find_checkpoint(folder, "auto")
    if newest != (None if chosen is None else Path(chosen)):
        raise RuntimeError(
            f"another process wrote '{newest}' while this one, which was to go on from {chosen}, waited for it to end: "
            "start this one again"
        )


def _earlier(checkpoints: Path) -> list[str]:
    """Folders of earlier runs' checkpoints, as :func:`set_aside` names them."""
    return sorted(
        str(folder) for folder in checkpoints.parent.glob(f"{checkpoints.name}-*") if any(folder.glob("*.ckpt"))
    )


def set_aside(checkpoints: Path) -> Path | None:
    """Move the checkpoints of an earlier run out of the way of a new one: what is called best is of one run alone.

    Returns:
        Where they are now; None if there are none.
    """
    if not any(checkpoints.glob("*.ckpt")):
        return None
    taken = (checkpoints.with_name(f"{checkpoints.name}-{number}") for number in itertools.count(1))
    target = next(folder for folder in taken if not folder.exists())
    checkpoints.rename(target)
    log.warning(
        "this folder holds an earlier run: its checkpoints are in '%s' now. To go on with it, move them back and give "
        "--ckpt_path last",
        target,
    )
    return target


def bring_back(aside: Path, checkpoints: Path) -> None:
    """Undo :func:`set_aside` for a run that ended before its first step."""
    checkpoints.mkdir(exist_ok=True)
    for file in checkpoints.glob("*.ckpt"):
        file.unlink()  # of a model that has learned nothing
    for file in aside.glob("*"):
        file.rename(checkpoints / file.name)
    aside.rmdir()
    log.warning("no step was made: the checkpoints of the earlier run are in '%s' again", checkpoints)


def lock_folder(root: Path, command: Literal["fit", "predict", "sweep"] = "fit") -> FileLock:
    """Keep other runs of a command out of a run's folder; the system lets them in when this process ends, however.

    Raises:
        RuntimeError: if another process runs it there.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / f"{command}.lock", is_singleton=True)  # this process may come again after an error
    try:
        lock.acquire(timeout=LEFT_BEHIND)
    except Timeout as error:
        what = {"fit": "trains", "predict": "predicts", "sweep": "runs a sweep"}[command]
        option = "--to" if command == "sweep" else "--trainer.default_root_dir"
        raise RuntimeError(
            f"another process {what} in '{root}': wait until it ends, or give this one a folder of its own as {option}"
        ) from error
    return lock
