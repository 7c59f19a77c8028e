"""Value-guided learning as a callback, and averaged weights."""

from __future__ import annotations

from collections.abc import Sequence

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn

from rsretrieval.losses import LOSSES
from rsretrieval.module import RetrievalModule
from rsretrieval.schedule import PAPER_STAGES, Stage, check_stages, stage_at


class ValueGuidedLearning(Callback):
    """Sets the module's stage from the epoch alone, so that a resumed run needs no state, and logs its number.

    Args:
        stages: in order; the first from epoch 0.
    """

    def __init__(self, stages: Sequence[Stage] = PAPER_STAGES) -> None:
        self.stages = [stage if isinstance(stage, Stage) else Stage(**stage) for stage in stages]
        check_stages(self.stages, list(LOSSES))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Follow the epoch; here, since Lightning calls no epoch hook when it resumes in mid-epoch."""
        if isinstance(pl_module, RetrievalModule):
            number = stage_at(self.stages, trainer.current_epoch)
            pl_module.stage = self.stages[number]
            pl_module.log("stage", float(number + 1), prog_bar=True)


class AveragedWeights(WeightAveraging):
    """Validates, tests and keeps the exponential moving average of the weights, of which every step takes a share.

    Lightning's own EMAWeightAveraging computes ``decay x + (1 - decay) x``, in which frozen weights drift by rounding;
    interpolation leaves them as they are. Buffers are those of the last step: statistics are averages already, and a
    mask may hold infinities.

    Args:
        decay: share of the average that a step keeps.
    """

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
