"""Checkpoints of compiled models load; those that are none, or of another model, are refused by name."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer

from rsretrieval import RetrievalDataModule, RetrievalModule, Retriever, TowerConfig
from rsretrieval.models.checkpoint import CheckpointError
from rsretrieval.models.exported import PretrainedError

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

Content = dict[str, Any]


def module(bert: str, width: int = 8) -> RetrievalModule:
    image = TowerConfig("timm", "test_resnet", frozen=True)
    return tiny.module(image, TowerConfig("transformers", bert), image_size=32, embed_dim=width)


def trainer(**options: Any) -> Trainer:
    options = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 0, **options}
    return Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip


def data() -> RetrievalDataModule:
    return RetrievalDataModule(image_size=32, batch_size=8, num_workers=0, augmentation="none")


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_bert: str) -> Path:
    """Of a module whose model is compiled, which put ``_orig_mod.`` into the names of its tensors."""
    own = module(tiny_bert)
    own.model = torch.compile(own.model, backend="eager")  # type: ignore[assignment]
    run = trainer()
    run.fit(own, data())
    run.save_checkpoint(tmp_path / "model.ckpt")
    return tmp_path / "model.ckpt"


def test_a_compiled_models_checkpoint(checkpoint: Path) -> None:
    names = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert any(name.startswith("model._orig_mod.") for name in names)
    loaded, retriever = RetrievalModule.load_from_checkpoint(checkpoint), Retriever.from_pretrained(checkpoint)
    wanted = retriever.encode_texts(["a red plane"])
    with torch.no_grad():
        torch.testing.assert_close(loaded.model.eval().encode_text(["a red plane"]), wanted)
    started = RetrievalModule(pretrained=checkpoint)  # type: ignore[arg-type]
    with torch.no_grad():
        torch.testing.assert_close(started.model.eval().encode_text(["a red plane"]), wanted)


def test_fgis_joins_a_trained_model(checkpoint: Path, tiny_bert: str) -> None:
    """From zero it leaves the embeddings as they were; an image tower of another kind has no place there."""
    branch = TowerConfig("timm", "test_resnet", frozen=True)
    text = TowerConfig("transformers", tiny_bert)
    options = {"image_size": 32, "embed_dim": 8, "stabilised_fgis": True}
    config = tiny.settings(branch, text, branch, **options)
    joined, images = RetrievalModule(config, pretrained=str(checkpoint)).model.eval(), torch.rand(2, 3, 32, 32)
    assert joined.convolutional_branch is not None
    trained = RetrievalModule.load_from_checkpoint(checkpoint).model.eval()
    with torch.no_grad():
        torch.testing.assert_close(joined.encode_image(images), trained.encode_image(images))
    config = tiny.settings(TowerConfig("timm", "test_efficientnet"), text, branch, **options)
    with pytest.raises(PretrainedError, match="does not fit the settings of the encoder"):
        RetrievalModule(config, pretrained=str(checkpoint))


def test_a_keyword_that_nothing_takes(checkpoint: Path) -> None:
    with pytest.raises(TypeError, match=r"load_from_checkpoint knows no \['foo'\]; possible are \['encoder'"):
        RetrievalModule.load_from_checkpoint(checkpoint, map_location="cpu", foo=1)


def test_another_model(checkpoint: Path, tiny_bert: str) -> None:
    message = r"is of another model: .* of its tensors have another shape \(.* \(8, 96\) for \(16, 96\)\)"
    with pytest.raises(CheckpointError, match=f"the checkpoint {message}"):
        RetrievalModule.load_from_checkpoint(checkpoint, encoder=module(tiny_bert, 16).model.config)
    with pytest.raises(CheckpointError, match=rf"model\.ckpt' {message}; .*: encoder\.embed_dim \(8, here 16\)\. Give"):
        trainer(max_epochs=2).fit(module(tiny_bert, 16), data(), ckpt_path=str(checkpoint))


def without_a_tensor(content: Content) -> Content:
    tensors = dict(content["state_dict"])
    tensors.pop(next(name for name in tensors if name.endswith("text_projection.weight")))
    return {**content, "state_dict": tensors}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["state_dict"], "odd.ckpt' is no checkpoint of a training run"),
        (lambda content: {**content, "hyper_parameters": None}, "odd.ckpt' is no checkpoint of a training run"),
        (
            lambda content: {name: value for name, value in content.items() if name != "state_dict"},
            "odd.ckpt' is no checkpoint of a training run",
        ),
        (without_a_tensor, r"odd.ckpt' does not fit .*Missing key.*text_projection\.weight"),
    ],
)
def test_what_is_no_checkpoint(checkpoint: Path, change: Callable[[Content], Content], message: str) -> None:
    file = checkpoint.with_name("odd.ckpt")
    torch.save(change(torch.load(checkpoint, weights_only=False)), file)
    for load in (RetrievalModule.load_from_checkpoint, Retriever.from_pretrained):
        with pytest.raises(CheckpointError, match=message):
            load(file)


@pytest.mark.parametrize("start", ["<!DOCTYPE html>", "version https://git-lfs.github.com/spec/v1\n"])
def test_a_file_of_something_else(tmp_path: Path, start: str) -> None:
    (tmp_path / "page.ckpt").write_text(start + "\n" * 99)
    with pytest.raises(CheckpointError, match=r"page\.ckpt' cannot be .*: it begins with b'.*web page or a pointer of"):
        Retriever.from_pretrained(tmp_path / "page.ckpt")


def test_a_schedule_without_an_end(tiny_bert: str) -> None:
    with pytest.raises(ValueError, match=r"needs an end: set trainer\.max_epochs or max_steps"):
        trainer(max_epochs=-1, max_time={"seconds": 9}, limit_train_batches=1.0).fit(module(tiny_bert), data())
