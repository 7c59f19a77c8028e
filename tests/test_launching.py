"""Several processes through the real command line: by Lightning, by torchrun, and as srun starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml

from rsretrieval import cli
from rsretrieval.cli import run_folder
from rsretrieval.cli.configs import find, shipped
from rsretrieval.cli.run_folder import RunConfig, check_is_newest, find_checkpoint

sys.path.insert(0, str(Path(__file__).parent))
import interrupts
import tiny
from test_cli import queries, steps
from test_run_folder import write
from wandb_records import by_step, history, run_files

CPU = ["--trainer.accelerator=cpu", "--trainer.precision=32-true"]
TWO = ["-c", "launch/ddp", *CPU, "--trainer.devices=2"]
BY_TORCHRUN = ["-c", "launch/nodes", *CPU, "--trainer.devices=2", "--trainer.num_nodes=1"]
BY_SRUN = ["-c", "launch/slurm", *CPU, "--trainer.devices=2", "--trainer.num_nodes=1"]
TORCHRUN = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
LAUNCHES = sorted(name for name in shipped() if name.startswith("launch/"))


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("WANDB_SERVICE", raising=False)  # another test's, which would outlive a killed process


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """48 scenes of 64 pixels to train on, 33 to validate; FGIS on a frozen branch, no dropout, norms frozen."""
    (tmp_path / "bert").mkdir()
    vit = {
        "library": "timm",
        "name": "test_vit",
        "weights": None,
        "options": {"embed_dim": 16, "depth": 1, "num_heads": 2},
    }
    bert = {"library": "transformers", "name": tiny.write_bert(tmp_path / "bert"), "weights": None}
    bert["options"] = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    settings = {
        "plugins": ["few_scenes"],
        "trainer": {
            **dict.fromkeys(("enable_progress_bar", "enable_model_summary"), False), "accelerator": "cpu",
            "callbacks": [{"class_path": "few_scenes.FrozenNorms"}], "max_epochs": 2, "log_every_n_steps": 1,
            "default_root_dir": str(tmp_path / "run"),
            "logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "", "flush_logs_every_n_steps": 1}},
        },
        "data": {
            "source": "few scenes", "path": "48", "image_size": 64, "batch_size": 4, "num_workers": 0,
            "augmentation": "none", "word_deletion": 0, "captions_per_image": 1,
        },
        "model": {
            "encoder": {
                "image": vit, "text": bert, "embed_dim": 16, "dropout": 0,
                "convolutional_branch": {"library": "timm", "name": "test_resnet", "weights": None, "frozen": True},
            },
            "optimizer": {"learning_rate": 1.0e-3},
        },
        "schedule": {"stages": [
            {"from_epoch": 0, "losses": {"contrastive": 1, "affiliation": 1, "scene_adaptive": 1}},
            {"from_epoch": 1, "losses": {"weighted_contrastive": 1, "affiliation": 1, "triplet": 1}},
        ]},
        "report": {"queries": 0},
    }  # fmt: skip
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings))
    return ["-c", str(tmp_path / "small.yaml")]


def run(*arguments: object, by: list[str] | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in processes of its own; comes back when the last of them, whoever started it, is gone."""
    start = [sys.executable] if by is None else by
    command = [*start, "-m", "rsretrieval", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240, **options)


def interrupted(
    end: str, batches: int, *arguments: object, by: list[str] | None = None
) -> tuple[subprocess.CompletedProcess[str], float]:
    """The same, ended by ``interrupts.py``, and the seconds from the last batch to the end of the last process."""
    file = Path(os.environ["RSRETRIEVAL_CACHE"]).with_name(f"{end}.jsonl")
    file.unlink(missing_ok=True)
    start = [sys.executable] if by is None else by
    command = [*start, interrupts.__file__, str(file), end, str(batches), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)
    return done, time.time() - file.stat().st_mtime


def last_step(folder: Path) -> int:
    file = find_checkpoint(folder / "checkpoints", "auto")
    assert file is not None
    return int(torch.load(file, weights_only=True)["global_step"])


