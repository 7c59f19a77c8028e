"""Training and evaluation end to end on the embedded scenes, with tiny towers."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer

from rsretrieval import RetrievalDataModule, RetrievalModule, TowerConfig
from rsretrieval.training.callbacks import AveragedWeights, ValueGuidedLearning
from rsretrieval.training.schedule import Stage

sys.path.insert(0, str(Path(__file__).parent))
import tiny


def test_two_stages_then_recall_and_a_checkpoint_that_loads(tmp_path: Path, tiny_clip: str) -> None:
    branch = TowerConfig("timm", "test_resnet", frozen=True)
    module = tiny.module(TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", tiny_clip), branch)
    data = RetrievalDataModule(image_size=64, batch_size=16, num_workers=0, augmentation="none")
    stages = ValueGuidedLearning([Stage(0, {"contrastive": 1, "scene_adaptive": 1}), Stage(1, {"triplet": 0.1})])
    trainer = Trainer(
        max_epochs=2,
        limit_train_batches=2,
        accelerator="cpu",
        logger=False,
        callbacks=[stages],
        default_root_dir=tmp_path,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    metrics = trainer.callback_metrics
    assert metrics["stage"] == 2
    assert "train/triplet" in metrics
    names = {f"val/{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"val/mR"}
    assert names <= set(metrics)
    assert 0 < metrics["val/mR"] < 30
    before = trainer.validate(module, data, verbose=False)[0]
    trainer.save_checkpoint(tmp_path / "x.ckpt")
    again = RetrievalModule.load_from_checkpoint(tmp_path / "x.ckpt", weights_only=True)
    assert trainer.validate(again, data, verbose=False)[0] == pytest.approx(before)


def test_no_decay_on_biases_and_temperatures(tiny_clip: str) -> None:
    tower = TowerConfig("timm", "test_resnet", frozen=True)
    text = TowerConfig("open_clip", tiny_clip, frozen=True)
    module = tiny.module(tower, text, embed_dim=8)
    groups = {g["weight_decay"]: g for g in module.parameter_groups()}
    assert {g["lr"] for g in groups.values()} == {4e-5}
    assert sorted(p.ndim for p in groups[0.01]["params"]) == [2, 2]
    assert sorted(p.ndim for p in groups[0.0]["params"]) == [0, 0, 1, 1]


def test_the_callback_refuses_wrong_stages() -> None:
    with pytest.raises(ValueError, match="must start at 0"):
        ValueGuidedLearning([Stage(1, {"contrastive": 1})])
    with pytest.raises(ValueError, match=r"unknown loss 'focal'; known are \['affiliation'"):
        ValueGuidedLearning([Stage(0, {"focal": 1})])


def test_averaged_weights(tmp_path: Path, tiny_clip: str) -> None:
    """The average is validated and kept, goes on after a resume, and leaves frozen weights as they are."""
    frozen, text = TowerConfig("timm", "test_resnet", frozen=True), TowerConfig("open_clip", tiny_clip)

    def module() -> RetrievalModule:
        torch.manual_seed(0)
        return tiny.module(frozen, text)

    def trainer(epochs: int, averaged: AveragedWeights) -> Trainer:
        return Trainer(
            max_epochs=epochs, limit_train_batches=3, limit_val_batches=1, accelerator="cpu", logger=False,
            callbacks=[ValueGuidedLearning([Stage(0, {"contrastive": 1})]), averaged], enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    data = RetrievalDataModule(image_size=64, batch_size=16, num_workers=0, augmentation="none")
    steps: list[torch.Tensor] = []

    class Watch(AveragedWeights):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any, **more: Any) -> None:
            super().on_train_batch_end(trainer, pl_module, *rest, **more)
            steps.append(pl_module.model.text_projection.weight.detach().clone())

    given, trained = module(), module()
    runner = trainer(2, Watch(0.5))
    runner.fit(trained, data)
    expected = steps[0]
    for weights in steps[1:]:
        expected = expected.lerp(weights, 0.5)
    torch.testing.assert_close(trained.model.text_projection.weight, expected)
    for name, value in given.model.image_tower.state_dict().items():
        assert trained.model.image_tower.state_dict()[name].equal(value), name
    first = trainer(1, AveragedWeights(0.5))
    first.fit(part := module(), data)
    first.save_checkpoint(tmp_path / "half.ckpt")
    assert not part.model.text_projection.weight.equal(expected)
    second = trainer(2, AveragedWeights(0.5))
    second.fit(part, data, ckpt_path=str(tmp_path / "half.ckpt"))
    assert second.global_step == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"augmentation": "rsicd", "word_deletion": 0.0},
            r"data\.augmentation=rsicd makes a new one each time: use one of",
        ),
        (
            {"augmentation": "flips", "word_deletion": 0.1},
            r"data\.word_deletion=0\.1 makes new ones: set it to 0, or cache",
        ),
    ],
)
def test_features_of_inputs_that_never_come_again_are_not_kept(
    options: dict[str, Any], message: str, tiny_clip: str
) -> None:
    frozen = TowerConfig("timm", "test_resnet", frozen=True)
    module = tiny.module(frozen, TowerConfig("open_clip", tiny_clip, frozen=True), cache_features=True)
    data = RetrievalDataModule(image_size=64, batch_size=16, num_workers=0, **options)
    trainer = Trainer(
        max_epochs=1, limit_train_batches=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[ValueGuidedLearning()],
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        trainer.fit(module, data)


def test_a_module_without_the_callback_says_so(tiny_clip: str, caplog: pytest.LogCaptureFixture) -> None:
    module = tiny.module(TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", tiny_clip))
    data = RetrievalDataModule(image_size=64, batch_size=16, num_workers=0, augmentation="none")
    trainer = Trainer(
        max_epochs=1, limit_train_batches=1, limit_val_batches=0, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, data)
    assert "losses stay those of stage 1 (contrastive, affiliation, scene_adaptive); give the trainer" in caplog.text
