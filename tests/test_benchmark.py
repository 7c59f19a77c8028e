"""Models on data sets as one table: the figures of ``test``, what is not there, and what is not computed again."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from pairs import write_entry

import rsretrieval.training.benchmark as code
from rsretrieval import cli
from rsretrieval.models.catalogue import MODELS, register_model
from rsretrieval.training.benchmark import Evaluation, benchmark, describe
from rsretrieval.training.benchmark_table import FIGURES, Cell, markdown, read_cells, together

QUICK = Evaluation(num_workers=0, accelerator="cpu")
FULL = dict.fromkeys(FIGURES, 50.0)


@pytest.fixture
def pair(tmp_path: Path) -> str:
    return write_entry(tmp_path)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """Model, data and split of every evaluation that is really computed."""
    computed = []
    original = code._measured

    def note(cell: Cell, *rest: Any) -> Cell:
        computed.append((cell.model, cell.data, cell.split))
        return original(cell, *rest)

    monkeypatch.setattr(code, "_measured", note)
    return computed


@pytest.mark.parametrize("queries", ["every", "distinct"])
def test_figures_are_those_of_test_and_validate(pair: str, tiny_data: str, tmp_path: Path, queries: str) -> None:
    to = tmp_path / "to"
    cli.main([
        "benchmark", pair, "--data", f"parquet:{tiny_data}", "--splits", "test", "valid", "--queries", queries,
        f"--to={to}", "--num_workers=0", "--accelerator=cpu",
    ])  # fmt: skip
    cells = {cell.split: cell for cell in read_cells(to / "benchmark.json")}
    for command, split, stage in (("test", "test", "test"), ("validate", "valid", "val")):
        run = tmp_path / command
        cli.main([
            command, f"--model.pretrained={pair}", "--data.source=parquet", f"--data.path={tiny_data}",
            f"--data.queries={queries}", f"--trainer.default_root_dir={run}", "--trainer.accelerator=cpu",
            "--data.num_workers=0", "--report.queries=0",
        ])  # fmt: skip
        with next(run.rglob("metrics.csv")).open(newline="") as content:
            (row,) = csv.DictReader(content)
        assert cells[split].figures == {name: float(row[f"{stage}/{name}"]) for name in FIGURES}
    # Both captions of an image: one is its own in the test split, the other that of all images.
    assert (cells["test"].images, cells["test"].captions, cells["test"].queries) == (3, 6, queries)
    # I→T: the own caption finds its image. T→I at rank 1: one of two captions surely, the other in 1 of 3 cases.
    by_hand = 100.0 if queries == "distinct" else (5 * 100 + 100 * (1 + 1 / 3) / 2) / 6
    assert cells["test"].ceiling == pytest.approx(by_hand)
    with (to / "benchmark.csv").open(newline="") as content:
        rows = list(csv.DictReader(content))
    assert [(row["split"], row["protocol"]) for row in rows] == [("test", queries), ("valid", queries)]
    assert float(rows[0]["mR"]) == pytest.approx(cells["test"].figures["mR"], abs=1e-4)


def test_the_others_go_on(
    pair: str, tiny_data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    only_test = tmp_path / "only-test"
    only_test.mkdir()
    shutil.copy(Path(tiny_data) / "test-00000-of-00001.parquet", only_test)
    arguments = ["--num_workers=0", "--accelerator=cpu", f"--to={tmp_path / 'to'}", "--splits", "valid", "test"]
    with pytest.raises(SystemExit) as end:
        cli.main(["benchmark", "nope", pair, "--data", "folder:gone", f"parquet:{only_test}", *arguments])
    assert "6 of 8 evaluations have no figures, such as" in str(end.value.code)
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if f"parquet:{only_test}" in line and pair in line]
    assert len(lines) == 2
    assert "| every    | 3" in next(line for line in lines if "| test " in line)
    assert "no such split" in shown
    assert "the model cannot be loaded: PretrainedError: there is no model 'nope'" in shown
    assert "the data cannot be read: DataError: there is no folder 'gone'" in shown
    assert len(read_cells(tmp_path / "to" / "benchmark.json")) == 1
    assert f"{pair} on folder:gone, valid: the data cannot be read" in caplog.text
    cli.main(["benchmark", pair, "--data", f"parquet:{only_test}", *arguments])  # a split that it has: no failure


def test_nothing_is_computed_twice(
    pair: str, tiny_data: str, tmp_path: Path, measured: list[tuple[str, str, str]]
) -> None:
    data, to = f"parquet:{tiny_data}", tmp_path / "to"
    (first,) = benchmark([pair], [data], to, QUICK)
    both = benchmark([pair], [data], to, replace(QUICK, splits=("test", "valid")))
    assert measured == [(pair, data, "test"), (pair, data, "valid")]
    assert both[0].figures == first.figures
    assert [cell.computed_before for cell in both] == [True, False]
    benchmark([pair], [data], to, replace(QUICK, queries="distinct"))  # another protocol
    assert len(measured) == 3
    weights = tmp_path / "weights.pt"
    state = torch.load(weights, weights_only=True)
    torch.save({**state, "text_projection": -state["text_projection"]}, weights)  # another model
    (other,) = benchmark([pair], [data], to, QUICK)
    assert len(measured) == 4
    assert other.identity != first.identity
    rows = {"filename": ["a.png"], "captions": [["a pond"]], "image": [{"bytes": _png(), "path": None}]}
    Dataset.from_dict(rows).to_parquet(Path(tiny_data) / "test-00000-of-00001.parquet")  # other data
    (other,) = benchmark([pair], [data], to, QUICK)
    assert len(measured) == 5
    assert (other.images, other.figures["mR"]) == (1, 100.0)
    assert len(read_cells(to / "benchmark.json")) == 3  # test and valid, and test by distinct captions


def test_a_reason_does_not_outlive_its_cause(
    pair: str, tiny_data: str, tmp_path: Path, measured: list[tuple[str, str, str]]
) -> None:
    data, to, away = f"parquet:{tiny_data}", tmp_path / "to", tmp_path / "away"
    (first,) = benchmark([pair], [data], to, QUICK)
    Path(tiny_data).rename(away)
    benchmark([pair], [data], to, QUICK)
    (kept,) = read_cells(to / "benchmark.json")
    assert kept.reason.startswith("figures of an earlier run; now the data cannot be read")
    away.rename(tiny_data)
    (again,) = benchmark([pair], [data], to, QUICK)
    assert (again.figures, again.reason, again.computed_before) == (first.figures, "", True)
    assert [cell.reason for cell in read_cells(to / "benchmark.json")] == [""]
    assert len(measured) == 1


def _png() -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_published_figures_and_what_a_model_has_seen(pair: str, tiny_data: str, tmp_path: Path) -> None:
    settings = json.loads(Path(pair).read_text())
    register_model("seen-ponds", **settings, trained_on=("data",), figures={"data": 12.5})
    try:
        splits = replace(QUICK, splits=("test", "valid"))
        test, valid = benchmark(["seen-ponds"], [f"parquet:{tiny_data}"], tmp_path / "to", splits)
    finally:
        MODELS._entries.pop("seen-ponds")  # type: ignore[attr-defined]
    assert (test.published, valid.published) == (12.5, None)
    assert test.note == valid.note == "trained on the training split of data: not zero-shot"
    shown = (tmp_path / "to" / "benchmark.md").read_text()
    assert "|        12.50 |" in shown
    assert "\n1. trained on the training split of data: not zero-shot\n" in shown


def test_figures_of_earlier_runs_stay() -> None:
    earlier = [Cell("a", "x", "test", "every", FULL), Cell("b", "y", "test", "every", FULL)]
    now = [Cell("a", "x", "test", "every", reason="the hub is away"), Cell("c", "x", "test", "every", FULL)]
    table = together(now, earlier)
    assert [(cell.data, cell.model) for cell in table] == [("x", "a"), ("x", "c"), ("y", "b")]
    assert table[0].figures == FULL
    assert table[0].note == "figures of an earlier run; now the hub is away"
    lines = markdown(table).splitlines()
    assert len({len(line) for line in lines[:5]}) == 1
    assert lines[2].split("|")[-2].strip() == "1"
    assert lines[-1] == "1. figures of an earlier run; now the hub is away"


def test_what_counts_as_a_failure() -> None:
    there = Cell("a", "x", "test", "every", FULL)
    missing = Cell("a", "x", "valid", "every", reason="no such split", is_missing_split=True)
    assert describe([there, missing]) == ""
    assert describe([missing]).startswith('1 of 1 evaluations have no figures, such as ["a on x, valid"]')
    assert describe([there, Cell("b", "x", "test", "every", reason="?")]).startswith("1 of 2")


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--splits train: models are compared on valid and test"):
        Evaluation(splits=("train",))
    with pytest.raises(ValueError, match="--splits names none"):
        Evaluation(splits=())
    with pytest.raises(ValueError, match="queries 'all' is unknown"):
        Evaluation(queries="all")
    for text in ("[", "{}", '{"cells": [{"modell": "a"}]}'):
        (tmp_path / "benchmark.json").write_text(text)
        with pytest.raises(ValueError, match=r"benchmark\.json' is no table of `rsretrieval benchmark`"):
            read_cells(tmp_path / "benchmark.json")
