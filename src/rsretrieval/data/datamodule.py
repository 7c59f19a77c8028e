"""The LightningDataModule: a source, its splits as streams of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from lightning import LightningDataModule

from rsretrieval.data.checks import check_choice, check_fractions, check_least
from rsretrieval.data.datasets.base import SPLITS, Columns, DataError, Source
from rsretrieval.data.datasets.exclusion import exclude as exclude_images
from rsretrieval.data.datasets.holdout import hold_out
from rsretrieval.data.datasets.registry import build_source
from rsretrieval.data.loader import EpochLoader
from rsretrieval.data.resume import CheckpointedPosition, Position
from rsretrieval.data.serving import ServesModel
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.data.table import Table, build_table, warn_of_shared_names
from rsretrieval.data.transforms import AUGMENTATIONS, evaluation, training
from rsretrieval.distributed import run_seed
from rsretrieval.images import Rendering
from rsretrieval.metrics.protocol import QUERIES


class RetrievalDataModule(ServesModel, CheckpointedPosition, LightningDataModule):
    """Images and captions of one source.

    Args:
        source: a key of ``rsretrieval.data.SOURCES``, or a data set of ``rsretrieval.data.DATASETS``.
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
        max_words: longest caption, in words, for models that clean texts.
        captions_per_image: captions of an image that an epoch uses, taking turns; null for all (the paper).
        shuffle: False trains in the source's order, to look for faults.
        holdout: fraction of the training images to validate on, for data sets without a validation split; 0 for none.
            The same images for every seed.
        exclude: images to leave out of training, before any are held out: a CSV of ``rsretrieval data overlap``, or a
            text with a file name a line; null for none.
        scene_file: JSON of file name to scene class.
        caption_values: value of each training caption in the weighted loss, from all of them, cleaned; null for a
            table's own column, and without one for :func:`rsretrieval.data.captions.length_values`, the paper's.
        max_broken: fraction of a split's rows that may be left out because they are broken.
        predict_split: the split that ``predict`` embeds.
        queries: of evaluation: ``every`` caption, right for the image that it was written for; or each ``distinct``
            caption once, right for all images that have it (SkyScript's protocol). Captions are compared as the model
            sees them: cleaned, or as written for a pre-trained pair.
        seed: of order and augmentation; null for the run's (``--seed_everything``).
        scale: how images that are not 8-bit become 8-bit (:class:`rsretrieval.images.Scale`): dtype, minmax, minmax LOW
            HIGH or percentile LOW HIGH; null refuses them.
        bands: which of many bands become red, green and blue, such as ``4 3 2``; null for the first three.
        revision: hub: commit, tag or branch to read; null settles on the newest once and keeps it in checkpoints.
        configuration: hub: which of a data set's configurations to read; null for the only one.

    Attributes:
        tokenizer: of the model, set before the loaders are made, so that their workers tokenise (``Batch.tokens``).

    Raises:
        ValueError: if a setting is out of its bounds.
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
        exclude: str | None = None,
        scene_file: str | None = None,
        caption_values: Callable[[Sequence[str]], Sequence[float]] | None = None,
        max_broken: float = 0.01,
        predict_split: str = "valid",
        queries: str = "every",
        seed: int | None = None,
        scale: str | None = None,
        bands: str | None = None,
        revision: str | None = None,
        configuration: str | None = None,
    ) -> None:
        super().__init__()
        check_least(
            image_size=image_size, eval_image_size=eval_image_size, batch_size=batch_size,
            eval_batch_size=eval_batch_size, max_words=max_words, captions_per_image=captions_per_image,
        )  # fmt: skip
        check_least(0, num_workers=num_workers, seed=seed)
        check_fractions(word_deletion=word_deletion, max_broken=max_broken, holdout=holdout)
        check_choice(AUGMENTATIONS, augmentation=augmentation)
        check_choice(SPLITS, predict_split=predict_split)
        check_choice(QUERIES, queries=queries)
        self.source_name, self.path, self.columns, self.revision = source, path, columns, revision
        self.configuration = configuration
        self.image_size, self.eval_image_size = image_size, eval_image_size or image_size
        self.batch_size, self.eval_batch_size, self.num_workers = batch_size, eval_batch_size, num_workers
        self.augmentation, self.word_deletion, self.max_words = augmentation, word_deletion, max_words
        self.captions_per_image, self.shuffle, self.scene_file = captions_per_image, shuffle, scene_file
        self.max_broken, self.predict_split, self.holdout = max_broken, predict_split, holdout
        self.exclude, self.queries = exclude, queries
        self.caption_values, self.seed = caption_values, run_seed() if seed is None else seed
        self.rendering = Rendering.parse(scale, bands)
        self._settled, self._position = revision, Position()
        self._source: Source | None = None
        self._tables: dict[tuple[str, bool], Table] = {}

    @property
    def source(self) -> Source:
        """Where the rows are; built once, of the revision that was settled.

        Raises:
            DataError: if it does not build.
        """
        if self._source is None:
            source = build_source(self.source_name, self.path, self.columns, self._settled, self.configuration)
            self._source = hold_out(exclude_images(source, self.exclude), self.holdout)
            self._settled = self._source.revision
        return self._source

    def _settle(self, revision: str | None) -> None:
        """Read that revision from now on."""
        if self._source is not None and self._source.revision != revision:
            self._source = None
            self._tables.clear()
        self._settled = revision

    def prepare_data(self) -> None:
        """Fetch what is fetched once for all processes of a node: of the run's splits, where it is known."""
        self.source.prepare()
        run = self.trainer.state.fn if self.trainer else None
        splits = {"fit": ["train", "valid"], "validate": ["valid"], "test": ["test"], "predict": [self.predict_split]}
        for split in splits.get(run or "", []):
            self.source.fetch(split)

    def setup(self, stage: str | None = None) -> None:
        """Build the source; every process reads the revision that the first settles on."""
        if self.trainer is not None and self.trainer.world_size > 1:
            newest = self.source.revision if self.trainer.global_rank == 0 else None
            self._settle(self.trainer.strategy.broadcast(newest))
        _ = self.source

    def table(self, split: str, *, needs_captions: bool = True) -> Table:
        """The text side of a split, as the model sees it, read once.

        Args:
            split: its name.
            needs_captions: whether images without a caption are left out.

        Raises:
            DataError: if too many rows have no caption with a word in it and need one.
        """
        if (split, needs_captions) not in self._tables:
            self._tables[split, needs_captions] = build_table(
                self.source,
                split,
                max_words=self.max_words,
                max_broken=self.max_broken,
                scene_file=self.scene_file,
                caption_values=self.caption_values,
                as_written=self._as_written,
                needs_captions=needs_captions,
            )
            if ("train", True) in self._tables and split != "train":
                warn_of_shared_names(self._tables["train", True], self._tables[split, needs_captions], split)
        return self._tables[split, needs_captions]

    def stream(self, split: str, *, train: bool = False, needs_captions: bool = True) -> RetrievalStream:
        """This process's batches of a split."""
        table = self.table(split, needs_captions=needs_captions)
        self.source.fetch(split)
        return RetrievalStream(
            self.source,
            split,
            table,
            training(self.augmentation, self._square(self.image_size))
            if train
            else evaluation(self._square(self.eval_image_size)),
            self.batch_size if train else self.eval_batch_size,
            (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1),
            train=train,
            seed=self.seed,
            word_deletion=self.word_deletion,
            captions_per_image=self.captions_per_image,
            shuffle=self.shuffle and not getattr(self.trainer, "overfit_batches", 0),
            tokenizer=self.tokenizer,
            rendering=self.rendering,
        )

    def _loader(self, split: str, *, train: bool = False, needs_captions: bool = True) -> EpochLoader:
        stream = self.stream(split, train=train, needs_captions=needs_captions)

        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer and train else 0

        def position() -> Position | None:
            trained_on = getattr(self.trainer, "train_dataloader", stream)  # others are only looked at
            return self._position if train and stream in (trained_on, getattr(trained_on, "dataset", None)) else None

        return EpochLoader(
            stream,
            epoch,
            position,
            self.max_broken,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def train_dataloader(self) -> EpochLoader:
        """Batches of pairs.

        Raises:
            DataError: if the global batch is one pair.
        """
        if self.batch_size * (self.trainer.world_size if self.trainer else 1) == 1:
            raise DataError("a batch of one pair has nothing to be told from: give --data.batch_size 2 or more")
        return self._loader("train", train=True)

    def val_dataloader(self) -> EpochLoader:
        """Every image of the validation split with all its captions."""
        return self._loader("valid")

    def test_dataloader(self) -> EpochLoader:
        """Every image of the test split with all its captions."""
        return self._loader("test")

    def predict_dataloader(self) -> EpochLoader:
        """Every image of ``predict_split`` with all its captions, if it has any."""
        return self._loader(self.predict_split, needs_captions=False)
