"""A run's folder: its configuration, its checkpoints by name, and one training at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from lightning import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

LEFT_BEHIND = 20
"""Seconds in which the loaders of a killed run notice that it is gone."""


class RunConfig(SaveConfigCallback):
    """Writes the whole configuration to ``config.yaml`` in the run's folder, and to the logger."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - LightningCLI's own arguments
        super().__init__(*args, **{**kwargs, "save_to_log_dir": False})

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """On the first process alone; Lightning sees to it."""
        if stage != "fit":
            return
        path = Path(trainer.default_root_dir) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.parser.dump(self.config, skip_none=False))
        for logger in trainer.loggers:
            logger.log_hyperparams(
                {"config": json.loads(self.parser.dump(self.config, format="json", skip_none=False))}
            )


def find_checkpoint(folder: Path, which: str) -> Path:
    """The newest checkpoint of a run whose name begins with ``best`` or ``last``.

    Raises:
        FileNotFoundError: saying what there is.
    """
    files = sorted(folder.glob(f"{which}*.ckpt"), key=lambda file: file.stat().st_mtime)
    if not files:
        names = sorted(file.name for file in folder.glob("*.ckpt"))
        raise FileNotFoundError(
            f"no checkpoint '{which}' in '{folder}', which has {names}: give the run's folder as "
            "--trainer.default_root_dir, or a file as --ckpt_path"
        )
    return files[-1]


def lock_folder(root: Path) -> FileLock:
    """Keep other trainings out of a run's folder; the system lets them in when this process ends, however it does.

    Raises:
        RuntimeError: if another process trains there.
    """
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / "fit.lock", is_singleton=True)  # this process may come again after an error
    try:
        lock.acquire(timeout=LEFT_BEHIND)
    except Timeout as error:
        raise RuntimeError(
            f"another process trains in '{root}': wait until it ends, or give this run a folder of its own as "
            "--trainer.default_root_dir"
        ) from error
    return lock
