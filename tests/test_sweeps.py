"""Sweeps without a server: the file's reading, trials as processes, resuming, results; and the shipped files."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from fake_trials import FIT, fake, run, sweep
from lightning import LightningModule

from rsretrieval.cli import sweep as command
from rsretrieval.cli.agent import arguments_of_agent, of_trial
from rsretrieval.cli.sweep_check import check_against_configuration, parse
from rsretrieval.sweeps.definition import Halving, Sweep, read_sweep
from rsretrieval.sweeps.parameters import Parameter, SweepError
from rsretrieval.sweeps.pictures import draw_parallel, importances, positions
from rsretrieval.sweeps.results import results, table
from rsretrieval.sweeps.study import open_study
from rsretrieval.sweeps.trials import Trials, best_figure, last_words, read_progress
from rsretrieval.training.callbacks.trial import EndsWithParent, TrialProgress


def test_parameters_are_read_with_their_types() -> None:
    stages = [{"from_epoch": 0, "losses": {"contrastive": 1}}]
    plan = sweep(
        {
            "data": {"parameters": {"batch_size": {"values": [16, 32]}, "seed": {"min": 1, "max": 3}}},
            "schedule.stages": {"values": [stages, None]},
            "a": {"value": 1.0}, "b": {"values": [True, 1, "1", 1.0]}, "rate": {"min": 0.5, "max": 2},
            "log": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 0.1},
            "exponents": {"distribution": "log_uniform", "min": -2, "max": 0},
            "quantised": {"distribution": "q_uniform", "min": 8, "max": 64, "q": 8},
        },
        early_terminate={"type": "hyperband", "max_iter": 27, "s": 2},
    )  # fmt: skip
    by_name = {parameter.name: parameter for parameter in plan.parameters}
    assert list(by_name)[:2] == ["data.batch_size", "data.seed"]
    assert by_name["data.seed"] == Parameter("data.seed", low=1, high=3, is_integer=True)
    assert by_name["log"] == Parameter("log", low=1e-4, high=0.1, is_log=True)
    assert by_name["exponents"].low == pytest.approx(math.exp(-2))
    values = [by_name["b"].value(choice) for choice in by_name["b"].choices]
    assert [(type(value), value) for value in values] == [(bool, True), (int, 1), (str, "1"), (float, 1.0)]
    assert [by_name["quantised"].value(drawn) for drawn in (8.0, 21.0, 64.0)] == [8, 24, 64]
    assert plan.halving == Halving(3, 3)
    drawn = {"schedule.stages": json.dumps(stages), "a": "1.0", "b": "1", "data.batch_size": "16", "data.seed": 2}
    drawn |= {"rate": 1.5, "log": 1e-3, "exponents": 0.5, "quantised": 30.0}
    assert plan.options(plan.settings(drawn)) == [
        "-c", "quickstart", "--data.batch_size=16", "--data.seed=2",
        '--schedule.stages=[{"from_epoch": 0, "losses": {"contrastive": 1}}]', "--a=1.0", "--b=1", "--rate=1.5",
        "--log=0.001", "--exponents=0.5", "--quantised=32",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metod": "grid"}, "the key 'metod' is unknown, meant is perhaps 'method'"),
        ({"method": "annealing"}, r"method='annealing' is unknown; possible are \['bayes', 'grid', 'random'\]"),
        ({"metric": {"name": "val/mR"}}, "goal=None: give maximize or minimize"),
        ({"metric": "val/mR"}, "give what is to be optimised"),
        ({"parameters": {}}, "give settings by name"),
        ({"parameters": {"x": 3}}, "the parameter 'x' is 3: give `value"),
        ({"parameters": {"x": {"vales": [1]}}}, r"'x' has the keys \['vales'\]"),
        ({"parameters": {"x": {"values": []}}}, r"'x' has the values \[\]"),
        ({"parameters": {"x": {"distribution": "beta", "a": 1}}}, "'x' has the distribution 'beta'; possible here"),
        ({"parameters": {"x": {"min": "1e-5", "max": 1.0}}}, "min='1e-5', which is no finite number: .* write 1.0e-5"),
        ({"parameters": {"x": {"min": 2, "max": 1}}}, "'x' has min=2, max=1: max must not be below"),
        (
            {"parameters": {"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}}},
            "a range of logarithms lies above 0",
        ),
        (
            {"method": "grid", "parameters": {"x": {"min": 0.0, "max": 1.0}}},
            "'x' is a range of real numbers, which a grid",
        ),
        ({"early_terminate": {"type": "hyperband", "eta": 3}}, "give min_iter, or max_iter and s"),
        ({"early_terminate": {"type": "median"}}, "possible is {type: hyperband"),
        ({"command": "rsretrieval fit"}, "give the command of a trial as a list"),
        ({"command": ["python", "train.py", "${args}"]}, "does not run `rsretrieval fit`"),
        ({"command": FIT[:-1]}, "has no place for a trial's settings"),
        ({"command": [*FIT, "${args_no_boolean_flags}"]}, "cannot be read by `fit`"),
        ({"command": [*FIT, "--data.path=${envvar:NOT_THERE}"]}, "NOT_THERE from the environment, where it is not"),
        ({"run_cap": 0}, "run_cap=0: give a number of trials"),
    ],
)
def test_wrong_files_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SweepError, match=message) as error:
        sweep(**{"parameters": {"x": {"values": [1]}}, **change})
    assert str(error.value).startswith("'my.yaml': ")


def test_a_grid_runs_once_and_a_crash_does_not_end_it(tmp_path: Path) -> None:
    plan = sweep({"x": {"values": [1, 2]}, "crash": {"values": [False, True]}}, method="grid")
    rows = run(plan, tmp_path, 10, jobs=2)
    assert [(row.state, row.value, row.epoch, row.settings) for row in rows[:2]] == [
        ("finished", 23.0, 3, {"x": 2, "crash": False}), ("finished", 13.0, 3, {"x": 1, "crash": False}),
    ]  # fmt: skip
    assert {row.reason for row in rows[2:]} == {"rsretrieval: ValueError: too much of it (status 1)"}
    assert [row.state for row in rows] == ["finished", "finished", "failed", "failed"]
    folders = sorted(tmp_path.glob("trial-*"))
    assert [folder.name for folder in folders] == [f"trial-000{number}" for number in range(4)]
    assert run(plan, tmp_path, 10) == rows  # called again there is nothing to do
    lines = (tmp_path / "trials.csv").read_text().splitlines()
    assert lines[0] == "trial,state,val/mR,epoch,seconds,x,crash,reason"
    assert lines[1].startswith(f"{rows[0].folder},finished,23.0,3,")
    assert lines[1].endswith(",2,false,")
    shown = table(rows, plan).splitlines()
    assert shown[1].split() == [rows[0].folder, "finished", "23.00", "3", "2", "false"]
    assert shown[-1] == "2 finished, 2 failed"


def test_bad_trials_are_stopped(tmp_path: Path) -> None:
    plan = sweep(
        {"x": {"values": [9, 8, 1]}, "wait": {"value": 0.6}}, method="grid",
        early_terminate={"type": "hyperband", "min_iter": 2, "eta": 3},
    )  # fmt: skip
    rows = run(plan, tmp_path, 3)
    assert [(row.settings["x"], row.state) for row in rows] == [(9, "finished"), (8, "stopped"), (1, "stopped")]
    assert rows[0].value == 93.0
    assert rows[2].value in (11.0, 12.0)  # after the second validation, before the last


def test_a_killed_sweep_goes_on(tmp_path: Path) -> None:
    """Killed without a word while its second trial trains: the first stays, the second is run again as it was."""
    program = (
        f"import os, sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from fake_trials import run, sweep\n"
        f"plan, folder = sweep({{'x': {{'values': [1, 2, 3]}}}}), Path({str(tmp_path)!r})\n"
        "run(plan, folder, 1); os.environ['HANG'] = '1'; run(plan, folder, 2)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    progress = tmp_path / "trial-0001" / "progress.jsonl"
    while not (progress.is_file() and progress.read_text().count("\n") == 2):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = json.loads((tmp_path / "trial-0001" / "settings.json").read_text())
    database = tmp_path / "sweep.db"
    study = optuna.load_study(study_name="sweep", storage=f"sqlite:///{database}")
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "RUNNING"]
    asked: list[Mapping[str, Any]] = []
    plan = sweep({"x": {"values": [1, 2, 3]}})

    def noted(settings: Mapping[str, Any], folder: Path) -> list[str]:
        asked.append(settings)
        return fake(settings, folder)

    with open_study(plan, tmp_path, 0) as study:
        Trials(plan, study, tmp_path, noted, [None], lambda: None).run(3)
        rows = {row.folder: row for row in results(study, plan)}
    assert asked[0] == before
    assert {name: row.state for name, row in rows.items()} == {
        "trial-0000": "finished", "trial-0001": "interrupted", "trial-0002": "finished", "trial-0003": "finished",
    }  # fmt: skip
    assert rows["trial-0000"].value == json.loads((tmp_path / "trial-0000" / "settings.json").read_text())["x"] * 10 + 3


def test_what_is_told_to_stop_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANG", "1")
    plan = sweep({"x": {"values": [1]}})

    class EnoughError(Exception):
        pass

    with open_study(plan, tmp_path, 0) as study:
        trials = Trials(plan, study, tmp_path, fake, ["3"], lambda: None)
        follow, seen = trials._follow, []

        def interrupted(one: Any) -> None:
            follow(one)
            if len(one.figures) == 2:
                seen.append(one.process)
                raise EnoughError

        trials._follow = interrupted  # type: ignore[method-assign]
        with pytest.raises(EnoughError):
            trials.run(1)
        assert [process.poll() for process in seen] == [-signal.SIGTERM]
        environment = trials._environment(0)
        assert environment["CUDA_VISIBLE_DEVICES"] == "3"


def study_of(values: Mapping[str, list[Any]], figures: list[float], plan: Sweep) -> optuna.Study:
    study = optuna.create_study(direction="maximize")
    spread = {parameter.name: parameter.distribution() for parameter in plan.parameters}
    for number, figure in enumerate(figures):
        params = {name: column[number] for name, column in values.items()}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=spread, value=figure))
    return study


def test_pictures_show_where_trials_lie_and_what_matters() -> None:
    plan = sweep({"a": {"values": [1, 2, 3]}, "b": {"distribution": "log_uniform_values", "min": 0.01, "max": 1.0}})
    numbers = range(30)
    values = {
        "a": [str(1 + number % 3) for number in numbers],
        "b": [10 ** -(2 * (number % 10) / 9) for number in numbers],
    }
    study = study_of(values, [float(one) for one in values["a"]], plan)  # a alone decides
    shares = importances(study, plan)
    assert list(shares) == ["a", "b"]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["a"] > 0.8
    few = study_of({name: column[:3] for name, column in values.items()}, [1.0, 2.0, 3.0], plan)
    assert importances(few, plan) == {}
    rows = results(study, plan)
    assert positions(plan.parameters[0], rows[:1]) == [1.0]
    by_b = sorted({round(position, 4) for position in positions(plan.parameters[1], rows)})
    assert by_b == [round(step / 9, 4) for step in range(10)]
    picture = draw_parallel(rows, plan)
    red = [
        (x, y) for x in range(picture.width) for y in range(picture.height) if picture.getpixel((x, y)) == (200, 40, 30)
    ]
    assert red  # the best trial's line, on top: it begins at a=3, the top of the first axis
    assert min(y for x, y in red if x < 100) == pytest.approx(70, abs=3)


def test_the_best_figure_and_last_words(tmp_path: Path) -> None:
    figures = [(0, math.nan), (1, 2.0), (2, 5.0), (3, 5.0)]
    assert best_figure(figures, maximize=True) == (2, 5.0)
    assert best_figure(figures, maximize=False) == (1, 2.0)
    assert best_figure(figures[:1], maximize=True) is None
    log = tmp_path / "log.txt"
    log.write_text("before\nrsretrieval: ValueError: no\n(RSRETRIEVAL_TRACEBACK=1 shows where it was raised)\n")
    assert last_words(log) == "rsretrieval: ValueError: no"


def check(plan: Sweep) -> None:
    check_against_configuration(plan, "my.yaml", lambda settings: ["fit", *plan.options(settings)])


def test_a_sweep_is_checked_against_the_configuration() -> None:
    stages = [{"from_epoch": 0, "losses": {"contrastiv": 1}}]
    for parameters, message in (
        ({"model.optimizer.learning_rat": {"value": 1}}, "has the sweep's parameter 'model.optimizer.learning_rat', "
         "meant is perhaps model.optimizer.learning_rate"),
        ({"learning_rate": {"value": 1}}, "'learning_rate', meant is perhaps model.optimizer.learning_rate"),
        ({"data.batch_size": {"value": "many"}}, "many"),
        ({"schedule.stages": {"value": stages}}, "contrastiv"),
    ):  # fmt: skip
        with pytest.raises(SweepError, match=message):
            check(sweep(parameters))
    with pytest.raises(SweepError, match=r"the metric 'val/MR' never comes, meant is perhaps val/mR"):
        check(sweep({"data.seed": {"value": 1}}, metric={"name": "val/MR", "goal": "maximize"}))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name != "demo")) for name in sorted(command.shipped_sweeps())],
)
def test_shipped_sweeps_fit_their_configurations(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RSICD", "/data/rsicd")
    monkeypatch.setenv("SCENES", "/data/scenes.json")
    file = command.find_sweep(f"sweeps/{name}")
    plan = read_sweep(file, file.read_text())
    check(plan)
    settings = plan.settings({parameter.name: _first(parameter) for parameter in plan.parameters})
    config, _ = parse(["fit", *plan.options(settings)], name)
    for setting, value in settings.items():
        if setting not in ("schedule.stages", "config"):
            assert config[setting] == value, setting
    expected = {"demo": 8, "learning_rate": 40, "fgis": 24, "ablation": 12 * 3, "losses": 10 * 3}
    assert command._all_trials(plan) == expected[name]


def test_a_parameter_may_be_a_configuration() -> None:
    parts = [("ablation/a", {"contrastive": 1}), ("ablation/d", {"contrastive": 1, "scene_adaptive": 1})]
    plan = sweep({"config": {"values": [*(name for name, _ in parts), "ablation/x"]}, "seed_everything": {"value": 3}})
    for name, losses in parts:
        config, _ = parse(["fit", *plan.options({"config": name, "seed_everything": 3})], "a sweep")
        assert config.schedule.stages[0].losses == losses
        assert config.seed_everything == 3
    with pytest.raises(FileNotFoundError, match="there is no configuration 'ablation/x'"):
        check(plan)


def _first(parameter: Parameter) -> Any:
    return parameter.choices[0] if parameter.choices else parameter.low


def test_another_sweep_does_not_go_on_in_a_folder(tmp_path: Path) -> None:
    command._remember(tmp_path, {"sweep": {"method": "grid"}, "options": []})
    command._remember(tmp_path, {"sweep": {"method": "grid"}, "options": []})
    with pytest.raises(SweepError, match="holds the trials of another sweep"):
        command._remember(tmp_path, {"sweep": {"method": "grid"}, "options": ["--data.seed=1"]})
    with pytest.raises(
        FileNotFoundError, match=r"there is no sweep 'fgs': give a file, or one of \['ablation', 'demo'"
    ):
        command.find_sweep("fgs")
    with pytest.raises(SweepError, match="method: random has no end: give --trials"):
        command._all_trials(sweep({"x": {"values": [1]}}))


def test_without_optuna_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'rsretrieval\[sweeps\]'"):
        command.main(["sweep", "demo"])


def test_arguments_as_an_agent_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [
        "fit", "-c", "quickstart", "--data.batch_size=16", "--data.seed=None",
        "--schedule.stages=[{'from_epoch': 0, 'losses': {'contrastive': 1}}]",
        "--model={'encoder': {'chunk_size': None, 'freeze_sfgs': True}}", '--data.columns={"image": null}',
    ]  # fmt: skip
    assert arguments_of_agent(given) == given
    assert of_trial("fit", "runs/x") == []
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r7")
    assert arguments_of_agent(given) == [
        "fit", "-c", "logger/wandb", *given[1:5],
        '--schedule.stages=[{"from_epoch": 0, "losses": {"contrastive": 1}}]',
        '--config={"model": {"encoder": {"chunk_size": null, "freeze_sfgs": true}}}', given[7],
    ]  # fmt: skip
    assert arguments_of_agent(["test", *given[1:]])[:2] == ["test", "-c"]
    folder, callback = of_trial("fit", "runs/x")
    assert folder == "--trainer.default_root_dir=runs/x/sweep-s1/r7"
    assert json.loads(callback.partition("=")[2])["init_args"] == {"parent": os.getppid()}
    assert of_trial("test", "runs/x") == []


def test_a_trial_tells_its_figures_and_ends_with_its_parent(tmp_path: Path) -> None:
    metrics = {"val/mR": torch.tensor(12.5), "val/i2t_R@1": torch.tensor(1.0)}
    trainer: Any = SimpleNamespace(
        is_global_zero=True, sanity_checking=False, current_epoch=2, callback_metrics=metrics
    )
    file, module = tmp_path / "trial" / "progress.jsonl", LightningModule()
    callback = TrialProgress("val/mR", str(file), os.getppid())
    callback.on_fit_start(trainer, module)
    assert read_progress(file) == []
    callback.on_validation_end(trainer, module)
    with file.open("a") as content:
        content.write('{"epoch": 3, "va')  # still being written
    assert read_progress(file) == [(2, 12.5)]
    wrong = TrialProgress("val/MR", str(file), os.getppid())
    with pytest.raises(ValueError, match=r"'val/MR' was not logged, meant is perhaps val/mR"):
        wrong.on_validation_end(trainer, module)
    seen: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    try:
        callback.on_train_batch_start(trainer, module, None, 0)
        assert seen == []
        EndsWithParent(os.getpid()).on_train_batch_start(trainer, module, None, 0)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [signal.SIGTERM]
