"""What a tracker such as W&B shows beside scalars: tables of results and scenes, what was run, the best checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.metrics import SplitEmbeddings
from rsretrieval.metrics.confusion_picture import draw_confusion
from rsretrieval.models.digest import digest_of
from rsretrieval.training.graded import scene_table
from rsretrieval.training.module import RetrievalModule
from rsretrieval.training.picture import TILE
from rsretrieval.training.results import RESULTS, Answer, answers
from rsretrieval.training.scene_figures import scene_figures

log = logging.getLogger(__name__)


class Tracking(Callback):
    """For loggers that keep tables (W&B); every other logger gets the account of what was run.

    - ``run.data_revision``, ``run.data_fingerprint`` and ``run.model_digest`` in the configuration: what the data set
      was, and the model as the training began with it;
    - the maximum of ``val/mR`` as the run's summary;
    - after ``fit``, ``validate`` and ``test``, of the last epoch's split: ``SPLIT/text_queries`` and
      ``SPLIT/image_queries``, queries with their five best results, right or wrong; where it has scene labels,
      ``SPLIT/scenes``, recall of each scene's queries, and ``SPLIT/scene_confusion``, a heat map of which scene's
      images come first for which scene's captions.

    Args:
        queries: in each of the two tables, evenly spaced over the images; 0 for no tables.
        artifact: send the best checkpoint too, as ``best-RUN`` of type ``model``.

    Raises:
        ValueError: for a negative number of queries.
    """

    def __init__(self, queries: int = 16, *, artifact: bool = False) -> None:
        if queries < 0:
            raise ValueError(f"tracking.queries={queries}: give 0 or more")
        self.queries, self.artifact = queries, artifact

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say what is run, where it is a new run, and what the summary is."""
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        for logger in _trackers(trainer) if trainer.is_global_zero else []:
            logger.experiment.define_metric("val/mR", step_metric="trainer/global_step", summary="max")
        if trainer.is_global_zero and trainer.ckpt_path is None:
            account = {"run": _account(trainer, pl_module)}
            for logger in trainer.loggers:
                logger.log_hyperparams(account)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation split of the last epoch, and send the best checkpoint."""
        self._show(trainer, pl_module, "val", trainer.val_dataloaders)
        checkpoint = trainer.checkpoint_callback
        best = Path(getattr(checkpoint, "best_model_path", "") or "")
        if self.artifact and trainer.is_global_zero and best.is_file():
            for logger in _trackers(trainer):
                run = logger.experiment
                run.log_artifact(str(best), name=f"best-{run.id}", type="model", aliases=["best"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the validation split of ``validate``."""
        if trainer.state.fn == "validate":
            self._show(trainer, pl_module, "val", trainer.val_dataloaders)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test split."""
        self._show(trainer, pl_module, "test", trainer.test_dataloaders)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Mark the run as failed; it may go on later."""
        for logger in _trackers(trainer) if trainer.is_global_zero else []:
            if hasattr(logger, "end"):
                logger.end(1)

    def _show(self, trainer: Trainer, pl_module: LightningModule, split: str, loader: Any) -> None:  # noqa: ANN401
        stream = getattr(loader, "dataset", None)
        trackers = _trackers(trainer)
        if not (trackers and isinstance(pl_module, RetrievalModule) and isinstance(stream, RetrievalStream)):
            return
        if not pl_module.recall.update_called:  # nothing was left to train
            return
        embeddings = pl_module.recall.whole()  # all ranks take part
        if not trainer.is_global_zero:
            return
        for logger in trackers:
            if self.queries:
                for key, (columns, rows) in result_tables(stream, embeddings, self.queries).items():
                    logger.log_table(key=f"{split}/{key}", columns=columns, data=rows)
            _show_scenes(logger, split, loader, embeddings)


def _trackers(trainer: Trainer) -> list[Any]:
    return [logger for logger in trainer.loggers if hasattr(logger, "log_table")]


def _account(trainer: Trainer, pl_module: LightningModule) -> Mapping[str, str | None]:
    """Which data set and which model."""
    data = getattr(trainer, "datamodule", None)
    account: dict[str, str | None] = {}
    if isinstance(data, RetrievalDataModule):
        account = {"data_revision": data.source.revision, "data_fingerprint": data.source.fingerprint()}
        if isinstance(pl_module, RetrievalModule):
            account["model_digest"] = digest_of(pl_module.model, data.eval_image_size, data.max_words)
    return account


def _show_scenes(logger: Any, split: str, loader: Any, embeddings: SplitEmbeddings) -> None:  # noqa: ANN401
    table = scene_table(loader)
    if table is None:
        return
    figures = scene_figures(table, embeddings)
    columns = ["scene", "images", *figures.recall]
    values = zip(figures.names, figures.images.tolist(), *(v.tolist() for v in figures.recall.values()), strict=True)
    logger.log_table(key=f"{split}/scenes", columns=columns, data=[list(row) for row in values])
    logger.log_image(key=f"{split}/scene_confusion", images=[draw_confusion(figures.confusion, figures.names)])


def result_tables(
    stream: RetrievalStream, embeddings: SplitEmbeddings, queries: int
) -> dict[str, tuple[list[str], list[list[Any]]]]:
    """``text_queries`` and ``image_queries``: columns and rows, whose cells are texts, truth values and small pictures.

    Args:
        stream: where the images and captions are.
        embeddings: of its split.
        queries: of each kind.
    """

    def small(row: int) -> Image.Image:
        return stream.image(row).convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)

    def cells(answer: Answer) -> list[Any]:
        filled: list[Any] = []
        for item, right in answer.results:
            filled += [small(item) if isinstance(item, int) else item, right]
        missing = RESULTS - len(answer.results)
        return [stream.table.names[answer.row], small(answer.row), *filled, *[None, None] * missing]

    places = [f"{kind} {place}" for place in range(1, RESULTS + 1) for kind in ("result", "right")]
    by_text, by_image = answers(stream.table, embeddings, queries)
    return {
        "text_queries": (
            ["query", "file", "own image", *places],
            [[answer.text, *cells(answer)] for answer in by_text],
        ),
        "image_queries": (["file", "query", *places], [cells(answer) for answer in by_image]),
    }
