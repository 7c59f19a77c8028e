"""Every shipped configuration through the real command line, with tiny towers, no weights and local data."""

import csv
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch
import yaml
from local_hub import Fault, local_hub, write_dataset
from PIL import Image
from wandb_records import config, history, run_files

from rsretrieval import cli
from rsretrieval.cli import run_folder

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])  # LightningCLI warns where it sees two sets of them


def tiny(run: Path, data: str, bert: str, clip: str, config: Path) -> list[str]:
    """Overrides that keep a configuration's shape and make it small."""
    model = yaml.safe_load(config.read_text()).get("model", {})
    encoder, is_clip = model.get("encoder", {}), "pretrained" in model
    image = {"library": "open_clip", "name": clip} if is_clip else {"library": "timm", "name": "test_resnet"}
    text = {"library": "open_clip", "name": clip} if is_clip else {"library": "transformers", "name": bert}
    branch = None if is_clip else {"library": "timm", "name": "test_resnet", "frozen": True}
    if encoder.get("split_heads"):
        towers = [{**text, "pooling": "mean"}, {**text, "pooling": "all_layers", "frozen": True}]
        towers.append({"library": "ngrams", "name": "words"})
        text, branch = {"library": "concat", "name": "two", "options": {"towers": towers}}, None
    small = {
        "trainer": {"accelerator": "cpu", "max_epochs": 1, "precision": "32-true", "default_root_dir": str(run)},
        "data": {
            "source": "parquet", "path": data, "image_size": 64, "eval_image_size": None, "batch_size": 4,
            "num_workers": 0, "holdout": 0.0,
        },
        "model": {
            "encoder": {
                name: tower and {"weights": None, "options": {}, "pooling": None, "correlated_stages": [], **tower}
                for name, tower in (("image", image), ("text", text), ("convolutional_branch", branch))
            }
        },
    }  # fmt: skip
    small["model"]["encoder"]["embed_dim"] = None if is_clip else 32
    file = run.parent / "tiny.yaml"
    file.write_text(yaml.safe_dump(small))
    return ["-c", str(config), "-c", str(file)]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_starts(
    config: Path, tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str
) -> None:
    run = tmp_path / "run"
    limits = ["--trainer.log_every_n_steps=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    cli.main(["fit", *tiny(run, tiny_data, tiny_bert, tiny_clip, config), *limits])
    assert {file.name for file in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "max_epochs: 1" in (run / "config.yaml").read_text()
    figures = next(run.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"val/mR", "val/i2t_R@1", "val/t2i_R@10", "train/loss", "stage"} <= set(figures)


@pytest.mark.slow
@pytest.mark.parametrize("row", sorted((CONFIGS[0].parent / "ablation").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_the_ablation_starts(
    row: Path, tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str
) -> None:
    run, base = tmp_path / "run", row.with_name("base.yaml")
    stages = yaml.safe_load(row.read_text()).get("schedule", {}).get("stages", [{"losses": {"contrastive": 1}}])
    limits = ["--trainer.log_every_n_steps=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    small = tiny(run, tiny_data, tiny_bert, tiny_clip, row if "split_heads" in row.read_text() else base)
    if "frozen_layers" in row.read_text():
        limits.append("--model.encoder.image.frozen_layers=2")  # the small network has five
    cli.main(["fit", "-c", "rsicd_lite", "-c", str(base), "-c", str(row), *small[2:], *limits])
    figures = next(run.rglob("metrics.csv")).read_text().splitlines()[0].split(",")
    assert {"val/mR", *(f"train/{loss}" for loss in stages[0]["losses"])} <= set(figures)


def test_fit_test_validate_predict(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    args = tiny(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0])
    with caplog.at_level("INFO"):
        args.append("--model.encoder.query_bank=8")
        cli.main(["fit", *args])
        cli.main(["test", *args, "--ckpt_path", "best", "--model.hubness.method=csls"])
        cli.main(["validate", *args, "--ckpt_path", "last", "--model.hubness.queries=bank"])
        cli.main(["predict", *args, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")])
        cli.main(["validate", *args, "--model.hubness.queries=bank"])
    assert caplog.text.count("query bank is empty, so no score is corrected") == 1  # that of the untrained model
    assert re.search(r"val, best epoch \(0\) +\d", caplog.text)
    for row in ("test", "test, corrected for hubs by all queries", "val", "val, corrected for hubs by the query bank"):
        assert re.search(rf"^{row}( +\d+\.\d\d){{7}}$", caplog.text, re.MULTILINE)
    for split in ("val", "test"):
        assert Image.open(run / f"results-{split}.png").size[0] > 500
    rows = datasets.Dataset.from_parquet(str(run / "embeddings-0.parquet"))
    assert rows["filename"] == [f"pond_{n}.png" for n in range(5)]
    assert len(rows[0]["embedding"]) == 32
    assert [len(x) for x in rows[0]["caption_embeddings"]] == [32, 32]


def test_a_checkpoint_that_is_not_there(tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str) -> None:
    args = tiny(tmp_path / "run", tiny_data, tiny_bert, tiny_clip, CONFIGS[0])
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'best' in .* which has \[\]: give the run's folder"):
        cli.main(["test", *args, "--ckpt_path", "best"])


def test_weights_and_biases_offline(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    run = tmp_path / "run"
    cli.main(["fit", *tiny(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0]), "--trainer.logger=WandbLogger"])
    (log,) = run_files(run)
    assert {"val/mR", "val/results.count", "stage/begins"} <= {name for row in history(log) for name in row}
    settings = config(log)
    assert settings["data.captions_per_image"] == 1
    assert settings["trainer.logger.init_args.name"] is None  # CSVLogger's is not that of the W&B run


def steps(run: Path) -> dict[tuple[int, int], float]:
    """Epoch and step to training loss, over all logs of a run; a step that was made twice must give the same."""
    found: dict[tuple[int, int], float] = {}
    for file in sorted(run.rglob("metrics.csv")):
        with file.open() as lines:
            for row in csv.DictReader(lines):
                if row.get("train/loss"):
                    key = int(row["epoch"]), int(row["step"])
                    assert found.setdefault(key, float(row["train/loss"])) == pytest.approx(
                        float(row["train/loss"]), abs=1e-6
                    )
    return found


def queries(run: Path) -> list[torch.Tensor]:
    """The bank of a run's last checkpoint."""
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return [state[f"model.bank.{name}"] for name in ("image", "text", "total")]


@pytest.mark.parametrize(
    ("workers", "kills"),
    [(0, [8]), pytest.param(0, [3, 13], marks=pytest.mark.slow), pytest.param(2, [3, 8, 13], marks=pytest.mark.slow)],
)
def test_killed_at_any_batch_and_resumed(
    workers: int, kills: list[int], tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str
) -> None:
    """SIGKILL in the middle of an epoch: the rest of its samples follow, and the losses are those of a whole run."""
    args = [
        *tiny(tmp_path / "whole", tiny_data, tiny_bert, tiny_clip, CONFIGS[0]),
        "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", f"--data.num_workers={workers}",
        "--data.batch_size=2", "--data.word_deletion=0.3", "--data.captions_per_image=2", "--report.queries=0",
        "--trainer.logger.init_args.flush_logs_every_n_steps=1", "--resume.every_n_train_steps=1",
        "--model.encoder.query_bank=8",
    ]  # fmt: skip
    cli.main(["fit", *args])
    whole, bank = steps(tmp_path / "whole"), queries(tmp_path / "whole")
    assert sorted(whole) == [(step // 8, step) for step in range(16)]
    for killed_after in kills:
        run = tmp_path / f"killed{killed_after}"
        again = ["fit", *args, f"--trainer.default_root_dir={run}"]
        code = "import sys, kill_after; kill_after.main(int(sys.argv[1]), sys.argv[2:])"
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
        dead = subprocess.run([sys.executable, "-c", code, str(killed_after), *again], env=env, check=False)
        assert dead.returncode == -signal.SIGKILL
        cli.main([*again, "--ckpt_path", "last"])
        resumed = steps(run)
        assert {step for _, step in resumed} >= set(range(killed_after, 16))  # the killed step's own line may be lost
        assert resumed == pytest.approx({key: whole[key] for key in resumed}, abs=1e-6)
        torch.testing.assert_close(queries(run), bank, atol=1e-5, rtol=0)


def test_one_training_a_folder(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_folder, "LEFT_BEHIND", 0.1)
    run = tmp_path / "run"
    run.mkdir()
    args = ["fit", *tiny(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0]), "--trainer.limit_train_batches=1"]
    hold = (
        "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(run / "fit.lock")], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RuntimeError, match=r"another process trains in .*: wait until it ends, or give this one a"):
            cli.main(args)
        other.kill()
    cli.main(args)
    assert (run / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_the_hub_goes_away_and_comes_back(tmp_path: Path, tiny_bert: str, tiny_clip: str) -> None:
    """A clear error, a checkpoint of the last batch, and from there the losses of a run that was never interrupted."""
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 3, "valid": 1})
    limit = 10**6
    with local_hub(tmp_path / "hub", tmp_path, fault := Fault("503", times=limit, after=limit)) as env:
        args = [
            *tiny(tmp_path / "whole", "acme/ponds", tiny_bert, tiny_clip, CONFIGS[0]), "--data.source=hub",
            "--trainer.max_epochs=2", "--trainer.log_every_n_steps=1", "--data.batch_size=2", "--report.queries=0",
            "--trainer.logger.init_args.flush_logs_every_n_steps=1",
        ]  # fmt: skip

        def fit(run: str, *more: str) -> subprocess.CompletedProcess[str]:
            command = [
                sys.executable,
                "-m",
                "rsretrieval",
                "fit",
                *args,
                f"--trainer.default_root_dir={tmp_path / run}",
            ]
            return subprocess.run([*command, *more], env=env, capture_output=True, text=True, check=False)

        assert fit("whole").returncode == 0
        shutil.rmtree(tmp_path / "cache")
        fault.after = (limit - fault.after) * 2 // 3
        broken = fit("broken")
        assert broken.returncode != 0
        assert re.search("could not be read on, split '(train|valid)'", broken.stderr)
        assert "Training goes on later with --ckpt_path last" in broken.stderr
        (kept,) = (tmp_path / "broken" / "checkpoints").glob("last-step.ckpt")
        done = torch.load(kept, weights_only=True)["global_step"]
        fault.times = 0
        assert fit("broken", "--ckpt_path=last").returncode == 0
    whole, resumed = steps(tmp_path / "whole"), steps(tmp_path / "broken")
    assert 0 < done < len(whole)
    assert resumed == pytest.approx(whole, abs=1e-6)
