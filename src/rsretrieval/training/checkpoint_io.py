"""Checkpoints written whole or not at all, beside where they belong.

Lightning writes to the system's temporary folder first, which is often small, and copies from there where that is
another disk: a run that is killed or a disk that is full at that moment leaves half a file under the checkpoint's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning import Trainer
from lightning.fabric.plugins.io import TorchCheckpointIO

from rsretrieval.files import write_whole


class WholeCheckpointIO(TorchCheckpointIO):
    """Lightning's own but for the writing; paths of remote storages (``s3://``) are left to it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """See Lightning.

        Raises:
            OSError: naming the file; one that was there before is as it was.
        """
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                torch.save(checkpoint, file)

        write_whole(Path(path), write)


def write_checkpoints_whole(trainer: Trainer) -> None:
    """Let a trainer write its checkpoints so, unless another plugin writes them."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
