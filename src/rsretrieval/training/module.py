"""The LightningModule: wires model, losses and metric, and computes nothing itself."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsretrieval.data.checks import check_variants
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.distributed import gather, rank, rows_of_ranks, run_seed
from rsretrieval.losses import Objective, ObjectiveConfig
from rsretrieval.metrics import CrossModalRecall, HubnessConfig
from rsretrieval.models.catalogue import seen_in_training, training_sets
from rsretrieval.models.checkpoint import check_keywords, check_shapes, load_checkpoint, loading, settings_in
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.pretrained import find_model, start_from
from rsretrieval.models.projections import split_heads
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.models.weights import follows_tensors, tensors_follow
from rsretrieval.settings import build, plain
from rsretrieval.training.coverage import OVER_RANKS, CountingModule
from rsretrieval.training.optimizer import OptimizerConfig, adamw, parameter_groups
from rsretrieval.training.resume import go_on_as_the_data
from rsretrieval.training.schedule import PAPER_STAGES, Stage
from rsretrieval.types import Batch, PairedEmbeddings, Tokens

log = logging.getLogger(__name__)


class RetrievalModule(CountingModule):
    """FISVL, or any dual encoder, under a schedule of losses.

    The stage in force and the figures' logging are the callback's
    (:class:`rsretrieval.training.callbacks.ValueGuidedLearning`), which the command line always adds.

    Args:
        encoder: the model.
        objective: settings of the losses.
        optimizer: settings of the optimiser.
        hubness: correct scores for hubs in ``test`` and ``validate``, and report that apart; null for not.
        pretrained: a model to start from, or to evaluate as it is: any name that ``Retriever.from_pretrained`` takes.
            Its own settings are those of ``encoder`` where nothing else is given; on the command line what is given
            changes them.

    Example:
        >>> from rsretrieval import EncoderConfig, TowerConfig
        >>> module = RetrievalModule(EncoderConfig(
        ...     TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", "text-small"), None, embed_dim=8
        ... ))
        >>> module.model.eval().encode_text(["two ships"]).shape
        torch.Size([1, 8])
    """

    def __init__(
        self,
        encoder: EncoderConfig = EncoderConfig(),  # noqa: B008 - frozen
        *,
        objective: ObjectiveConfig = ObjectiveConfig(),  # noqa: B008
        optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008
        hubness: HubnessConfig | None = None,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        # From a checkpoint they are plain values, so that it loads with weights_only=True.
        encoder = build(EncoderConfig, encoder, "model.encoder")
        source = find_model(pretrained) if pretrained is not None and not follows_tensors() else None
        if source is not None and encoder == EncoderConfig():
            encoder = source.encoder
        objective = build(ObjectiveConfig, objective, "model.objective")
        self.optimizer = build(OptimizerConfig, optimizer, "model.optimizer")
        self.hubness = None if hubness is None else build(HubnessConfig, hubness, "model.hubness")
        if self.hubness is not None and self.hubness.queries == "bank" and not encoder.query_bank:
            raise ValueError(
                "model.hubness.queries: bank needs a model with a bank: set model.encoder.query_bank, or use `all`"
            )
        settings = {"encoder": encoder, "objective": objective, "optimizer": self.optimizer, "hubness": self.hubness}
        self.save_hyperparameters({name: plain(value) for name, value in settings.items()})
        self.trained_on = source.trained_on if source is not None else training_sets(encoder)
        self.model = DualEncoder(encoder)
        if source is not None:
            start_from(self.model, source, str(pretrained))
        self.objective = Objective(objective, None if self.model.logits is None else self.model.logits.start())
        self.recall = CrossModalRecall()
        self.stage: Stage = PAPER_STAGES[0]
        self._encoded: set[int] = set()
        self._recount_steps = False

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, *args: Any, **kwargs: Any) -> RetrievalModule:  # type: ignore[override]  # noqa: ANN401
        """See Lightning; checkpoints of older versions load too, and the towers' own weights need not be there.

        Raises:
            CheckpointError: if it is no such checkpoint, or does not fit.
            RemoteCodeError: if a tower would run a stranger's code, unless ``trust_remote_code=True`` is given.
        """
        settings = settings_in(load_checkpoint(Path(checkpoint_path)), checkpoint_path)
        trusted = kwargs.pop("trust_remote_code", False)
        check_keywords(cls, settings, kwargs, checkpoint_path)
        check_remote_code(settings.get("encoder"), f"'{checkpoint_path}'", trusted=trusted)
        with tensors_follow(), loading(checkpoint_path):
            module: RetrievalModule = super().load_from_checkpoint(checkpoint_path, *args, **{**settings, **kwargs})
        return module

    def setup(self, stage: str) -> None:
        """Hand the tokeniser to the data, so that the loader's workers use it, and take its protocol of evaluation."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, RetrievalDataModule):
            config = self.model.config
            data.serve(self.model.tokenizer, config.preprocessing, as_written=not config.cleans_texts)
            self.recall.queries = data.queries
            if stage == "fit":
                check_variants(self.model.cached_sides, data.augmentation, data.word_deletion)
            elif stage == "test" and (seen := seen_in_training(self.trained_on, f"{data.source_name} {data.path}")):
                log.warning("the model was trained on the training split of %s: its figures are not zero-shot", seen)
        if not any(getattr(callback, "advances_stages", False) for callback in self.trainer.callbacks):  # type: ignore[attr-defined]
            log.warning(
                "no callback advances the stages and logs recall: losses stay those of stage 1 (%s); give the trainer "
                "rsretrieval.training.callbacks.ValueGuidedLearning",
                ", ".join(self.stage.losses),
            )

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the data does: at the last step, or anew where it cannot go on in the epoch's middle.

        Raises:
            CheckpointError: if it is of another model.
        """
        check_shapes(checkpoint, self, self.model.config, getattr(self._trainer, "ckpt_path", None))
        self._recount_steps = go_on_as_the_data(checkpoint, getattr(self._trainer, "datamodule", None))

    def losses(self, batch: Batch, weights: Mapping[str, float], epoch: int) -> dict[str, Tensor]:
        """Losses of the global batch, gathered with gradients; ``loss`` is their weighted sum. Means over all heads."""
        image, text = self.model(batch.images, self._tokens(batch))
        local_pairs = PairedEmbeddings(image, text, batch.image_ids, batch.text_ids, batch.scenes, batch.caption_values)
        sizes = rows_of_ranks(image)
        first = sum(sizes[: rank()])
        pairs = local_pairs.map(lambda field: gather(field, sizes))
        if self.training and self.model.bank is not None:
            self.model.bank.remember(pairs.image, pairs.text)
        local = slice(first, first + len(image))
        heads = zip(*(split_heads(vectors, self.model.heads) for vectors in (pairs.image, pairs.text)), strict=True)
        each = [self.objective(pairs._replace(image=i, text=t), local, weights, epoch) for i, t in heads]
        return {name: torch.stack([values[name] for values in each]).mean(0) for name in each[0]}

    def _tokens(self, batch: Batch) -> Tokens:
        return batch.tokens or self.model.tokenizer(batch.texts)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Make dropout a function of seed, batch and process, so that a resumed run draws what it would have drawn."""
        if self._recount_steps:  # for the loggers
            self.trainer.fit_loop.epoch_loop._batches_that_stepped = self.global_step
            self._recount_steps = False
        accumulated = batch_idx % self.trainer.accumulate_grad_batches  # batches since the last step
        draw = (run_seed(), self.global_step, rank(), *([accumulated] if accumulated else []))
        torch.manual_seed(hash(draw) % 2**63)

    def training_step(self, batch: Batch) -> Tensor:
        """One step on the losses of the stage in force."""
        values = self.losses(batch, self.stage.losses, self.current_epoch)
        self.log("data/skipped", float(len(batch.skipped)), reduce_fx="sum", **OVER_RANKS)
        self.log_dict({f"train/{name}": value.detach() for name, value in values.items()}, prog_bar=True)
        return values["loss"]

    def on_validation_epoch_start(self) -> None:
        """Begin anew; the embeddings stay afterwards, for who wants to look at them."""
        self.recall.reset()
        self._encoded.clear()
        self.begin_counting()

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def validation_step(self, batch: Batch) -> None:
        """Embed a batch, each distinct text once; one without images only counts."""
        self.count(batch)
        ids = batch.text_ids
        new: list[int] = []
        for row, key in enumerate(ids.tolist()):
            if key not in self._encoded:
                self._encoded.add(key)
                new.append(row)
        none = torch.zeros(0, self.model.embed_dim, device=self.device)
        tokens = {name: values[new] for name, values in self._tokens(batch).items()} if new else {}
        text = self.model.encode_tokens(tokens) if new else none
        self.recall.update(
            image=self.model.encode_image(batch.images) if len(batch.images) else none,
            image_ids=batch.image_ids,
            text=text,
            text_ids=ids[new],
            caption_text_ids=ids,
            caption_image_ids=batch.owners,
            image_keys=batch.image_keys,
        )

    def test_step(self, batch: Batch) -> None:
        """See :meth:`validation_step`."""
        self.validation_step(batch)

    def figures(self) -> dict[str, float]:
        """Recall of the split that was just embedded, in percent; ``coverage`` says how much of it that is.

        Raises:
            DataError: if too much of it cannot be read.
        """
        self.look_at_coverage()
        return self.recall.compute()

    def hubness_corrected_figures(self) -> dict[str, float] | None:
        """The same of scores corrected for hubs; None where that is not asked for, or has no queries yet."""
        if self.hubness is None:
            return None
        if self.hubness.queries == "all":
            return self.recall.hubness_corrected(self.hubness)
        bank = self.model.bank
        if bank is None or not bank.total:
            log.warning(
                "the query bank is empty, so no score is corrected: train the model, or use hubness.queries=all"
            )
            return None
        return self.recall.hubness_corrected(self.hubness, bank.queries())

    def predict_step(self, batch: Batch) -> dict[str, Tensor]:
        """Embeddings of a batch: ``image_ids``, ``image``, ``owners`` and ``text``, one row a caption."""
        self.count(batch)
        none = torch.zeros(0, self.model.embed_dim, device=self.device)
        image = self.model.encode_image(batch.images) if len(batch.images) else none
        text = self.model.encode_tokens(self._tokens(batch)) if batch.texts else none
        return {"image_ids": batch.image_ids, "image": image, "owners": batch.owners, "text": text}

    def parameter_groups(self) -> list[dict[str, Any]]:
        """See :func:`rsretrieval.training.optimizer.parameter_groups`."""
        return parameter_groups(self, self.model.towers(), self.optimizer)

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own union
        """See :func:`rsretrieval.training.optimizer.adamw`.

        Raises:
            ValueError: for a training without an end that is known in steps.
        """
        if math.isinf(steps := self.trainer.estimated_stepping_batches):
            raise ValueError("the schedule of the learning rate needs an end: set trainer.max_epochs or max_steps")
        optimizer, schedule = adamw(self.parameter_groups(), self.optimizer, max(int(steps), 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
