"""The LightningModule: wires model, losses and metric, and computes nothing itself."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import torch
from lightning import LightningModule
from torch import Tensor

from rsretrieval.distributed import gather, rank, rows_of_ranks, run_seed
from rsretrieval.losses import Objective, ObjectiveConfig
from rsretrieval.metrics import RerankConfig, RetrievalRecall
from rsretrieval.models import DualEncoder, TowerConfig
from rsretrieval.models.dual_encoder import CLIP_MEAN, CLIP_STD
from rsretrieval.optimizer import OptimizerConfig, adamw, parameter_groups
from rsretrieval.schedule import PAPER_STAGES, Stage
from rsretrieval.types import Batch, Pairs

log = logging.getLogger(__name__)
C = TypeVar("C")


def _config(kind: type[C], given: C | Mapping[str, Any]) -> C:
    return kind(**given) if isinstance(given, Mapping) else given


SWIN = TowerConfig("timm", "swin_tiny_patch4_window7_224.ms_in22k", "pretrained")
BERT = TowerConfig("transformers", "bert-base-uncased", "pretrained")
RESNET = TowerConfig("timm", "resnet50.a1_in1k", "pretrained", frozen=True)


class RetrievalModule(LightningModule):
    """FISVL, or any dual encoder, under a schedule of losses.

    Args:
        image: image tower.
        text: text tower.
        prior: convolutional prior of FGIS; null for none.
        embed_dim: see this and the next six in :class:`rsretrieval.models.DualEncoder`.
        dropout: probability.
        graph_steps: steps of FGIS.
        image_size: side of the square images, in pixels; the command line takes it from the data.
        mean: of the RGB channels.
        std: of the RGB channels.
        freeze_sfgs: the release's option.
        steady: eases FGIS in, see :class:`rsretrieval.models.FGIS`.
        eval_views: see this and the next in :class:`rsretrieval.models.DualEncoder`.
        cache_features: of a frozen image side.
        separate_heads: see this and the next two in :class:`rsretrieval.models.DualEncoder`.
        chunk_size: of a large batch's images and texts.
        query_bank: size.
        rerank: re-rank in ``test`` and ``validate``, and report it apart; null for not.
        objective: settings of the losses.
        optimizer: settings of the optimiser.
    """

    def __init__(
        self,
        image: TowerConfig = SWIN,
        text: TowerConfig = BERT,
        prior: TowerConfig | None = RESNET,
        *,
        embed_dim: int = 512,
        dropout: float = 0.2,
        graph_steps: int = 2,
        image_size: int = 224,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
        freeze_sfgs: bool = False,
        steady: bool = False,
        eval_views: int = 1,
        cache_features: bool = False,
        separate_heads: bool = False,
        chunk_size: int | None = None,
        query_bank: int = 0,
        rerank: RerankConfig | None = None,
        objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008 - frozen
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
    ) -> None:
        super().__init__()
        towers = {
            "image": _config(TowerConfig, image),
            "text": _config(TowerConfig, text),
            "prior": None if prior is None else _config(TowerConfig, prior),
        }
        encoder = {
            "embed_dim": embed_dim,
            "dropout": dropout,
            "graph_steps": graph_steps,
            "image_size": image_size,
            "mean": tuple(mean),
            "std": tuple(std),
            "freeze_sfgs": freeze_sfgs,
            "steady": steady,
            "eval_views": eval_views,
            "cache_features": cache_features,
            "separate_heads": separate_heads,
            "chunk_size": chunk_size,
            "query_bank": query_bank,
        }
        objective, self.optimizer = _config(ObjectiveConfig, objective), _config(OptimizerConfig, optimizer)
        self.rerank = None if rerank is None else _config(RerankConfig, rerank)
        if self.rerank is not None and self.rerank.queries == "bank" and not query_bank:
            raise ValueError(
                "rerank.queries: bank needs a model that was trained with query_bank: set it, or use `all`"
            )
        configs = {**towers, "objective": objective, "optimizer": self.optimizer, "rerank": self.rerank}
        # Plain values, so that a checkpoint loads with weights_only=True.
        self.save_hyperparameters({**{k: v and asdict(v) for k, v in configs.items()}, **encoder})
        self.model = DualEncoder(**towers, **encoder)  # type: ignore[arg-type]
        self.objective = Objective(objective)
        self.recall = RetrievalRecall()
        self.stage: Stage = PAPER_STAGES[0]
        self._encoded: set[int] = set()

    def losses(self, batch: Batch, weights: Mapping[str, float], epoch: int) -> dict[str, Tensor]:
        """Losses of the global batch, gathered with gradients, and under ``loss`` their weighted sum.

        Each is the mean over the heads of the model.
        """
        image, text = self.model(batch.images, batch.texts)
        mine = Pairs(image, text, batch.image_ids, batch.text_ids, batch.scenes, batch.caption_values)
        sizes = rows_of_ranks(image)
        first = sum(sizes[: rank()])
        pairs = mine.map(lambda field: gather(field, sizes))
        if self.training and self.model.bank is not None:
            self.model.bank.remember(pairs.image, pairs.text)
        local = slice(first, first + len(image))
        heads = zip(self.model.by_head(pairs.image), self.model.by_head(pairs.text), strict=True)
        each = [self.objective(pairs._replace(image=i, text=t), local, weights, epoch) for i, t in heads]
        return {name: torch.stack([values[name] for values in each]).mean(0) for name in each[0]}

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a function of seed, step and process, so that a resumed run draws what it would have drawn."""
        torch.manual_seed(hash((run_seed(), self.global_step, rank())) % 2**63)

    def training_step(self, batch: Batch) -> Tensor:
        """One step on the losses of the stage in force."""
        values = self.losses(batch, self.stage.losses, self.current_epoch)
        self.log("data/skipped", float(len(batch.skipped)), on_step=False, on_epoch=True, reduce_fx="sum")
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()}, prog_bar=True)
        loss: Tensor = values["loss"]
        return loss

    def _evaluate(self, batch: Batch) -> None:
        """Embed a batch, each distinct text once."""
        ids = batch.text_ids
        fresh = [j for j, key in enumerate(ids.tolist()) if key not in self._encoded and not self._encoded.add(key)]  # type: ignore[func-returns-value]
        text = (
            self.model.encode_text([batch.texts[j] for j in fresh])
            if fresh
            else torch.zeros(0, self.model.embed_dim, device=self.device)
        )
        self.recall.update(
            image=self.model.encode_image(batch.images),
            image_ids=batch.image_ids,
            text=text,
            text_ids=ids[fresh],
            captions=torch.stack([ids, batch.owners], dim=1),
        )

    def _report(self, split: str) -> None:
        """Log the figures and, outside of training and apart from them, those after re-ranking."""
        found = {split: self.recall.compute()}
        if self.rerank is not None and self.trainer.state.fn != "fit":
            bank = self.model.bank if self.rerank.queries == "bank" else None
            if bank is not None and not bank.seen:
                log.warning(
                    "the model's query bank is empty, so nothing is re-ranked: train it, or use rerank.queries=all"
                )
            else:
                queries = None if bank is None else bank.queries()
                found[f"{split}_reranked"] = self.recall.reranked(self.rerank, queries)
        self.log_dict({f"{key}/{name}": value for key, figures in found.items() for name, value in figures.items()})

    def on_validation_epoch_start(self) -> None:
        """Begin anew; the embeddings stay afterwards, for who wants to look at them."""
        self.recall.reset()
        self._encoded.clear()

    on_test_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch) -> None:
        """See :meth:`_evaluate`."""
        self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/i2t_R@1`` … ``val/mR``, and ``val_reranked/…`` in ``validate`` where ``rerank`` is set."""
        self._report("val")

    def test_step(self, batch: Batch) -> None:
        """See :meth:`_evaluate`."""
        self._evaluate(batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/i2t_R@1`` … ``test/mR``, and ``test_reranked/…`` where ``rerank`` is set."""
        self._report("test")

    def predict_step(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings of a batch: ``image_ids``, ``image``, ``owners`` and ``text``, one row a caption."""
        image, text = self.model(batch.images, batch.texts)
        return {"image_ids": batch.image_ids, "image": image, "owners": batch.owners, "text": text}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :func:`rsretrieval.optimizer.parameter_groups`."""
        sides = [side for side in (self.model.image_tower, self.model.text_tower, self.model.prior) if side is not None]
        towers = [tower for side in sides for tower in getattr(side, "towers", [side])]
        return parameter_groups(self, towers, self.optimizer)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union
        """See :func:`rsretrieval.optimizer.adamw`."""
        steps = max(int(self.trainer.estimated_stepping_batches), 1)
        optimizer, schedule = adamw(self.parameter_groups(), self.optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
