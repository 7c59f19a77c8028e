"""`rsretrieval report`: what it says of runs, against what the runs themselves logged and retrieved."""

import base64
import csv
import io
import os
import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rsretrieval import cli
from rsretrieval.data.table import Table
from rsretrieval.metrics import SplitEmbeddings, paired_bootstrap, retrieval_recall
from rsretrieval.records.logs import ReportError, by_epoch, read_log
from rsretrieval.records.queries import query_file
from rsretrieval.records.wandb_file import WandbFileError, history
from rsretrieval.reports.document import Document
from rsretrieval.reports.groups import Group, difference, group_runs
from rsretrieval.reports.report import scene_recall, write_report
from rsretrieval.reports.runs import Run, find_runs, read_queries, read_run
from rsretrieval.training.query_records import query_records, write_queries
from rsretrieval.training.scene_figures import scene_figures

sys.path.insert(0, str(Path(__file__).parent))
import tiny
from made_up import split as made_up_split
from wandb_records import run_files

STAGES = [{"from_epoch": 0, "losses": {"contrastive": 1}}, {"from_epoch": 1, "losses": {"triplet": 1}}]


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    monkeypatch.setenv("WANDB_MODE", "offline")


def arguments(folder: Path, run: Path, *more: str) -> list[str]:
    """A run of two epochs of four batches on the embedded scenes."""
    settings = tiny.small_run(folder, 4)
    settings |= {"schedule": {"stages": STAGES}, "report": {"queries": 2}, "tracking": {"queries": 0}}
    file = folder / "small.yaml"
    file.write_text(yaml.safe_dump(settings))
    return ["fit", "-c", str(file), f"--trainer.default_root_dir={run}", "--trainer.limit_val_batches=2", *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trainings of one setting and one of another, which was tested too."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["rsretrieval"])
        for seed in (0, 1):
            cli.main(arguments(folder, folder / "all" / f"slow-{seed}", f"--seed_everything={seed}"))
        fast = arguments(folder, folder / "all" / "fast", "--model.optimizer.learning_rate=0.05")
        cli.main(fast)
        cli.main(["test", *fast[1:3], fast[3], "--trainer.limit_test_batches=2", "--ckpt_path=last"])
    return folder / "all"


@pytest.fixture(scope="module")
def report(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    to = tmp_path_factory.mktemp("report")
    cli.main(["report", str(runs), "--to", str(to), "--baseline", "slow"])
    return to


def logged(run: Path, name: str) -> list[float]:
    files = sorted(run.rglob("metrics.csv"))
    return [float(row[name]) for file in files for row in csv.DictReader(file.open()) if row.get(name)]


def tables(report: Path) -> dict[str, dict[str, list[str]]]:
    """Heading to the first cell of a row to its others, as the Markdown has them."""
    found: dict[str, dict[str, list[str]]] = {}
    for part in report.joinpath("report.md").read_text().replace("\\", "").split("\n## ")[1:]:
        heading, _, body = part.partition("\n")
        lines = [
            [cell.strip() for cell in line.strip("| ").split(" | ")] for line in body.splitlines() if line[:1] == "|"
        ]
        found[heading] = {line[0]: line[1:] for line in lines}
    return found


def test_queries_give_the_figures_that_were_logged(runs: Path) -> None:
    for name, split in (("slow-0", "val"), ("slow-1", "val"), ("fast", "test")):
        queries = read_queries(query_file(runs / name, split))
        for figure, value in queries.recall.items():
            assert logged(runs / name, f"{split}/{figure}")[-1] == pytest.approx(value, abs=1e-4)
    table = pq.read_table(query_file(runs / "fast", "val"))
    assert table.column_names == ["way", "file", "caption", "scene", "above", "tied", "own"]
    assert table["way"].to_pylist() == ["i2t"] * 128 + ["t2i"] * (len(table) - 128)
    assert table["caption"].null_count == 128
    assert read_queries(query_file(runs / "fast", "val")).about == {
        "split": "val", "queries": "every", "ks": [1, 5, 10], "of": "epoch 1", "data": ["synthetic", ""]}  # fmt: skip
    assert read_queries(query_file(runs / "fast", "test")).about["of"] == "last.ckpt"


def test_figures_are_means_with_their_deviation(runs: Path, report: Path) -> None:
    rows = tables(report)["Figures"]
    last = [logged(runs / f"slow-{seed}", "val/mR")[-1] for seed in (0, 1)]
    best = [max(logged(runs / f"slow-{seed}", "val/mR")) for seed in (0, 1)]
    spread = f"{statistics.mean(last):.2f} ± {statistics.stdev(last):.2f}"
    assert rows["slow: validation, last epoch"] == ["2", *rows["slow: validation, last epoch"][1:7], spread]
    assert rows["slow: validation, best epoch"][-1].split(" ± ")[0] == f"{statistics.mean(best):.2f}"
    assert rows["fast: test"] == ["1", *(f"{logged(runs / 'fast', f'test/{name}')[-1]:.2f}" for name in (
        "i2t_R@1", "i2t_R@5", "i2t_R@10", "t2i_R@1", "t2i_R@5", "t2i_R@10", "mR"))]  # fmt: skip
    assert "slow: test" not in rows


def test_differences_are_of_the_bootstrap(runs: Path, report: Path) -> None:
    queries = [read_queries(query_file(runs / name, "val")) for name in ("slow-0", "slow-1", "fast")]
    slow, fast = queries[:2], queries[2]
    found = paired_bootstrap([one.hits for one in slow], [fast.hits], fast.images)
    assert found.mean == pytest.approx(fast.recall["mR"] - statistics.mean(one.recall["mR"] for one in slow))
    interval = f"{found.low:+.2f} to {found.high:+.2f}"
    assert tables(report)["Differences"]["fast"] == [f"{found.mean:+.2f}", interval, f"{found.p:.4f}", "epoch 1"]
    assert "slow is of epoch 1" in report.joinpath("report.md").read_text()


def test_groups_differ_by_settings_and_not_by_seeds(runs: Path, report: Path) -> None:
    rows = tables(report)["Runs"]
    assert rows["setting"] == ["fast", "slow"]
    assert rows["model.optimizer.learning_rate"][0] == "0.05"
    assert {name for name in rows if "." in name} == {"model.optimizer.learning_rate"}
    groups = group_runs([read_run(folder) for folder in find_runs([runs])])
    assert [(group.name, group.seeds) for group in groups] == [("fast", [0]), ("slow", [0, 1])]


def kept_queries(folder: Path, scenes: list[int], split: str = "val", **about: Any) -> Run:
    """A run that has kept its queries alone."""
    content, embeddings = made_up_split(len(scenes), scenes)
    told = {"split": split, "queries": "every", "ks": [1, 5, 10], "of": "epoch 1", **about}
    write_queries(query_file(folder, split), query_records(content, embeddings, told["queries"], scenes=True), told)
    return Run(folder, {"seed": folder.name}, {})


def test_recall_by_scene_is_that_of_the_embeddings(tmp_path: Path) -> None:
    scenes = [1, 3, 3, 1, 3, 3, 1, 3, 3, 3, 1, 3]
    wanted = scene_figures(*made_up_split(12, scenes))
    found = scene_recall(kept_queries(tmp_path, scenes), "val")
    assert found == pytest.approx(dict(zip(wanted.names, wanted.recall["mR"].tolist(), strict=True)))


def test_a_difference_is_said_of_the_same_queries_alone(tmp_path: Path) -> None:
    runs = [
        kept_queries(tmp_path / "one", [1, 3, 3, 1]), kept_queries(tmp_path / "more", [1, 3, 3, 1, 1]),
        kept_queries(tmp_path / "distinct", [1, 3, 3, 1], queries="distinct"),
        kept_queries(tmp_path / "same", [1, 3, 3, 1]),
    ]  # fmt: skip
    one, more, distinct, same = (Group(run.name, (run,), {}) for run in runs)
    assert str(difference(one, more, "val")).startswith("other queries: 12 and 15, first apart in (('t2i', ")
    assert difference(one, distinct, "val") == "other protocols: every at [1, 5, 10], and distinct at [1, 5, 10]"
    assert difference(one, same, "val") == (0, 0, 0, 1)


def test_distinct_captions_are_one_query_of_the_first_image(tmp_path: Path) -> None:
    """Two images share a caption, which is right for both: three queries instead of four, as recall has it."""
    content = Table(["a.png", "b.png"], [["x", "y"], ["x", "z"]], [], [0, 0], [], ["scene"])
    draw = torch.Generator().manual_seed(1)
    image, text = torch.randn(2, 4, generator=draw), torch.randn(3, 4, generator=draw)
    rows, owners = torch.tensor([2, 0, 2, 1]), torch.tensor([0, 0, 1, 1])
    embeddings = SplitEmbeddings(image, torch.tensor([0, 1]), text, rows, owners)
    records = query_records(content, embeddings, "distinct", scenes=False)
    assert records.to_pydict()["caption"] == [None, None, "y", "z", "x"]
    assert records.to_pydict()["file"] == ["a.png", "b.png", "a.png", "b.png", "a.png"]
    assert records["scene"].null_count == 5
    write_queries(tmp_path / "queries.parquet", records, {"queries": "distinct", "ks": [1, 2]})
    wanted = retrieval_recall(
        image=image, text=text[rows], owners=owners, ks=(1, 2), queries="distinct", text_ids=rows
    )  # fmt: skip
    assert read_queries(tmp_path / "queries.parquet").recall == pytest.approx(wanted)


def write_session(run: Path, number: int, rows: list[dict[str, float]]) -> None:
    """The CSV of a session, with what Lightning puts beside it."""
    folder = run / "lightning_logs" / f"version_{number}"
    folder.mkdir(parents=True)
    names = list(dict.fromkeys(name for row in rows for name in row))
    (folder / "hparams.yaml").write_text("{}")
    with (folder / "metrics.csv").open("w") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    for file in folder.iterdir():
        os.utime(file, (number, number))


def test_sessions_of_a_run_are_one_log(tmp_path: Path) -> None:
    def trained(steps: range, value: float) -> list[dict[str, float]]:
        return [{"step": step, "epoch": step // 2, "train/loss": value, "val/mR": value + step} for step in steps]

    write_session(tmp_path, 0, trained(range(6), 1))
    write_session(tmp_path, 1, [{"step": 0, "epoch": 0, "test/mR": 7}])
    write_session(tmp_path, 2, trained(range(4, 8), 2))  # went on from the checkpoint of step 4
    write_session(tmp_path, 3, [{"step": 0, "epoch": 0, "val/mR": 50, "val_hubness_corrected/mR": 51}])
    log = read_log(tmp_path)
    assert log["train/loss"] == dict(zip(range(8), [1, 1, 1, 1, 2, 2, 2, 2], strict=True))
    assert by_epoch(log, "val/mR") == {0: 2, 1: 4, 2: 7, 3: 9}
    assert log["validate/mR"] == {0: 50}
    assert log["validate_hubness_corrected/mR"] == {0: 51}
    assert "test/mR" not in log  # of the model before
    write_session(tmp_path, 4, trained(range(2), 3))  # another training in the same folder
    assert read_log(tmp_path) == {
        "train/loss": {0: 3, 1: 3}, "val/mR": {0: 3, 1: 4}, "epoch": {0: 0, 1: 0}
    }  # fmt: skip


def test_what_cannot_be_reported_on_is_refused(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_session(tmp_path / "untested", 0, [{"step": 0, "epoch": 0, "train/loss": 1}])
    for places, baseline, message in (
        (["nowhere"], None, "'.*nowhere' is no folder: give the folder of a run"),
        (["empty"], None, r"'.*empty' has no log: none of \['metrics.csv', 'run-\*.wandb', .*lies below it"),
        (["untested"], None, r"none of \['.*untested'\] has a figure: none was validated or tested yet"),
        ([runs], "slwo", r"no group or run 'slwo' to compare with, meant is perhaps slow.*\['fast', 'slow'\]"),
    ):
        with pytest.raises(ReportError, match=message):
            write_report([tmp_path / place for place in places], tmp_path / "to", baseline)
    shutil.copy(query_file(runs / "fast", "val"), tmp_path / "other.parquet")
    pq.write_table(pq.read_table(tmp_path / "other.parquet").replace_schema_metadata({}), tmp_path / "other.parquet")
    with pytest.raises(ReportError, match=r"other.parquet' holds no queries of a run"):
        read_queries(tmp_path / "other.parquet")
    (tmp_path / "other.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ReportError, match=r"other.parquet' cannot be read .*: remove it, or evaluate the run again"):
        read_queries(tmp_path / "other.parquet")
    (tmp_path / "untested" / "config.yaml").write_text("trainer: [")
    with pytest.raises(ReportError, match=r"config.yaml' cannot be read as a run's settings"):
        write_report([tmp_path / "untested"], tmp_path / "to")
    (tmp_path / "run-x.wandb").write_bytes(b"something else")
    with pytest.raises(WandbFileError, match="does not begin by ':W&B'"):
        history(tmp_path / "run-x.wandb")


def test_runs_without_queries_or_figures_are_named(tmp_path: Path, runs: Path) -> None:
    shutil.copytree(runs / "fast", tmp_path / "fast")
    for split in ("val", "test"):
        query_file(tmp_path / "fast", split).unlink()
    (tmp_path / "fast" / "worst-test.png").unlink()
    (tmp_path / "fast" / "worst-val.png").unlink()
    write_session(tmp_path / "untested", 0, [{"step": 0, "epoch": 0, "train/loss": 1}])
    write_report([tmp_path / "fast", tmp_path / "untested", runs / "slow-0"], tmp_path / "to")
    text = (tmp_path / "to" / "report.md").read_text().replace("\\", "")
    assert f"Left out, since nothing was evaluated: {tmp_path / 'untested'}." in text
    assert "Not every run of fast has kept its queries of the validation split (queries-val.parquet" in text
    assert "So nothing is compared query by query with fast." in text
    assert "has none (worst-test.png or worst-val.png)" in text


def test_names_are_shown_as_they_are(tmp_path: Path) -> None:
    document = Document("a <b> *c*")
    document.table(["", "x"], [["<script>|`d`", "e\nf"]])
    markdown, page = document.write(tmp_path, "report")
    assert "# a <b> *c*" not in markdown.read_text()
    assert "| \\<script\\>\\|\\`d\\` | e f |" in markdown.read_text()
    assert "<script>" not in page.read_text()
    assert "&lt;script&gt;|`d`" in page.read_text()


def test_pictures_are_in_both_documents(report: Path) -> None:
    names = re.findall(r"!\[[^]]*\]\((.*?)\)", report.joinpath("report.md").read_text())
    assert names == ["curves.png", "scenes.png", "worst-0.png", "worst-1.png"]
    embedded = re.findall(r'src="data:image/png;base64,([^"]*)"', report.joinpath("report.html").read_text())
    assert [base64.b64decode(content) for content in embedded] == [(report / name).read_bytes() for name in names]
    for name in names:
        with Image.open(report / name) as picture:
            assert min(picture.size) > 100


def test_time_and_memory_are_those_of_the_log(runs: Path, report: Path) -> None:
    minutes, pairs, memory, gpu = tables(report)["Time and memory"]["fast"]
    assert float(minutes) == pytest.approx(sum(logged(runs / "fast", "time/epoch")) / 60, abs=0.06)
    assert float(pairs) == pytest.approx(statistics.median(logged(runs / "fast", "speed/pairs_per_second")), abs=0.06)
    assert float(memory) == pytest.approx(max(logged(runs / "fast", "memory/peak_GB")), abs=0.006)
    assert gpu == "not logged"


LOGGER = '{"class_path": "%s", "init_args": {"save_dir": ""}}'


@pytest.mark.parametrize("logger", ["WandbLogger", pytest.param("TensorBoardLogger", marks=pytest.mark.slow)])
def test_other_loggers_say_the_same_as_csv(logger: str, tmp_path: Path) -> None:
    """Of a fit that is interrupted after an epoch, goes on, and is tested."""
    run = tmp_path / "run"
    loggers = [f"--trainer.logger={LOGGER % logger}", f"--trainer.logger+={LOGGER % 'CSVLogger'}"]
    args = arguments(tmp_path, run, *loggers)
    cli.main([*args, "--trainer.max_epochs=1"])
    cli.main([*args, "--ckpt_path=last"])
    cli.main(["test", *args[1:3], args[3], *loggers, "--trainer.limit_test_batches=2", "--ckpt_path=last"])
    run_files(run)  # W&B's own process writes them
    for file in run.rglob("metrics.csv"):
        os.utime(file, (2e9, 2e9))
    whole = read_run(run)
    for file in [*run.rglob("metrics.csv"), run / "config.yaml"]:
        file.unlink()
    alone = read_run(run)
    assert alone.log.keys() >= {"val/mR", "test/mR", "train/loss", "stage", "time/epoch"}
    for name in whole.log:
        assert alone.log[name] == pytest.approx(whole.log[name], rel=1e-6), name
    assert by_epoch(alone.log, "val/mR").keys() == {0, 1}
    if logger == "TensorBoardLogger":
        *_, resumed, _ = sorted(run.rglob("events.out.tfevents.*"), key=lambda file: file.stat().st_mtime)
        events = EventAccumulator(str(resumed), size_guidance={"images": 0})
        events.Reload()
        assert events.Tags()["images"] == ["val/results", "val/worst"]
        for name in ("results", "worst"):
            shown = Image.open(io.BytesIO(events.Images(f"val/{name}")[0].encoded_image_string)).convert("RGB")
            assert shown.tobytes() == Image.open(run / f"{name}-val.png").convert("RGB").tobytes()
    assert alone.settings["model.encoder.embed_dim"] == 16
    assert alone.settings["schedule.stages"] == whole.settings["schedule.stages"]


def test_what_another_logger_evaluated_is_added(runs: Path, tmp_path: Path) -> None:
    """Trained under TensorBoard, tested with the default logger."""
    run = tmp_path / "run"
    args = arguments(tmp_path, run, f"--trainer.logger={LOGGER % 'TensorBoardLogger'}")
    cli.main(args)
    cli.main(["test", *args[1:3], args[3], "--trainer.limit_test_batches=2", "--ckpt_path=last"])
    found = read_run(run)
    assert by_epoch(found.log, "val/mR").keys() == {0, 1}
    assert set(found.evaluated()) == {"validation, last epoch", "validation, best epoch", "test"}
    write_report([run], tmp_path / "to")
    assert "| run: test | 1 |" in (tmp_path / "to" / "report.md").read_text()


@pytest.mark.slow
def test_a_new_training_leaves_no_query_of_another_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    args = arguments(tmp_path, run, "--trainer.max_epochs=3", "--trainer.check_val_every_n_epoch=2")
    cli.main(args)
    assert read_queries(query_file(run, "val")).about["of"] == "epoch 1"  # the last that was validated
    cli.main(["test", *args[1:3], args[3], "--trainer.limit_test_batches=2", "--ckpt_path=last"])
    assert (run / "worst-test.png").is_file()
    cli.main([*args, "--trainer.max_epochs=2", "--ckpt_path=last"])  # nothing is left to train
    assert (run / "worst-test.png").is_file()
    cli.main([*args, "--trainer.limit_val_batches=0"])
    assert not [*run.glob("queries-*"), *run.glob("worst-*")]


def test_runs_that_only_evaluated_are_found_and_alone(tmp_path: Path) -> None:
    """Their configuration was not kept: what W&B has of it are the model's settings."""
    below = tmp_path / "runs" / "a" / "wandb" / "offline-run-20251129_230000-x1" / "files"
    below.mkdir(parents=True)
    (below / "config.yaml").write_text("{}")
    write_session(tmp_path / "runs" / "b", 0, [{"step": 0, "epoch": 0, "val/mR": 50}])
    kept_queries(tmp_path / "runs" / "c", [1, 2])
    places = [tmp_path / "runs" / name for name in "abc"]
    assert find_runs([tmp_path / "runs"]) == places
    assert find_runs([places[0]]) == places[:1]
    same = {"model.encoder.embed_dim": 16}
    assert len(group_runs([Run(place, same, {}) for place in places])) == 3


def test_averaged_weights_make_another_group(tmp_path: Path) -> None:
    average = {"class_path": "rsretrieval.training.callbacks.AveragedWeights", "init_args": {}}
    trial = {"class_path": "rsretrieval.training.callbacks.trial.TrialProgress", "init_args": {"parent": 7}}
    runs = [
        Run(tmp_path / name, {"seed_everything": seed, "trainer.callbacks": callbacks}, {})
        for seed, (name, callbacks) in enumerate(
            {"a-0": None, "a-1": [trial], "b-0": [average], "b-1": [average, trial]}.items()
        )
    ]
    groups = group_runs(runs)
    assert [(group.name, group.seeds) for group in groups] == [("a", [0, 1]), ("b", [2, 3])]
    assert [group.differs for group in groups] == [{"trainer.callbacks": None}, {"trainer.callbacks": [average]}]


def test_a_run_that_has_just_begun_refuses_no_report(
    tmp_path: Path, runs: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has a configuration and no log yet; another was killed in the middle of a number."""
    shutil.copytree(runs, tmp_path / "all")
    (tmp_path / "all" / "begun").mkdir()
    shutil.copy(runs / "fast" / "config.yaml", tmp_path / "all" / "begun")
    (log, *_) = sorted((tmp_path / "all" / "slow-0").rglob("metrics.csv"))
    whole = read_run(runs / "slow-0").log
    with log.open("a") as file:
        file.write("1,2,-")
    assert read_run(tmp_path / "all" / "slow-0").log == whole
    assert "has a row that is no numbers, and is read without it" in caplog.text
    write_report([tmp_path / "all"], tmp_path / "to")
    text = (tmp_path / "to" / "report.md").read_text().replace("\\", "")
    assert f"Left out, since nothing was evaluated: {tmp_path / 'all' / 'begun'}." in text
