"""What a person sees at the end: a table of the figures, and a picture of queries with their results."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.stream import RetrievalStream
from rsretrieval.files import write_png
from rsretrieval.metrics import SplitEmbeddings, recall_ceiling
from rsretrieval.metrics.protocol import check_protocol
from rsretrieval.records.queries import query_file
from rsretrieval.redaction import redacted_values
from rsretrieval.training.graded import graded_figures, graded_note, scene_table
from rsretrieval.training.module import RetrievalModule
from rsretrieval.training.picture import draw_results
from rsretrieval.training.query_records import query_records, write_queries

log = logging.getLogger(__name__)

PROTOCOLS = {
    "every": "every caption a query, right for its own image",
    "distinct": "each distinct caption once, right for all images that have it",
}
PICTURES = {"results": "queries and their results", "worst": "queries whose own result comes last"}
LOW_CEILING = 95.0
"""Mean recall of a perfect encoder, in percent, below which the log warns."""


def figures_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Figures in percent, one line for each label of ``rows``, which may lack some of the first one's.

    Example:
        >>> print(figures_table({"test": {"i2t_R@1": 12.5, "mR": 30.0}}))
               i2t_R@1        mR
        test     12.50     30.00
    """
    names = list(next(iter(rows.values())))
    label, width = max(map(len, rows)), max(10, *(len(name) + 2 for name in names))
    lines = [" " * label + "".join(f"{name:>{width}}" for name in names)]
    for name, row in rows.items():
        values = (f"{row[key]:{width}.2f}" if key in row else " " * width for key in names)
        lines.append(f"{name:<{label}}{''.join(values)}".rstrip())
    return "\n".join(lines)


def _is_graded(name: str) -> bool:
    return "_mAP@" in name or "_nDCG@" in name


