"""The real ``wandb sweep`` and ``wandb agent``, and ``rsretrieval sweep``, over the real ``fit``."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock
from local_sweeps import Sweeps, local_sweeps

pytestmark = pytest.mark.slow
FIT = ["${env}", "${interpreter}", "-m", "rsretrieval", "fit", "-c", "tiny.yaml", "${args}"]
STAGES = [[{"from_epoch": 0, "losses": {"contrastive": 1}}, {"from_epoch": 1, "losses": {"affiliation": 0.5}}]]


def write(folder: Path, data: str, parameters: dict[str, Any], **others: Any) -> Path:
    """A configuration that trains in a second, and a sweep over it."""
    data_settings = {"source": "parquet", "path": data, "image_size": 64, "batch_size": 4, "num_workers": 0}
    settings = {
        "trainer": {"accelerator": "cpu", "default_root_dir": "runs", "log_every_n_steps": 1, "max_epochs": 2},
        "data": data_settings,
        "model": {
            "encoder": {
                "image": {"library": "timm", "name": "test_resnet", "weights": None},
                "text": {"library": "open_clip", "name": "text-small", "weights": None},
                "convolutional_branch": None, "embed_dim": 32,
            }
        },
        "report": {"queries": 0}, "tracking": {"queries": 0},
    }  # fmt: skip
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    content = {
        "program": "rsretrieval", "method": "grid", "metric": {"name": "val/mR", "goal": "maximize"}, "command": FIT,
        "parameters": parameters, **others,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder


def environment(folder: Path, hub: Sweeps) -> dict[str, str]:
    """Of W&B's client: this server alone, nothing of the user's."""
    where = {name: str(folder) for name in ("WANDB_DIR", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "HOME")}
    return {
        **os.environ, **where, "WANDB_BASE_URL": hub.url, "WANDB_API_KEY": "x" * 40, "WANDB_ERROR_REPORTING": "false",
        "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "0.5", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip


def wandb(folder: Path, hub: Sweeps, *arguments: str) -> str:
    """A command of W&B's; gives what it said."""
    done = subprocess.run(
        ["wandb", *arguments], cwd=folder, env=environment(folder, hub), text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_wandb_sweep_and_agent(tmp_path: Path, tiny_data: str) -> None:
    """One trial ends well, one is stopped, one crashes; each has a folder of its own, and typed values.

    W&B's client sorts the parameters by name.
    """
    parameters = {
        "schedule.stages": {"values": STAGES}, "data.seed": {"values": [7]},
        "model.encoder.chunk_size": {"values": [None]}, "model.objective.share_captions": {"values": [True]},
        "trainer.max_epochs": {"values": [2, 3000]}, "model.optimizer.learning_rate": {"values": [1.0e-4, -1.0]},
    }  # fmt: skip
    write(tmp_path, tiny_data, parameters, early_terminate={"type": "hyperband", "min_iter": 1})
    with local_sweeps(most=3) as hub:
        wandb(tmp_path, hub, "sweep", "-e", "me", "-p", "p", "sweep.yaml")
        said = wandb(tmp_path, hub, "agent", "me/p/sw33p")
        trials = hub.trials
    assert [trial.state for trial in trials.values()] == ["finished", "stopped", "crashed"], said
    good, stopped, crashed = (tmp_path / "runs" / "sweep-sw33p" / name for name in trials)
    assert "learning_rate=-1.0: give 0 or more" in said
    assert not (crashed / "checkpoints").exists()
    config = yaml.safe_load((good / "config.yaml").read_text())
    assert config["data"]["seed"] == 7
    assert type(config["data"]["seed"]) is int
    assert config["model"]["encoder"]["chunk_size"] is None
    assert config["model"]["objective"]["share_captions"] is True
    assert config["schedule"]["stages"] == [
        {"from_epoch": 0, "losses": {"contrastive": 1.0}}, {"from_epoch": 1, "losses": {"affiliation": 0.5}},
    ]  # fmt: skip
    for run, epochs in ((good, 2), (stopped, 3000)):
        assert {file.name for file in (run / "checkpoints").glob("*.ckpt")} >= {"best.ckpt", "last.ckpt"}
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == epochs
    figures = trials["run0001"].figures
    assert figures == pytest.approx(figures_of(good))
    assert len(figures) == 2
    assert trials["run0001"].config["model.optimizer.learning_rate"] == 1e-4
    last = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)
    assert 0 < last["epoch"] < 3000


