"""Every precision and every switch of the Trainer that concerns this package trains, or is refused in words."""

import sys
from pathlib import Path

import pytest
import torch
import yaml

from rsretrieval import cli

sys.path.insert(0, str(Path(__file__).parent))
import tiny

SWITCHES = [
    ["--trainer.precision=64-true"], ["--trainer.precision=bf16-true"],
    ["--trainer.precision=16-mixed"], ["--trainer.precision=bf16-mixed"],
    ["--trainer.fast_dev_run=true"], ["--trainer.overfit_batches=2"], ["--trainer.accumulate_grad_batches=2"],
    ["--trainer.val_check_interval=1"],
    ["--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=2"],
    ["--trainer.limit_val_batches=0"],
    ["--trainer.max_steps=1"], ["--trainer.max_time=00:00:10:00"], ["--trainer.gradient_clip_val=1.0"],
    ["--trainer.gradient_clip_val=1", "--trainer.gradient_clip_algorithm=value"], ["--trainer.deterministic=true"],
    ["--trainer.detect_anomaly=true"], ["--trainer.reload_dataloaders_every_n_epochs=1"],
    ["--trainer.num_sanity_val_steps=2"], ["--trainer.sync_batchnorm=true"], ["--trainer.profiler=simple"],
    ["--trainer.barebones=true"], ["--trainer.inference_mode=false"], ["--trainer.use_distributed_sampler=false"],
    ["--trainer.enable_checkpointing=false"], ["--model.encoder.chunk_size=None"], ["--data.captions_per_image=None"],
    ["--model.encoder.stabilised_fgis=True"], ["--model.encoder.query_bank=8", "--model.encoder.eval_views=4"],
    ["--model.hubness.method=csls"], ["--model.encoder.convolutional_branch=None"],
    ['--schedule.stages=[{"from_epoch": 0, "losses": {"contrastive": 1}}]'],
]  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    tower = {"library": "timm", "name": "test_efficientnet", "weights": None}
    content = {
        "trainer": {
            "accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1, "logger": False,
            "default_root_dir": str(tmp_path / "run"), "enable_progress_bar": False, "enable_model_summary": False,
        },
        "data": {"source": "synthetic", "image_size": 64, "batch_size": 4, "num_workers": 0, "augmentation": "none"},
        "model": {
            "encoder": {
                "image": tower, "convolutional_branch": {"library": "timm", "name": "test_resnet", "weights": None},
                "text": {"library": "transformers", "name": tiny_bert, "weights": None}, "embed_dim": 16,
            }
        },
        "report": {"queries": 0},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(content))
    return ["fit", "-c", str(tmp_path / "small.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize("switch", SWITCHES, ids=" ".join)
def test_it_trains(switch: list[str], settings: list[str], tmp_path: Path) -> None:
    limits = [] if "barebones" not in switch[0] else ["--trainer.limit_train_batches=2"]
    cli.main([*settings, *switch, *limits])
    written = tmp_path / "run" / "checkpoints" / "last.ckpt"
    if not any(name in switch[0] for name in ("barebones", "enable_checkpointing", "fast_dev_run")):
        state = torch.load(written, weights_only=True)["state_dict"]
        assert all(tensor.isfinite().all() for tensor in state.values())
    else:
        assert not written.exists()


def test_weights_in_half_precision_do_not_train(settings: list[str]) -> None:
    with pytest.raises(ValueError, match=r"optimizer\.eps=1e-08 is 0 in half precision, .* 16-mixed or bf16-mixed"):
        cli.main([*settings, "--trainer.precision=16-true"])


def test_a_half_precision_model_encodes(tiny_bert: str) -> None:
    """Images and texts reach towers in the precision of their weights."""
    model = tiny.encoder(
        tiny.TowerConfig("timm", "test_efficientnet", pooling="all_stages"),
        tiny.TowerConfig("transformers", tiny_bert), tiny.TowerConfig("timm", "test_resnet"),
    ).eval()  # fmt: skip
    images, texts = torch.rand(2, 3, 64, 64), ["a red plane", "two ships"]
    with torch.no_grad():
        exact = model.encode_image(images), model.encode_text(texts)
        half = model.bfloat16()
        for embedding, wanted in zip((half.encode_image(images), half.encode_text(texts)), exact, strict=True):
            assert embedding.dtype == torch.float32
            assert (embedding * wanted).sum(1).min() > 0.98
