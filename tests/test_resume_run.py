"""Runs that are interrupted, through the real command line: the exit status, what stays, and how they go on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lightning import Callback, Trainer

from rsretrieval import RetrievalDataModule, RetrievalModule, TowerConfig, cli
from rsretrieval.data.prepare import prepare
from rsretrieval.files import write_whole
from rsretrieval.training import Stage
from rsretrieval.training.callbacks import ValueGuidedLearning
from rsretrieval.types import Batch

sys.path.insert(0, str(Path(__file__).parent))
import interrupts
import tiny
from test_cli import CONFIGS
from test_cli import tiny as small_configuration


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])


def arguments(folder: Path, data: str, bert: str, clip: str, *more: str) -> list[str]:
    """Two epochs of eight batches."""
    return [
        *small_configuration(folder / "run", data, bert, clip, CONFIGS[0]),
        "--trainer.max_epochs=2", "--data.batch_size=2", "--data.word_deletion=0.3", "--data.captions_per_image=2",
        "--report.queries=0", *more,
    ]  # fmt: skip


def lines(file: Path) -> list[tuple[int, list[str], float]]:
    return [(epoch, texts, loss) for epoch, texts, loss in map(json.loads, file.read_text().splitlines())]


def interrupted(folder: Path, end: str, batches: int, args: list[str], **options: Any) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, interrupts.__file__, str(folder / f"{end}.jsonl"), end, str(batches), *args]
    return subprocess.run(command, env=env, check=False, capture_output=True, text=True, **options)


@pytest.mark.parametrize(
    ("accumulated", "cases"),
    [  # how it ends, after how many batches (of SIGKILL: steps), with which status, and the batch that it goes on with
        (3, [("SIGTERM", 4, 143, 3)]),
        pytest.param(3, [("SIGKILL", 2, -9, 6), ("error", 4, 1, 3)], marks=pytest.mark.slow),
        (1, [("SIGINT", 4, 130, 4)]),
        pytest.param(1, [("SIGTERM", 10, 143, 11), ("error", 7, 1, 7)], marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_goes_on_with_the_losses_of_a_whole_one(
    accumulated: int, cases: list[tuple[str, int, int, int]],
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str,
) -> None:  # fmt: skip
    """Interrupted under two workers, resumed under none, where a step adds up several batches or not.

    After SIGTERM the batch comes to its end, and after all but SIGKILL a checkpoint is written, also between two steps.
    """
    args = [*arguments(tmp_path, tiny_data, tiny_bert, tiny_clip), f"--trainer.accumulate_grad_batches={accumulated}"]
    with interrupts.recorded(tmp_path / "whole.jsonl"):
        cli.main(["fit", *args])
    whole = lines(tmp_path / "whole.jsonl")
    assert [epoch for epoch, _, _ in whole] == [0] * 8 + [1] * 8
    for end, batches, status, goes_on in cases:
        run = ["fit", *args, f"--trainer.default_root_dir={tmp_path / end}"]
        every = 1 if end == "SIGKILL" else 200
        dead = interrupted(
            tmp_path, end, batches, [*run, "--data.num_workers=2", f"--resume.every_n_train_steps={every}"]
        )
        assert dead.returncode == status, dead.stderr
        with interrupts.recorded(tmp_path / f"{end}-rest.jsonl"):
            cli.main([*run, "--ckpt_path", "last"])
        rest = lines(tmp_path / f"{end}-rest.jsonl")
        assert [line[:2] for line in rest] == [line[:2] for line in whole[goes_on:]], end
        assert [line[2] for line in rest] == pytest.approx([line[2] for line in whole[goes_on:]], abs=1e-5), end
        last = torch.load(tmp_path / end / "checkpoints" / "last.ckpt", weights_only=True)
        assert last["global_step"] == 2 * -(-8 // accumulated)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "statuses"), [("rank", (1, -9)), ("SIGTERM", (143,))])
def test_processes_end_together(
    end: str, statuses: tuple[int, ...], tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str
) -> None:
    """Where the second of two is killed the first ends by an error, and where the first gets SIGTERM both end."""
    args = arguments(tmp_path, tiny_data, tiny_bert, tiny_clip, "--trainer.devices=2", "--trainer.strategy=ddp")
    dead = interrupted(tmp_path, end, 2, ["fit", *args, "--trainer.max_epochs=500"], timeout=90)
    assert dead.returncode in statuses, dead.stderr
    if end == "SIGTERM":
        assert torch.load(tmp_path / "run" / "checkpoints" / "last-step.ckpt", weights_only=True)["global_step"] == 3


TOWERS = TowerConfig("timm", "test_resnet")


class Watch(Callback):
    """Keeps the rows of each training batch, by epoch."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, list[int]]] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: object, batch: Batch, batch_idx: int) -> None:
        self.rows.append((trainer.current_epoch, batch.image_ids.tolist()))


def trainer(folder: Path, watch: Watch, **options: Any) -> Trainer:
    settings = {
        "accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
        "enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": folder, "max_epochs": 2,
        "callbacks": [ValueGuidedLearning([Stage(0, {"contrastive": 1})]), watch],
    }  # fmt: skip
    return Trainer(**settings | options)


