"""Averaged weights."""

from __future__ import annotations

from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class AveragedWeights(WeightAveraging):
    """Validates, tests and keeps the exponential moving average of the weights.

    Lightning's own EMAWeightAveraging computes ``decay x + (1 - decay) x``, in which frozen weights drift by rounding;
    interpolation leaves them as they are. Buffers are those of the last step: statistics are averages already, and a
    mask may hold infinities.

    Args:
        decay: fraction of the average that a step keeps.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay={decay}: give a fraction from 0 to below 1")
        super().__init__(use_buffers=False, multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]
