"""What ``predict`` gives, as a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from rsretrieval.files import write_whole
from rsretrieval.training.module import RetrievalModule

log = logging.getLogger(__name__)


class EmbeddingWriter(Callback):
    """After ``predict``: ``embeddings-RANK.parquet`` in the run's folder, one row an image that could be read.

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
        if not isinstance(pl_module, RetrievalModule):
            return
        names = trainer.predict_dataloaders.dataset.table.names  # type: ignore[union-attr]
        for image_id, image in zip(outputs["image_ids"].tolist(), outputs["image"].cpu(), strict=True):
            own = (outputs["owners"] == image_id).nonzero()[:, 0].tolist()
            self._rows.append(
                {
                    "filename": names[image_id],
                    "embedding": image.tolist(),
                    "captions": [batch.texts[row] for row in own],
                    "caption_embeddings": outputs["text"][own].tolist(),
                }
            )

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, whole or not at all."""
        if not isinstance(pl_module, RetrievalModule):
            return
        from datasets import Dataset, Features, List, Value

        features = Features(  # a process may have no row to tell them from
            {
                "filename": Value("string"),
                "embedding": List(Value("float64")),
                "captions": List(Value("string")),
                "caption_embeddings": List(List(Value("float64"))),
            }
        )
        columns = {name: [row[name] for row in self._rows] for name in features}
        path = Path(trainer.default_root_dir) / f"embeddings-{trainer.global_rank}.parquet"
        write_whole(path, lambda partial: Dataset.from_dict(columns, features=features).to_parquet(str(partial)))
        log.info("embeddings of %d images: %s", len(self._rows), path)
        self._rows.clear()
