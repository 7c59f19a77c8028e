"""What a person sees at the end: a table of the figures, and a picture of queries with their results."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from rsretrieval.data.stream import RetrievalStream
from rsretrieval.metrics import Embeddings
from rsretrieval.module import RetrievalModule

log = logging.getLogger(__name__)
TILE, GAP, FRAME, RESULTS = 112, 8, 4, 5  # pixels, pixels, pixels, results a query
RIGHT, WRONG = "#1a9641", "#cccccc"


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Figures in percent, one line for each label of ``rows``.

    Example:
        >>> print(table({"test": {"i2t_R@1": 12.5, "mR": 30.0}}))
               i2t_R@1        mR
        test     12.50     30.00
    """
    names = list(next(iter(rows.values())))
    label = max(map(len, rows))
    lines = [" " * label + "".join(f"{name:>10}" for name in names)]
    lines += [f"{name:<{label}}" + "".join(f"{row[key]:10.2f}" for key in names) for name, row in rows.items()]
    return "\n".join(lines)


def _framed(image: Image.Image, right: bool | None) -> Image.Image:
    """A tile with a frame: green for right, grey for wrong, none for a query."""
    out = Image.new("RGB", (TILE, TILE), "white" if right is None else RIGHT if right else WRONG)
    side = TILE - 2 * FRAME
    out.paste(image.resize((side, side), Image.Resampling.BICUBIC), (FRAME, FRAME))
    return out


def picture(stream: RetrievalStream, found: Embeddings, queries: int = 4) -> Image.Image:
    """Queries by text with their five best images, then queries by image with their five best distinct captions.

    Args:
        stream: where the images and captions are.
        found: the embeddings of its split.
        queries: of each kind, evenly spaced over the images.
    """
    found = Embeddings(*(field.cpu() for field in found))
    rows = torch.linspace(0, len(found.image) - 1, queries).long().unique().tolist()  # type: ignore[no-untyped-call]
    font = ImageFont.load_default(13)
    width = 2 * TILE + RESULTS * (TILE + GAP) + 2 * GAP
    canvas = Image.new("RGB", (width, 2 * len(rows) * (TILE + GAP) + GAP), "white")
    draw = ImageDraw.Draw(canvas)

    def caption(text_row: int) -> tuple[str, set[int]]:
        """A distinct text and the rows of the images that it describes."""
        owners = found.owners[found.captions == text_row].tolist()
        row = int(found.image_ids[owners[0]])
        mine = found.captions[found.owners == owners[0]].tolist()
        return stream.table.captions[row][mine.index(text_row)], set(owners)

    for line, row in enumerate(rows):
        y = GAP + line * (TILE + GAP)
        text_row = int(found.captions[(found.owners == row).nonzero()[0, 0]])
        text, owners = caption(text_row)
        draw.multiline_text((GAP, y), textwrap.fill(text, 30), "black", font)
        best = (found.image @ found.text[text_row]).topk(min(RESULTS, len(found.image))).indices.tolist()
        for place, hit in enumerate(best):
            tile = _framed(stream.image(int(found.image_ids[hit])), hit in owners)
            canvas.paste(tile, (2 * TILE + 2 * GAP + place * (TILE + GAP), y))
    for line, row in enumerate(rows, len(rows)):
        y = GAP + line * (TILE + GAP)
        canvas.paste(_framed(stream.image(int(found.image_ids[row])), None), (GAP, y))
        best = (found.text @ found.image[row]).topk(min(RESULTS, len(found.text))).indices.tolist()
        for place, hit in enumerate(best):
            text, owners = caption(hit)
            shown = textwrap.shorten(text, 90, placeholder=" …")
            draw.text((2 * TILE, y + place * TILE // RESULTS), shown, RIGHT if row in owners else "#555555", font)
    return canvas


class RetrievalReport(Callback):
    """After ``fit``, ``validate`` and ``test``: the table in the log, ``results-SPLIT.png`` in the run's folder.

    Args:
        queries: of each kind in the picture; 0 for no picture.
    """

    def __init__(self, queries: int = 4) -> None:
        self.queries = queries
        self.best: dict[str, Any] = {}

    @staticmethod
    def _figures(trainer: Trainer, split: str) -> dict[str, float]:
        found: Mapping[str, Tensor] = trainer.callback_metrics
        return {k.removeprefix(f"{split}/"): float(v) for k, v in found.items() if k.startswith(f"{split}/")}

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the best epoch."""
        figures = self._figures(trainer, "val")
        if trainer.sanity_checking or not figures:
            return
        if not self.best or figures["mR"] > self.best["figures"]["mR"]:
            self.best = {"epoch": trainer.current_epoch, "figures": figures}
        if trainer.state.fn == "validate":
            self._evaluated(trainer, pl_module, "val", trainer.val_dataloaders)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last and the best epoch, and what the last one finds."""
        if self.best:
            best = f"val, best epoch ({self.best['epoch']})"
            rows = {"val, last epoch": self._figures(trainer, "val"), best: self.best["figures"]}
            self._report(trainer, pl_module, "val", rows, trainer.val_dataloaders)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the test figures."""
        self._evaluated(trainer, pl_module, "test", trainer.test_dataloaders)

    def _evaluated(self, trainer: Trainer, pl_module: LightningModule, split: str, loader: Any) -> None:  # noqa: ANN401
        """Report the figures and, marked by what they took, those after re-ranking."""
        rows = {split: self._figures(trainer, split)}
        reranked = self._figures(trainer, f"{split}_reranked")
        if reranked and isinstance(pl_module, RetrievalModule) and pl_module.rerank:
            queries = {"all": "all queries", "bank": "the query bank"}[pl_module.rerank.queries]
            rows[f"{split}, re-ranked by {queries}"] = reranked
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
            found = pl_module.recall.merged()
        if not trainer.is_global_zero:
            return
        log.info("%s", table(rows))
        stream = getattr(loader, "dataset", None)
        if self.queries and isinstance(stream, RetrievalStream):
            path = Path(trainer.default_root_dir) / f"results-{split}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(stream, found, self.queries).save(path)
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


class EmbeddingWriter(Callback):
    """After ``predict``: ``embeddings-RANK.parquet`` in the run's folder, one row an image.

    Columns: ``filename``, ``embedding``, ``captions`` and ``caption_embeddings``.
    """

    def __init__(self) -> None:
        self._rows: list[dict[str, Any]] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the batch's rows."""
        names = trainer.predict_dataloaders.dataset.table.names  # type: ignore[union-attr]
        for image_id, image in zip(outputs["image_ids"].tolist(), outputs["image"].cpu(), strict=True):
            mine = (outputs["owners"] == image_id).nonzero()[:, 0].tolist()
            self._rows.append(
                {
                    "filename": names[image_id],
                    "embedding": image.tolist(),
                    "captions": [batch.texts[j] for j in mine],
                    "caption_embeddings": outputs["text"][mine].tolist(),
                }
            )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, whole or not at all."""
        from datasets import Dataset

        path = Path(trainer.default_root_dir) / f"embeddings-{trainer.global_rank}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        Dataset.from_list(self._rows).to_parquet(str(partial))
        partial.replace(path)
        self._rows.clear()
        log.info("embeddings: %s", path)
