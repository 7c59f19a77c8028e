"""How much of a split was evaluated, over all processes: what figures are of, and whether too much cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from lightning import LightningModule

from rsretrieval.data.datasets.base import DataError
from rsretrieval.data.loader import EpochLoader, check_unreadable
from rsretrieval.distributed import gather_objects
from rsretrieval.types import Batch

log = logging.getLogger(__name__)

OVER_RANKS: dict[str, Any] = {"on_step": False, "on_epoch": True, "sync_dist": True}
"""How counts are logged: of an epoch, on all processes together where they are added up."""


class Coverage(NamedTuple):
    """What was evaluated of a split.

    Attributes:
        split: its name.
        images: that were evaluated.
        of: images that the split has.
        unreadable: names of the others that cannot be read, with the reasons.

    Example:
        >>> Coverage("valid", 64, 300, {"a.png": "no such file"}).note()
        "on 64 of the 300 images of split 'valid' (1 cannot be read; 235 left out by the trainer's limits)"
    """

    split: str
    images: int
    of: int
    unreadable: dict[str, str]

    def note(self) -> str:
        """Which part of the split that is; nothing for all of it."""
        left_out = self.of - self.images - len(self.unreadable)
        parts = []
        if self.unreadable:
            parts.append(f"{len(self.unreadable)} cannot be read")
        if left_out > 0:
            parts.append(f"{left_out} left out by the trainer's limits")
        return f"on {self.images} of the {self.of} images of split '{self.split}' ({'; '.join(parts)})" if parts else ""


class CountingModule(LightningModule):
    """Counts what this process sees of a split, and knows at the end of it what all processes saw.

    Attributes:
        coverage: of the split that was evaluated last; None before, and for a loader of another kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self.begin_counting()

    def begin_counting(self) -> None:
        """Before a split."""
        self._images = 0
        self._unreadable: dict[str, str] = {}
        self.coverage: Coverage | None = None

    def count(self, batch: Batch) -> None:
        """Count a batch."""
        self._images += len(batch.image_ids)
        self._unreadable.update(zip(batch.skipped, batch.reasons, strict=False))
        if self._trainer is not None and not self._trainer.predicting:
            split = "test" if self._trainer.testing else "val"
            self.log(f"{split}/skipped", float(len(batch.skipped)), reduce_fx="sum", **OVER_RANKS)

    def look_at_coverage(self) -> None:
        """After a split: say in the log what the figures are of, where that is a part. On every process.

        Raises:
            DataError: if too much of the split cannot be read.
        """
        if self._trainer is None or self.coverage is not None:
            return
        trainer = self._trainer
        loader = trainer.val_dataloaders
        if trainer.testing or trainer.predicting:
            loader = trainer.test_dataloaders if trainer.testing else trainer.predict_dataloaders
        if not isinstance(loader, EpochLoader):
            return
        self.coverage = _coverage(loader, self._images, self._unreadable)
        if self.coverage.note() and trainer.is_global_zero and not trainer.sanity_checking:
            log.warning("%s %s", "embeddings" if trainer.predicting else "figures", self.coverage.note())
            for name, reason in self.coverage.unreadable.items() if trainer.predicting else ():
                log.warning("no embedding of '%s': %s", name, reason)

    on_validation_epoch_end = on_test_epoch_end = on_predict_epoch_end = look_at_coverage

    def on_train_epoch_end(self) -> None:
        """Look at what all processes together could not read.

        Raises:
            DataError: if that is too much.
        """
        loader = self.trainer.train_dataloader
        if isinstance(loader, EpochLoader):
            check_unreadable(loader.dataset, _union(gather_objects(loader.unreadable)), loader.max_broken)


def _coverage(loader: EpochLoader, images: int, unreadable: dict[str, str]) -> Coverage:
    """What all processes saw, from what each did."""
    ranks = gather_objects((images, unreadable))
    total, union = sum(count for count, _ in ranks), _union(names for _, names in ranks)
    stream = loader.dataset
    check_unreadable(stream, union, loader.max_broken)
    if not total:
        reason = next(iter(union.values()), "none was asked for")
        raise DataError(f"no image of split '{stream.split}' was evaluated. The first: {reason}. Check the data")
    return Coverage(stream.split, total, stream.table.images, union)


def _union(of_ranks: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {name: reason for names in of_ranks for name, reason in names.items()}
