"""What a person sees at the end: a table of the figures, and a picture of queries with their results."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from rsretrieval.data.stream import RetrievalStream
from rsretrieval.training.module import RetrievalModule
from rsretrieval.training.picture import draw_results

log = logging.getLogger(__name__)


def figures_table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Figures in percent, one line for each label of ``rows``.

    Example:
        >>> print(figures_table({"test": {"i2t_R@1": 12.5, "mR": 30.0}}))
               i2t_R@1        mR
        test     12.50     30.00
    """
    names = list(next(iter(rows.values())))
    label = max(map(len, rows))
    lines = [" " * label + "".join(f"{name:>10}" for name in names)]
    lines += [f"{name:<{label}}" + "".join(f"{row[key]:10.2f}" for key in names) for name, row in rows.items()]
    return "\n".join(lines)


class RetrievalReport(Callback):
    """After ``fit``, ``validate`` and ``test``: the table in the log, ``results-SPLIT.png`` in the run's folder.

    Args:
        queries: of each kind in the picture; 0 for no picture.
    """

    def __init__(self, queries: int = 4) -> None:
        self.queries = queries
        self.best: dict[str, Any] = {}
        self._validated = False

    @staticmethod
    def _figures(trainer: Trainer, split: str) -> dict[str, float]:
        metrics: Mapping[str, Tensor] = trainer.callback_metrics
        figures = {k.removeprefix(f"{split}/"): float(v) for k, v in metrics.items() if k.startswith(f"{split}/")}
        figures.pop("skipped", None)  # a count of images
        return figures

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the best epoch."""
        figures = self._figures(trainer, "val")
        if trainer.sanity_checking or "mR" not in figures:  # of another module
            return
        self._validated = True
        if not self.best or figures["mR"] > self.best["figures"]["mR"]:
            self.best = {"epoch": trainer.current_epoch, "figures": figures}
        if trainer.state.fn == "validate":
            self._evaluated(trainer, pl_module, "val", trainer.val_dataloaders)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last and the best epoch, and what the last one retrieves."""
        if self.best and not self._validated:
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
        rows = {split: self._figures(trainer, split)}
        corrected = self._figures(trainer, f"{split}_hubness_corrected")
        if corrected and isinstance(pl_module, RetrievalModule) and pl_module.hubness:
            queries = {"all": "all queries", "bank": "the query bank"}[pl_module.hubness.queries]
            rows[f"{split}, corrected for hubs by {queries}"] = corrected
        self._report(trainer, pl_module, split, rows, loader)

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
        with pl_module.recall.sync_context():  # all ranks take part
            embeddings = pl_module.recall.merged()
        if not trainer.is_global_zero:
            return
        note = pl_module.coverage.note() if pl_module.coverage else ""
        log.info("%s%s", figures_table(rows), f"\n{note}" if note else "")
        stream = getattr(loader, "dataset", None)
        if self.queries and isinstance(stream, RetrievalStream):
            path = Path(trainer.default_root_dir) / f"results-{split}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw_results(stream, embeddings, self.queries).save(path)
            log.info("queries and their results: %s", path)
            for logger in trainer.loggers:
                if hasattr(logger, "log_image"):  # W&B
                    logger.log_image(key=f"{split}/results", images=[str(path)])

    def state_dict(self) -> dict[str, Any]:
        """The best epoch so far, for a resumed run."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """See :meth:`state_dict`."""
        self.best = state_dict["best"]