@pytest.mark.parametrize("name", LAUNCHES)
def test_every_launch_is_an_overlay_over_any_configuration(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert len(LAUNCHES) == 5
    with pytest.raises(SystemExit) as end:
        cli.main(["fit", "-c", "rsicd", "-c", name, "--print_config"])
    assert not end.value.code
    settings = yaml.safe_load(capsys.readouterr().out)
    assert settings["data"]["path"] == "arampacha/rsicd"

    def check(overlay: dict[Any, Any], whole: Any) -> None:
        for key, value in overlay.items():
            if isinstance(value, dict):
                check(value, whole[key])
            elif isinstance(value, list):
                check(dict(enumerate(value)), whole[key])
            else:
                assert whole[key] == value, key

    check(yaml.safe_load(find(name).read_text()), settings)


def test_large_trains_in_chunks_with_gradient_checkpointing(small: list[str], tmp_path: Path) -> None:
    runs = {"plain": [], "large": ["-c", "launch/large", "--model.encoder.chunk_size=3", "--data.batch_size=8"]}
    for name, more in runs.items():
        limits = ["--trainer.max_epochs=1", "--data.batch_size=8", "--trainer.limit_val_batches=0"]
        cli.main(["fit", *small, *limits, *more, f"--trainer.default_root_dir={tmp_path / name}"])
    assert steps(tmp_path / "large") == pytest.approx(steps(tmp_path / "plain"), abs=1e-4)
    settings = yaml.safe_load((tmp_path / "large" / "config.yaml").read_text())["model"]["encoder"]
    assert (settings["chunk_size"], settings["gradient_checkpointing"]) == (3, True)


def test_auto_of_an_evaluation_needs_a_checkpoint(small: list[str], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'last' in '.*checkpoints', which has \[\]"):
        cli.main(["validate", *small, "--ckpt_path=auto"])


def test_auto_begins_and_goes_on(small: list[str], tmp_path: Path) -> None:
    """Called three times: it begins, goes on, and has nothing left to do; no checkpoint is moved aside."""
    args = ["fit", *small, "--data.path=16", "--trainer.limit_val_batches=1", "--ckpt_path=auto"]
    cli.main([*args, "--trainer.max_epochs=1"])
    cli.main(args)
    cli.main(args)
    assert sorted(step for _, step in steps(tmp_path / "run")) == [*range(8)]
    assert [folder.name for folder in tmp_path.glob("run/checkpoints*")] == ["checkpoints"]
    assert last_step(tmp_path / "run") == 8


def test_auto_is_the_newest_that_can_be_read_and_never_a_new_beginning_over_files(
    small: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run" / "checkpoints"
    assert find_checkpoint(folder, "auto") is None
    folder.mkdir(parents=True)
    write(folder / "best.ckpt", 20, 30.0)  # a run that was killed before it wrote another
    assert find_checkpoint(folder, "auto") == folder / "best.ckpt"
    write(folder / "last-step.ckpt", 40, 30.0)
    assert find_checkpoint(folder, "auto") == folder / "last-step.ckpt"
    for file in folder.iterdir():
        file.write_bytes(b"half of it")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in '.*' can be read, of \['best.ckpt', 'last-step.c"):
        cli.main(["fit", *small, "--ckpt_path=auto"])
    assert len(list(folder.iterdir())) == 2


def test_auto_refuses_a_folder_that_another_process_wrote_to(tmp_path: Path) -> None:
    check_is_newest(tmp_path, None)
    write(tmp_path / "last.ckpt", 40, 30.0)
    check_is_newest(tmp_path, str(tmp_path / "last.ckpt"))
    with pytest.raises(RuntimeError, match=r"another process wrote '.*last.ckpt' while this one.*start this one again"):
        check_is_newest(tmp_path, None)


def test_processes_that_would_begin_apart_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the run's folder is on a disk of one of the machines."""
    monkeypatch.setattr(run_folder, "gather_objects", lambda own: [own, None])
    config: Any = {"ckpt_path": "runs/a/checkpoints/last.ckpt"}
    with pytest.raises(RuntimeError, match=r"different checkpoints.*last.ckpt', None\]: give a folder that all"):
        RunConfig(None, config).setup(None, None, "fit")


@pytest.mark.slow
def test_the_first_losses_are_those_of_one_process(small: list[str], tmp_path: Path) -> None:
    """Twenty steps over both stages, a stage an epoch, with the same global batch of eight."""
    args = ["fit", *small, "--data.path=80", "--trainer.limit_val_batches=0"]
    where = {name: tmp_path / name for name in ("one", "ddp", "torchrun")}
    folders = {name: f"--trainer.default_root_dir={folder}" for name, folder in where.items()}
    for done in (
        run(*args, "--data.batch_size=8", folders["one"]),
        run(*args, *TWO, folders["ddp"]),
        run(*args, *BY_TORCHRUN, folders["torchrun"], by=TORCHRUN),
    ):
        assert done.returncode == 0, done.stderr
    whole = steps(where["one"])
    assert sorted(whole) == [(step // 10, step) for step in range(20)]
    assert len(set(whole.values())) == 20
    assert steps(where["ddp"]) == pytest.approx(whole, abs=1e-4)
    assert steps(where["torchrun"]) == pytest.approx(whole, abs=1e-4)


def figures(folder: Path, split: str) -> dict[str, float]:
    """The seven of an evaluation, from its own log."""
    (file,) = folder.rglob("metrics.csv")
    names, values = (line.split(",") for line in file.read_text().splitlines())
    found = {name: float(value) for name, value in zip(names, values, strict=True)}
    return {name: found[name] for name in found if name.startswith((f"{split}/i2t_R", f"{split}/t2i_R", f"{split}/mR"))}


@pytest.mark.slow
def test_one_checkpoint_has_one_mean_recall(small: list[str], tmp_path: Path) -> None:
    """Of 33 images, on one process in batches of 5 and on two, which have 17 and 16; of 15 on the test split."""
    cli.main(["fit", *small, "--data.path=16"])
    args = [*small, "--data.batch_size=5", "--ckpt_path", tmp_path / "run" / "checkpoints" / "best.ckpt"]
    for command, split in (("validate", "val"), ("test", "test")):
        cli.main([command, *map(str, args), f"--trainer.default_root_dir={tmp_path / split}1"])
        done = run(command, *args, *TWO, f"--trainer.default_root_dir={tmp_path / split}2")
        assert done.returncode == 0, done.stderr
        alone = figures(tmp_path / f"{split}1", split)
        assert len(alone) == 7
        assert alone == figures(tmp_path / f"{split}2", split)


@pytest.mark.slow
def test_all_at_once_killed_and_going_on(small: list[str], tmp_path: Path) -> None:
    """Averaged weights, a bank, the report, W&B offline, embeddings; both processes by SIGKILL in mid-epoch."""
    average = {"class_path": "rsretrieval.training.callbacks.AveragedWeights", "init_args": {"decay": 0.5}}
    args = [
        *small, "-c", "logger/wandb", *TWO, f"--trainer.callbacks={json.dumps([average])}", "--report.queries=2",
        "--model.encoder.query_bank=8", "--tracking.queries=2", "--resume.every_n_train_steps=2",
    ]  # fmt: skip
    whole, broken = (f"--trainer.default_root_dir={tmp_path / name}" for name in ("whole", "broken"))
    assert run("fit", *args, whole).returncode == 0
    dead, _ = interrupted("SIGKILL", 8, "fit", *args, broken)
    assert dead.returncode == -signal.SIGKILL
    assert last_step(tmp_path / "broken") == 8  # of 12, the second of the second epoch
    done = run("fit", *args, broken, "--ckpt_path=auto")
    assert done.returncode == 0, done.stderr
    before, after = run_files(tmp_path / "broken", patience=2)
    (one,) = run_files(tmp_path / "whole")
    expected, resumed = (
        {key: value for key, value in by_step(rows, "trainer/global_step").items() if key[1] == "train/loss"}
        for rows in (history(one), [*history(before), *history(after)])
    )
    assert len(expected) == 12
    assert resumed.keys() >= {(step, "train/loss") for step in range(8, 12)}
    assert resumed == pytest.approx({key: expected[key] for key in resumed}, abs=1e-5)
    for mine, theirs in zip(queries(tmp_path / "broken"), queries(tmp_path / "whole"), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=0)
    weights = [torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True) for name in
               ("whole", "broken")]  # fmt: skip
    assert "averaging_state" in weights[0]
    for name, tensor in weights[0]["state_dict"].items():
        torch.testing.assert_close(weights[1]["state_dict"][name], tensor, atol=1e-4, rtol=0, msg=name)
    assert (tmp_path / "broken" / "results-val.png").is_file()
    done = run("predict", *args, broken, "--ckpt_path=best")
    assert done.returncode == 0, done.stderr
    rows = [
        pq.read_table(tmp_path / "broken" / f"embeddings-{rank}.parquet")["filename"].to_pylist() for rank in (0, 1)
    ]
    assert [len(names) for names in rows] == [17, 16]
    assert len({*rows[0], *rows[1]}) == 33


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "end"),
    [("ddp", "rank0"), ("ddp", "rank1"), ("ddp", "error1"), ("torchrun", "rank0"), ("torchrun", "rank1")],
)
def test_where_one_process_dies_the_others_end(start: str, end: str, small: list[str], tmp_path: Path) -> None:
    """Within a minute, by an error, and the run goes on from the checkpoint that there is."""
    by, launch = (None, TWO) if start == "ddp" else (TORCHRUN, BY_TORCHRUN)
    args = ["fit", *small, *launch, "--trainer.limit_val_batches=0", "--resume.every_n_train_steps=1"]
    dead, seconds = interrupted(end, 4, *args, by=by)
    assert dead.returncode in (1, -signal.SIGKILL)
    assert seconds < 60
    if by is None:
        assert "Error" in dead.stderr
    else:
        assert "Signal 9 (SIGKILL)" in dead.stderr
        assert f"local_rank: {end[-1]}" in dead.stderr
    assert end != "error1" or "a process that fails" in dead.stderr
    assert last_step(tmp_path / "run") == 4
    again = run(*args, "--ckpt_path=auto", by=by)
    assert again.returncode == 0, again.stderr
    assert last_step(tmp_path / "run") == 12
    assert {step for _, step in steps(tmp_path / "run")} == {*range(12)}


@pytest.mark.slow
def test_a_process_that_hangs_ends_with_the_first(small: list[str]) -> None:
    dead, seconds = interrupted("stuck", 1, "fit", *small, *TWO, "--trainer.limit_val_batches=0")
    assert dead.returncode == -signal.SIGKILL
    assert "is gone: this one ends too" in dead.stderr
    assert seconds < 60


@pytest.mark.slow
def test_sigterm_to_every_process_as_of_slurm(small: list[str], tmp_path: Path) -> None:
    """Each at another moment of a batch: both save and leave by 143, and the next job has a whole run's losses."""
    args = ["fit", *small, *BY_SRUN, "--trainer.limit_val_batches=0", "--ckpt_path=auto"]
    variables = {
        "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1", "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1", "SLURM_JOB_NAME": "train", "SLURM_JOB_ID": str(10_000 + os.getpid() % 10_000),
    }  # fmt: skip

    def job(folder: str, end: str, batches: int) -> list[tuple[int, str]]:
        each = []
        for rank in (0, 1):
            env = {**os.environ, **variables, "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
            given = [str(tmp_path / f"{rank}.jsonl"), end, str(batches), *args]
            command = [sys.executable, interrupts.__file__, *given, f"--trainer.default_root_dir={tmp_path / folder}"]
            each.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True))
        errors = [process.communicate(timeout=240)[1] for process in each]
        return [(process.returncode, error) for process, error in zip(each, errors, strict=True)]

    assert [status for status, _ in job("whole", "", 0)] == [0, 0]
    ends = job("broken", "SIGTERMs", 8)
    assert [status for status, _ in ends] == [143, 143], ends
    assert last_step(tmp_path / "broken") == 9
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert [status for status, _ in job("broken", "", 0)] == [0, 0]
    assert steps(tmp_path / "broken") == pytest.approx(steps(tmp_path / "whole"), abs=1e-6)
