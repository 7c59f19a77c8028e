"""The LightningDataModule: a source, its splits as streams of batches."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from rsretrieval.data.captions import clean, length_values
from rsretrieval.data.rows import Columns, DataError, Source
from rsretrieval.data.scenes import scene_names
from rsretrieval.data.sources import Holdout, build_source
from rsretrieval.data.stream import RetrievalStream, Table
from rsretrieval.data.transforms import evaluation, training
from rsretrieval.distributed import run_seed
from rsretrieval.types import Batch

log = logging.getLogger(__name__)


def _one_thread(_: int) -> None:
    """Workers share the cores among themselves; OpenCV would take them all in each, and its threads fear forks."""
    cv2.setNumThreads(0)


class EpochLoader(DataLoader[Batch]):
    """Follows the epoch, goes on in its middle after a resume, and watches how many rows are broken.

    The stream's epoch is set when the first batch is asked for: Lightning makes the iterator before it is known.

    Args:
        stream: what to load.
        epoch: gives the current epoch.
        position: epoch and how many of its batches were had; kept up to date, and the place to start from.
        max_broken: share of the split's rows that may be broken.
        options: see DataLoader.
    """

    dataset: RetrievalStream

    def __init__(
        self,
        stream: RetrievalStream,
        epoch: Callable[[], int],
        position: dict[str, int],
        max_broken: float,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(stream, batch_size=None, worker_init_fn=_one_thread, **options)
        # A worker is ahead by what is prefetched, while one more batch is being copied.
        stream.slots = (self.prefetch_factor or 0) + 2
        self._epoch, self._max_broken = epoch, max_broken
        self._broken: set[str] = set()
        self._position = position

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        epoch = self._epoch()
        done = self._position["batches"] if self._position["epoch"] == epoch else 0
        stream = self.dataset
        stream.epoch, stream.skip = epoch, done if done < len(stream) else 0
        for number, batch in enumerate(super().__iter__(), stream.skip + 1):
            self._position.update(epoch=epoch, batches=number)
            self._watch(batch.skipped)
            yield batch._replace(images=batch.images.clone()) if self.num_workers else batch

    def _watch(self, skipped: Sequence[str]) -> None:
        stream = self.dataset
        for name in set(skipped) - self._broken:
            self._broken.add(name)
            log.warning("split '%s': row '%s' is broken and left out", stream.split, name)
        check_broken(sorted(self._broken), len(stream.table.names), stream.split, self._max_broken)


def check_broken(names: Sequence[str], rows: int, split: str, share: float) -> None:
    """Refuse a split of which more than a share is broken.

    Raises:
        DataError: naming some of the rows.
    """
    if len(names) > share * rows:
        raise DataError(
            f"{len(names)} of {rows} rows of split '{split}' are broken (such as {list(names[:3])}): no caption with "
            f"a word in it, or an image that does not decode. More than {share:.0%} is not let pass: mend or remove "
            "them, or allow more by --data.max_broken"
        )


class RetrievalDataModule(LightningDataModule):
    """Images and captions of one source.

    Args:
        source: a key of ``rsretrieval.data.sources.SOURCES``, or a data set of ``rsretrieval.data.catalog.DATASETS``.
        path: of the source's files.
        columns: names of a table's columns.
        image_size: side of the square images, in pixels.
        eval_image_size: the same in evaluation, where it differs; networks trained on crops see evaluation's objects
            smaller, and a convolutional one gains by a larger size (Touvron et al., "Fixing the train-test resolution
            discrepancy", NeurIPS 2019).
        batch_size: pairs of a training batch, on each process.
        eval_batch_size: images of an evaluation batch, on each process.
        num_workers: loading processes of each process.
        augmentation: a key of ``rsretrieval.data.transforms.AUGMENTATIONS``.
        word_deletion: probability of each word of a training caption.
        max_words: longest caption, in words.
        captions_per_image: captions of an image that an epoch uses, taking turns; null for all (the paper).
        shuffle: False trains in the source's order, to look for faults.
        holdout: share of the training images to validate on, for data sets without a validation split; 0 for none.
            The same images for every seed.
        scene_file: JSON of file name to scene class.
        caption_values: value of each training caption in the weighted loss, from all of them, cleaned; null for a
            table's own column, and without one for :func:`rsretrieval.data.captions.length_values`, the paper's.
        max_broken: share of a split's rows that may be left out because they are broken.
        predict_split: the split that ``predict`` embeds.
        seed: of order and augmentation; null for the run's (``--seed_everything``).
    """

    def __init__(
        self,
        source: str = "synthetic",
        path: str = "",
        columns: Columns = Columns(),  # noqa: B008 - frozen
        image_size: int = 224,
        eval_image_size: int | None = None,
        batch_size: int = 135,
        eval_batch_size: int = 64,
        num_workers: int = 2,
        augmentation: str = "rsicd",
        word_deletion: float = 0.06,
        max_words: int = 30,
        captions_per_image: int | None = None,
        shuffle: bool = True,
        holdout: float = 0.0,
        scene_file: str | None = None,
        caption_values: Callable[[Sequence[str]], Sequence[float]] | None = None,
        max_broken: float = 0.01,
        predict_split: str = "valid",
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.source_name, self.path, self.columns, self.image_size = source, path, columns, image_size
        self.eval_image_size = eval_image_size or image_size
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.augmentation, self.word_deletion, self.max_words = augmentation, word_deletion, max_words
        self.captions_per_image, self.scene_file, self.caption_values = captions_per_image, scene_file, caption_values
        self.shuffle = shuffle
        self.max_broken, self.predict_split, self.holdout = max_broken, predict_split, holdout
        self.seed = run_seed() if seed is None else seed
        self.source: Source | None = None
        self._position = {"epoch": -1, "batches": 0}

    def table(self, split: str) -> Table:
        """The cleaned text side of a split.

        Raises:
            DataError: if too many rows have no caption with a word in it.
        """
        if self.source is None:
            source = build_source(self.source_name, self.path, self.columns)
            self.source = Holdout(source, self.holdout, seed=0) if self.holdout else source
        records = self.source.records(split)
        cleaned = [[clean(c, self.max_words) if isinstance(c, str) else "" for c in r.captions] for r in records]
        captions = [[text for text in texts if text] for texts in cleaned]
        empty = [record.filename for record, texts in zip(records, captions, strict=True) if not texts]
        check_broken(empty, len(records), split, self.max_broken)
        by_file = json.loads(Path(self.scene_file).expanduser().read_text()) if self.scene_file else None
        names = scene_names(records, by_file)
        classes = {name: number for number, name in enumerate(sorted(set(names)))}
        given = [record.values for record in records]
        if self.caption_values is None and None not in given:
            values = [
                [v for v, text in zip(vs or (), texts, strict=True) if text]
                for vs, texts in zip(given, cleaned, strict=True)
            ]
        else:
            flat = iter((self.caption_values or length_values)([text for texts in captions for text in texts]))
            values = [[next(flat) for _ in texts] for texts in captions]
        return Table(
            names=[record.filename for record in records],
            captions=captions,
            values=values,
            scenes=[classes[name] for name in names],
            blocks=self.source.blocks(split),
            scene_names=list(classes),
            broken=empty,
        )

    def stream(self, split: str, *, train: bool = False) -> RetrievalStream:
        """This process's batches of a split."""
        table = self.table(split)
        assert self.source is not None  # set by table()
        return RetrievalStream(
            self.source,
            split,
            table,
            training(self.augmentation, self.image_size) if train else evaluation(self.eval_image_size),
            self.batch_size if train else self.eval_batch_size,
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1),
            train=train,
            seed=self.seed,
            word_deletion=self.word_deletion,
            captions_per_image=self.captions_per_image,
            shuffle=self.shuffle,
        )

    def _loader(self, split: str, *, train: bool = False) -> EpochLoader:
        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer and train else 0

        position = self._position if train else {"epoch": -1, "batches": 0}
        return EpochLoader(
            self.stream(split, train=train), epoch, position, self.max_broken, num_workers=self.num_workers
        )

    def state_dict(self) -> dict[str, int]:
        """Epoch and batches of it that were trained on; Lightning keeps them in its checkpoints.

        Not in the loader, whose state Lightning restores too late where the length was asked for before.
        """
        return dict(self._position)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """See :meth:`state_dict`."""
        self._position.update(state_dict)

    def train_dataloader(self) -> EpochLoader:
        """Batches of pairs."""
        return self._loader("train", train=True)

    def val_dataloader(self) -> EpochLoader:
        """Every image of the validation split with all its captions."""
        return self._loader("valid")

    def test_dataloader(self) -> EpochLoader:
        """Every image of the test split with all its captions."""
        return self._loader("test")

    def predict_dataloader(self) -> EpochLoader:
        """Every image of ``predict_split`` with all its captions."""
        return self._loader(self.predict_split)