class RetrievalReport(Callback):
    """After ``fit``, ``validate`` and ``test``: the table in the log, pictures and queries in the run's folder.

    ``results-SPLIT.png`` has queries evenly spaced, ``worst-SPLIT.png`` those whose own result comes last, and
    ``queries-SPLIT.parquet`` every query (:func:`rsretrieval.training.query_records.query_records`), by which
    ``rsretrieval report`` compares runs.

    The table names the protocol, and what a perfect encoder would reach (``ceiling``). In ``validate`` and ``test``,
    where the split has scene labels, ``SPLIT/i2t_mAP@K``, ``SPLIT/i2t_nDCG@K`` and the same of ``t2i`` are logged too.

    Args:
        queries: of each kind in a picture; 0 for no pictures.
        graded: the ranks K of mAP@K and nDCG@K; empty for none.

    Raises:
        ValueError: for ranks below 1.
    """

    def __init__(self, queries: int = 4, graded: Sequence[int] = (10,)) -> None:
        if graded:
            check_protocol(graded)
        self.queries, self.graded = queries, tuple(graded)
        self.best: dict[str, Any] = {}
        self._validated: int | None = None

    @staticmethod
    def _figures(trainer: Trainer, split: str) -> dict[str, float]:
        metrics: Mapping[str, Tensor] = trainer.callback_metrics
        figures = {k.removeprefix(f"{split}/"): float(v) for k, v in metrics.items() if k.startswith(f"{split}/")}
        figures.pop("skipped", None)  # a count of images
        return figures

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See :meth:`on_train_batch_start`."""
        self._is_changed = False

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Before the first one: what is known of the folder's queries is of another model from now on."""
        is_first, self._is_changed = not self._is_changed, True
        if is_first and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            for pattern in ("queries-*.parquet", "worst-*.png"):
                for file in Path(trainer.default_root_dir).glob(pattern):
                    file.unlink()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the graded figures of ``validate``."""
        if trainer.state.fn == "validate":
            self._log_graded(pl_module, "val", trainer.val_dataloaders)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the graded figures of ``test``."""
        self._log_graded(pl_module, "test", trainer.test_dataloaders)

    def _log_graded(self, pl_module: LightningModule, split: str, loader: Any) -> None:  # noqa: ANN401
        if isinstance(pl_module, RetrievalModule):
            pl_module.look_at_coverage()
            figures = graded_figures(pl_module.recall, loader, self.graded)
            pl_module.log_dict({f"{split}/{name}": value for name, value in figures.items()})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the best epoch."""
        figures = self._figures(trainer, "val")
        if trainer.sanity_checking or "mR" not in figures:  # of another module
            return
        self._validated = trainer.current_epoch
        if not self.best or figures["mR"] > self.best["figures"]["mR"]:
            self.best = {"epoch": trainer.current_epoch, "figures": figures}
        if trainer.state.fn == "validate":
            self._evaluated(trainer, pl_module, "val", trainer.val_dataloaders)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last and the best epoch, and what the last one retrieves."""
        if self.best and self._validated is None:
            log.info(
                "nothing was left to train: the run had its %d epochs (best: epoch %d, mR %.2f); give more by "
                "--trainer.max_epochs", trainer.current_epoch, self.best["epoch"], self.best["figures"]["mR"],
            )  # fmt: skip
        elif self.best:
            best = f"val, best epoch ({self.best['epoch']})"
            rows = {"val, last epoch": self._figures(trainer, "val"), best: self.best["figures"]}
            self._report(trainer, pl_module, "val", rows, trainer.val_dataloaders)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test figures."""
        self._evaluated(trainer, pl_module, "test", trainer.test_dataloaders)

    def _evaluated(self, trainer: Trainer, pl_module: LightningModule, split: str, loader: Any) -> None:  # noqa: ANN401
        """Report the figures and, marked by what they took, those corrected for hubs."""
        figures = self._figures(trainer, split)
        rows = {split: {name: value for name, value in figures.items() if not _is_graded(name)}}
        graded = {split: {name: value for name, value in figures.items() if _is_graded(name)}}
        corrected = self._figures(trainer, f"{split}_hubness_corrected")
        if corrected and isinstance(pl_module, RetrievalModule) and pl_module.hubness:
            queries = {"all": "all queries", "bank": "the query bank"}[pl_module.hubness.queries]
            rows[f"{split}, corrected for hubs by {queries}"] = corrected
        self._report(trainer, pl_module, split, rows, loader)
        if trainer.is_global_zero and isinstance(pl_module, RetrievalModule) and self.graded:
            table = f"{figures_table(graded)}\n" if graded[split] else ""
            log.info("%s%s", table, graded_note(loader))

    def _report(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        split: str,
        rows: Mapping[str, Mapping[str, float]],
        loader: Any,  # noqa: ANN401
    ) -> None:
        if not isinstance(pl_module, RetrievalModule):
            return
        embeddings = pl_module.recall.whole()  # all ranks take part
        if not trainer.is_global_zero:
            return
        _show(pl_module, embeddings, rows)
        stream, folder = getattr(loader, "dataset", None), Path(trainer.default_root_dir)
        if not isinstance(stream, RetrievalStream):
            return
        recall = pl_module.recall
        records = query_records(stream.table, embeddings, recall.queries, scenes=scene_table(loader) is not None)
        about = {"split": split, "queries": recall.queries, "ks": recall.ks, "of": self._model_of(trainer)}
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, RetrievalDataModule):
            about["data"] = redacted_values([data.source_name, data.path])
        write_queries(query_file(folder, split), records, about)
        if self.queries:
            for name, worst in (("results", False), ("worst", True)):
                path = folder / f"{name}-{split}.png"
                write_png(path, draw_results(stream, embeddings, self.queries, worst=worst))
                log.info("%s: %s", PICTURES[name], path)
                _send(trainer, f"{split}/{name}", path)

    def _model_of(self, trainer: Trainer) -> str:
        """Which model was evaluated, in words."""
        if trainer.state.fn == "fit":
            return f"epoch {self._validated}"
        return Path(str(trainer.ckpt_path)).name if trainer.ckpt_path else "the model as it was given"

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, for a resumed run."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best = state_dict["best"]


def _send(trainer: Trainer, key: str, picture: Path) -> None:
    """Show a picture in every logger that can."""
    for logger in trainer.loggers:
        if hasattr(logger, "log_image"):  # W&B
            logger.log_image(key=key, images=[str(picture)])
        elif isinstance(logger, TensorBoardLogger):
            with Image.open(picture) as opened:
                pixels = np.asarray(opened.convert("RGB"))
            logger.experiment.add_image(key, pixels, trainer.global_step, dataformats="HWC")


def _show(pl_module: RetrievalModule, embeddings: SplitEmbeddings, rows: Mapping[str, Mapping[str, float]]) -> None:
    """The table in the log, with the protocol, the ceiling, and what part of the split the figures are of."""
    recall = pl_module.recall
    ceiling = recall_ceiling(
        owners=embeddings.owners, text_ids=embeddings.caption_rows, ks=recall.ks, queries=recall.queries
    )
    notes = [f"protocol: {PROTOCOLS[recall.queries]} (data.queries={recall.queries}); ceiling: a perfect encoder"]
    if pl_module.coverage and (part := pl_module.coverage.note()):
        notes.append(part)
    log.info("%s", "\n".join([figures_table({**rows, "ceiling": ceiling}), *notes]))
    if ceiling["mR"] < LOW_CEILING:
        log.warning(
            "captions repeat over images: a perfect encoder reaches mR %.2f here and t2i_R@%d %.2f, no more; "
            "--data.queries distinct takes all images that have a caption for right",
            *(ceiling["mR"], recall.ks[0], ceiling[f"t2i_R@{recall.ks[0]}"]),
        )