def scenes(**options: Any) -> RetrievalDataModule:
    settings = {"image_size": 32, "batch_size": 4, "num_workers": 0, "augmentation": "none", "captions_per_image": 1}
    data = RetrievalDataModule(**settings | options)
    data.source.sizes = {"train": 32, "valid": 8, "test": 8}
    return data


@pytest.fixture
def module(tiny_clip: str) -> RetrievalModule:
    return tiny.module(TOWERS, TowerConfig("open_clip", tiny_clip), image_size=32)


def test_a_second_fit_starts_at_the_beginning(tmp_path: Path, module: RetrievalModule) -> None:
    data = scenes()
    trainer(tmp_path, first := Watch(), limit_train_batches=3, max_epochs=1).fit(module, data)
    trainer(tmp_path, second := Watch(), max_epochs=1).fit(module, data)
    assert second.rows[:3] == first.rows
    assert sorted(row for _, rows in second.rows for row in rows) == list(range(32))


SWITCHES = [
    {"limit_train_batches": 0.5}, {"limit_train_batches": 3}, {"limit_val_batches": 0}, {"limit_val_batches": 1},
    {"overfit_batches": 2}, {"reload_dataloaders_every_n_epochs": 1}, {"accumulate_grad_batches": 3},
    {"val_check_interval": 3}, {"val_check_interval": 0.25}, {"check_val_every_n_epoch": 2},
    {"check_val_every_n_epoch": None, "val_check_interval": 5}, {"fast_dev_run": True}, {"fast_dev_run": 3},
    {"num_sanity_val_steps": 2}, {"max_steps": 5, "max_epochs": -1},
]  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_switches_of_the_trainer_that_touch_data(
    switch: dict[str, Any], tmp_path: Path, module: RetrievalModule
) -> None:
    trainer(tmp_path, watch := Watch(), **switch).fit(module, scenes())
    trainer(tmp_path, whole := Watch()).fit(module, scenes())
    epochs = [[rows for number, rows in watch.rows if number == epoch] for epoch in (0, 1)]
    if "overfit_batches" in switch:
        assert epochs[0] == epochs[1] == [[0, 1, 2, 3], [4, 5, 6, 7]]
        return
    batches = {"limit_train_batches": 4 if switch.get("limit_train_batches") == 0.5 else 3}.get(next(iter(switch)), 8)
    if "fast_dev_run" in switch:
        batches = int(switch["fast_dev_run"])
        assert not epochs.pop()
    if "max_steps" in switch:
        batches = 5
        assert not epochs.pop()
    assert epochs == [[rows for number, rows in whole.rows if number == e][:batches] for e in range(len(epochs))]


def test_a_limit_that_changed_starts_the_epoch_again(
    tmp_path: Path, module: RetrievalModule, caplog: pytest.LogCaptureFixture
) -> None:
    class Stop(Watch):
        def on_train_batch_end(self, trainer: Trainer, *rest: Any, **more: Any) -> None:
            if len(self.rows) == 3:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    trainer(tmp_path, whole := Stop(), max_epochs=1).fit(module, scenes())
    for options, texts in (
        ({"limit_train_batches": 2}, "limit_train_batches=1.0, and this run has limit_train_batches=2"),
        ({"accumulate_grad_batches": 2}, "accumulate_grad_batches=1, and this run has accumulate_grad_batches=2"),
        ({}, ""),
    ):
        caplog.clear()
        run = trainer(tmp_path, watch := Watch(), max_epochs=1, **options)
        run.fit(module, scenes(), ckpt_path=tmp_path / "middle.ckpt")
        assert watch.rows == (whole.rows[: options.get("limit_train_batches", 8)] if options else whole.rows[3:])
        assert texts in caplog.text
        assert ("starts again" in caplog.text) == bool(options)


def test_a_full_disk_leaves_what_was_finished(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ["fit", *arguments(tmp_path, tiny_data, tiny_bert, tiny_clip), "--resume.every_n_train_steps=1"]
    checkpoints = tmp_path / "run" / "checkpoints"
    with interrupts.full_disk(after=3), pytest.raises(OSError, match=r"No space left.*last-step.ckpt'") as error:
        cli.main(args)
    assert error.value.errno == 28
    assert [file.name for file in checkpoints.iterdir()] == ["last-step.ckpt"]
    assert torch.load(checkpoints / "last-step.ckpt", weights_only=True)["global_step"] == 3
    with interrupts.recorded(tmp_path / "rest.jsonl"):
        cli.main([*args, "--ckpt_path", "last"])
    assert len(lines(tmp_path / "rest.jsonl")) == 13

    def full(*rest: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OSError, match=r"No space left on device; nothing was written: '.*embeddings-0.parquet'"):
        cli.main(["predict", *args[1:3], *args[3:-1], "--ckpt_path", "last"])
    assert not list((tmp_path / "run").glob("embeddings*"))
    assert not (tmp_path / "run" / "predict-shards").exists()
    with pytest.raises(
        OSError, match=r"No space left on device; nothing was written: '.*train-00000-of-00001.parquet'"
    ):
        prepare("parquet", str(tmp_path / "copy"), path=tiny_data)
    assert not list((tmp_path / "copy").glob("*.parquet*"))


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    write_whole(file, lambda partial: partial.write_text("whole"))

    def write(partial: Path) -> None:
        partial.write_text("ha")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device; what was there is as it was: '.*list.json'"):
        write_whole(file, write)
    assert file.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [file]
