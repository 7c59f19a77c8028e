"""What a run's folder holds: one run's best and last, told by content; a second fit, a finished one, no checkpoints."""

import hashlib
import shutil
from pathlib import Path

import pytest
import timm
import torch
import yaml

from rsretrieval import cli
from rsretrieval.cli.run_folder import find_checkpoint
from rsretrieval.models import WeightsError
from rsretrieval.models.checkpoint import CheckpointError


@pytest.fixture
def fit(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments of a small run on the embedded scenes."""
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    tower = {"library": "timm", "name": "test_vit", "options": {"embed_dim": 16, "depth": 1, "num_heads": 2}}
    settings = {
        "trainer": {
            "accelerator": "cpu", "max_epochs": 1, "limit_train_batches": 2, "limit_val_batches": 1,
            "default_root_dir": str(tmp_path / "run"), "enable_progress_bar": False, "enable_model_summary": False,
        },
        "data": {"source": "synthetic", "image_size": 64, "batch_size": 4, "num_workers": 0, "augmentation": "none"},
        "model": {
            "encoder": {
                "image": {"weights": None, **tower}, "convolutional_branch": None, "embed_dim": 16,
                "text": {"library": "transformers", "name": tiny_bert, "weights": None},
            }
        },
        "report": {"queries": 0},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings))
    return ["fit", "-c", str(tmp_path / "small.yaml")]


def test_a_second_fit_leaves_the_first_ones_checkpoints_aside(
    fit: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    cli.main([*fit, "--seed_everything=1"])
    first = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert "earlier run" not in caplog.text
    cli.main([*fit, "--seed_everything=2"])
    assert f"holds an earlier run: its checkpoints are in '{run / 'checkpoints-1'}' now" in caplog.text
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    cli.main([*fit, "--trainer.fast_dev_run=true"])  # which writes nothing, and moves nothing
    assert not (run / "checkpoints-2").exists()
    name = "model.pooled_projection.weight"
    kept = torch.load(run / "checkpoints-1" / "best.ckpt", weights_only=True)["state_dict"]
    second = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert kept[name].equal(first[name])
    assert not second[name].equal(first[name])
    cli.main(["export", str(run / "checkpoints" / "best.ckpt"), "--to", str(tmp_path / "to")])  # the second run's


def test_a_fit_that_makes_no_step_leaves_the_folder_as_it_was(
    fit: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    cli.main(fit)
    before = {file.name: file.read_bytes() for file in checkpoints.iterdir()}
    for option, message in (
        ("--data.batch_size=1", "one pair has nothing to be told from"),
        ("--trainer.accumulate_grad_batches=0", "give a whole number, 1 or more"),
        ("--data.seed=-1", "--data.seed -1 is too small"),
    ):
        with pytest.raises(ValueError, match=message):
            cli.main([*fit, option])
        assert {file.name: file.read_bytes() for file in checkpoints.iterdir()} == before
        assert not checkpoints.with_name("checkpoints-1").exists()
    assert "the checkpoints of the earlier run are in" in caplog.text
    checkpoints.rename(checkpoints.with_name("checkpoints-1"))
    with pytest.raises(FileNotFoundError, match=r"which has \[\] \(earlier ones lie in .*checkpoints-1"):
        find_checkpoint(checkpoints, "best")
    assert find_checkpoint(checkpoints, "auto") is None
    assert "so that the run begins anew; earlier ones lie in" in caplog.text


def test_the_last_epoch_is_kept_where_validation_is_rarer(fit: list[str], tmp_path: Path) -> None:
    cli.main([*fit, "--trainer.check_val_every_n_epoch=2", "--trainer.max_epochs=3"])
    checkpoints = tmp_path / "run" / "checkpoints"
    steps = {
        name: torch.load(checkpoints / f"{name}.ckpt", weights_only=True)["global_step"] for name in ("best", "last")
    }
    assert steps == {"best": 4, "last": 6}


def test_what_is_no_checkpoint_is_refused_before_anything_is_built(
    fit: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cut.ckpt").write_bytes(b"PK\x03\x04" + b"x" * 50)
    (tmp_path / "empty.ckpt").write_bytes(b"")
    for file in ("cut.ckpt", "empty.ckpt", "nowhere.ckpt", "small.yaml", "."):
        with pytest.raises(
            CheckpointError, match=r"cannot be read as a checkpoint|is no checkpoint|is a folder: give one"
        ):
            cli.main([*fit, f"--ckpt_path={tmp_path / file}"])
    cli.main(["validate", *fit[1:]])
    assert "projections have random weights: give --ckpt_path" in caplog.text


def test_a_finished_run_called_again_changes_nothing(
    fit: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    cli.main(fit)
    before = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in checkpoints.iterdir()}
    with caplog.at_level("INFO"):
        cli.main([*fit, "--ckpt_path=last"])
    assert "nothing was left to train: the run had its 1 epochs (best: epoch 0, mR " in caplog.text
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in checkpoints.iterdir()} == before
    cli.main([*fit, "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert torch.load(checkpoints / "last.ckpt", weights_only=True)["global_step"] == 4


def write(file: Path, step: int, score: float, mode: str = "max") -> None:
    state = {"monitor": "val/mR", "current_score": torch.tensor(score)}
    content = {"global_step": step, "callbacks": {f"ModelCheckpoint{{'monitor': 'val/mR', 'mode': '{mode}'}}": state}}
    torch.save(content, file)


def test_best_and_last_are_told_by_content(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever order the files were written or copied in."""
    write(tmp_path / "best.ckpt", 10, 20.0)
    write(tmp_path / "best-v1.ckpt", 20, 18.0)
    write(tmp_path / "last.ckpt", 40, 17.0)
    write(tmp_path / "last-step.ckpt", 30, 17.0)
    assert find_checkpoint(tmp_path, "best").name == "best.ckpt"
    assert find_checkpoint(tmp_path, "last").name == "last.ckpt"
    write(tmp_path / "last-step.ckpt", 44, 17.0)
    assert find_checkpoint(tmp_path, "last").name == "last-step.ckpt"
    for name, loss in (("best.ckpt", 3.0), ("best-v1.ckpt", 2.5)):
        write(tmp_path / name, 10, loss, "min")
    assert find_checkpoint(tmp_path, "best").name == "best-v1.ckpt"
    (tmp_path / "best-v1.ckpt").write_bytes((tmp_path / "best-v1.ckpt").read_bytes()[:100])  # cut off
    assert find_checkpoint(tmp_path, "best").name == "best.ckpt"
    assert "best-v1.ckpt' cannot be read as a checkpoint and is passed over" in caplog.text
    (tmp_path / "best.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match="no checkpoint 'best'"):
        find_checkpoint(tmp_path, "best")


def test_without_checkpoints(fit: list[str], tmp_path: Path) -> None:
    cli.main([*fit, "--trainer.enable_checkpointing=false"])
    assert (tmp_path / "run" / "config.yaml").is_file()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_checkpoint_alone_knows_its_model(fit: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration: the model and the size of its images are the checkpoint's, by file or by name in a folder."""
    cli.main(fit)
    shutil.copy(tmp_path / "run" / "checkpoints" / "best.ckpt", tmp_path / "alone.ckpt")
    monkeypatch.chdir(tmp_path)
    limits = [
        "--trainer.accelerator=cpu",
        "--trainer.limit_test_batches=1",
        "--report.queries=0",
        "--data.num_workers=0",
    ]
    cli.main(["test", "--ckpt_path", "alone.ckpt", "--data.source", "synthetic", *limits])
    cli.main(["test", "--ckpt_path=best", "--trainer.default_root_dir=run", "--data.source", "synthetic", *limits])
    cli.main(["test", "--ckpt_path=alone.ckpt", "--model.encoder.eval_views=2", "--data.source", "synthetic", *limits])
    with pytest.raises(CheckpointError, match=r"small\.yaml' cannot be read as a checkpoint"):
        cli.main(["test", "--ckpt_path", "small.yaml"])


def test_a_run_goes_on_where_its_starting_weights_are_gone(fit: list[str], tmp_path: Path) -> None:
    options = {"embed_dim": 16, "depth": 1, "num_heads": 2}
    torch.save(timm.create_model("test_vit", **options).state_dict(), tmp_path / "start.pt")
    weights = f"--model.encoder.image.weights={tmp_path / 'start.pt'}"
    cli.main([*fit, weights])
    (tmp_path / "start.pt").unlink()
    cli.main([*fit, weights, "--ckpt_path=last", "--trainer.max_epochs=2"])
    assert torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 4
    with pytest.raises(WeightsError, match=r"no weights at .*start\.pt"):
        cli.main([*fit, weights])
