"""Value-guided learning (FISVL, section III-E) as a callback: which losses count, and the figures of each epoch."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from rsretrieval.losses import LOSSES
from rsretrieval.training.module import RetrievalModule
from rsretrieval.training.schedule import PAPER_STAGES, Stage, check_stages, stage_at


class ValueGuidedLearning(Callback):
    """Sets the module's stage from the epoch alone, and logs its number and the retrieval metrics.

    Beside ``stage``, counted from 1, ``weight/LOSS`` of every loss of the schedule; and once, at the first step of a
    stage, ``stage/begins``.

    ``val/i2t_R@1`` … ``val/mR`` after each epoch, ``test/…`` in ``test``; and in ``validate`` and ``test``, where
    ``model.hubness`` is set, ``val_hubness_corrected/…``. Logged by the module, they reach checkpoints and every
    logger.

    Args:
        stages: in order; the first from epoch 0.
    """

    advances_stages = True

    def __init__(self, stages: Sequence[Stage] = PAPER_STAGES) -> None:
        self.stages = [stage if isinstance(stage, Stage) else Stage(**stage) for stage in stages]
        check_stages(self.stages, LOSSES)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Follow the epoch; here, since Lightning calls no epoch hook when it resumes in mid-epoch."""
        if isinstance(pl_module, RetrievalModule):
            number = stage_at(self.stages, trainer.current_epoch)
            pl_module.stage = self.stages[number]
            pl_module.log("stage", float(number + 1), prog_bar=True)
            names = dict.fromkeys(name for stage in self.stages for name in stage.losses)
            pl_module.log_dict({f"weight/{name}": float(pl_module.stage.losses.get(name, 0.0)) for name in names})
            if batch_idx == 0 and trainer.current_epoch == pl_module.stage.from_epoch:
                mark = {"stage/begins": float(number + 1), "epoch": trainer.current_epoch}
                for logger in trainer.loggers:
                    logger.log_metrics(mark, step=trainer.global_step)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the validation split's figures."""
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the test split's figures."""
        self._log(trainer, pl_module, "test")

    @staticmethod
    def _log(trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        if not isinstance(pl_module, RetrievalModule):
            return
        figures = {split: pl_module.figures()}
        corrected = None if trainer.state.fn == "fit" else pl_module.hubness_corrected_figures()
        if corrected is not None:
            figures[f"{split}_hubness_corrected"] = corrected
        pl_module.log_dict({f"{key}/{name}": value for key, row in figures.items() for name, value in row.items()})