def figures_of(run: Path) -> list[float]:
    """What a run's CSV has of the metric."""
    with next(run.rglob("metrics.csv")).open() as content:
        return [float(row["val/mR"]) for row in csv.DictReader(content) if row["val/mR"]]


def test_an_agent_that_is_killed_leaves_nothing_locked(tmp_path: Path, tiny_data: str) -> None:
    write(tmp_path, tiny_data, {"trainer.max_epochs": {"values": [3000, 1]}})
    run = tmp_path / "runs" / "sweep-sw33p" / "run0001"
    with local_sweeps(most=2) as hub:
        wandb(tmp_path, hub, "sweep", "-e", "me", "-p", "p", "sweep.yaml")
        with (tmp_path / "agent.txt").open("w") as said:
            agent = subprocess.Popen(
                ["wandb", "agent", "me/p/sw33p"], cwd=tmp_path, env=environment(tmp_path, hub), stdout=said, stderr=said
            )
        wait_for(lambda: (run / "checkpoints" / "last.ckpt").is_file(), 200)
        agent.send_signal(signal.SIGKILL)
        agent.wait()
        lock = FileLock(run / "fit.lock")
        lock.acquire(timeout=60)  # its trial has seen that the agent is gone, and ended
        lock.release()
        wandb(tmp_path, hub, "agent", "me/p/sw33p")
        assert [trial.state for trial in hub.trials.values()][1] == "finished"
    assert len(figures_of(run.with_name("run0002"))) == 1


def wait_for(condition: Any, seconds: float) -> None:
    """Until it holds.

    Raises:
        AssertionError: if it never does.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_rsretrieval_sweep_is_killed_and_goes_on(tmp_path: Path, tiny_data: str) -> None:
    """The real ``fit`` without a server: a trial that crashes, one that is interrupted, and what comes of them."""
    parameters = {
        "trainer.max_epochs": {"values": [2]}, "data.seed": {"values": [1, 2]},
        "model.optimizer.learning_rate": {"values": [1.0e-3, -1.0]}, "schedule.stages": {"values": STAGES},
    }  # fmt: skip
    write(tmp_path, tiny_data, parameters)
    command = [sys.executable, "-m", "rsretrieval", "sweep", "sweep.yaml", "--to", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    wait_for(lambda: (tmp_path / "out/trial-0002/progress.jsonl").is_file(), 200)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=tmp_path, text=True, capture_output=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out" / "trials.csv").open() as content:
        rows = {row["trial"]: row for row in csv.DictReader(content)}
    states = {name: row["state"] for name, row in rows.items()}
    assert states == {
        "trial-0000": "finished", "trial-0001": "failed", "trial-0002": "interrupted", "trial-0003": "finished",
        "trial-0004": "failed",
    }  # fmt: skip
    assert "learning_rate=-1.0: give 0 or more" in rows["trial-0001"]["reason"]
    settings = [json.loads((tmp_path / "out" / name / "settings.json").read_text()) for name in sorted(rows)]
    assert settings[2] == settings[3]
    assert settings[3]["data.seed"] == 2
    for name in ("trial-0000", "trial-0003"):
        assert float(rows[name]["val/mR"]) == pytest.approx(max(figures_of(tmp_path / "out" / name)))
    assert "2 finished, 2 failed, 1 interrupted" in done.stdout
    assert (tmp_path / "out" / "parallel.png").read_bytes().startswith(b"\x89PNG")
