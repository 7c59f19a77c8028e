"""``rsretrieval sweep``: the trials of a sweep's file, without a server."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from rsretrieval.cli.configs import shipped

if TYPE_CHECKING:
    from optuna import Study

    from rsretrieval.sweeps.definition import Sweep

DESCRIPTION = """Run the trials of a sweep, each a `rsretrieval fit` of its own, on this machine and without a server.

FILE is what `wandb sweep` takes: method, metric, parameters, early_terminate and command. What is given after -- goes
to every `fit`, as in: rsretrieval sweep demo --trials 30 --jobs 2 -- --trainer.accelerator gpu. Called again, it goes
on: trials that ended are kept, those that were interrupted are run again, with the same settings."""
CALLBACK = "rsretrieval.training.callbacks.trial.TrialProgress"
DEFINITION = "sweep.json"


def main(arguments: Sequence[str]) -> None:
    """Run ``sweep``, the first of the arguments.

    Raises:
        SystemExit: with status 1 and a message, if no trial came to a figure; 130 or 143 where a signal ended it.
    """
    own, extra = list(arguments[1:]), []
    if "--" in own:
        place = own.index("--")
        own, extra = own[:place], own[place + 1 :]
    options = _parser().parse_args(own)
    signal.signal(signal.SIGTERM, _end)
    try:
        _run(options, extra)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "rsretrieval sweep", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "file", metavar="FILE", help=f"a sweep's file, or one that is shipped: {sorted(shipped_sweeps())}"
    )
    parser.add_argument(
        "--trials",
        type=_count,
        help="in all, with those of earlier calls; default: the file's run_cap, or a whole grid",
    )
    parser.add_argument("--jobs", type=_count, default=1, help="trials at once")
    parser.add_argument("--to", type=Path, help="folder of the sweep, which gets one for each trial; runs/sweeps/NAME")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn")
    parser.add_argument(
        "--devices", nargs="+", metavar="D", help="values of CUDA_VISIBLE_DEVICES that the trials at once take in turn"
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is too few: give 1 or more")
    return number


def shipped_sweeps() -> dict[str, Path]:
    """Name to file of each sweep that comes with the package."""
    folder = shipped()["quickstart"].parent / "sweeps"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def find_sweep(name: str) -> Path:
    """The file that a name or path means; a path wins.

    Raises:
        FileNotFoundError: naming the sweeps that there are.
    """
    path, known = Path(name).expanduser(), shipped_sweeps()
    if path.is_file():
        return path
    if path.stem in known and path.parent in (Path(), Path("sweeps")) and path.suffix in ("", ".yaml"):
        return known[path.stem]
    raise FileNotFoundError(f"there is no sweep '{name}': give a file, or one of {sorted(known)}")


def _run(options: argparse.Namespace, extra: Sequence[str]) -> None:
    from rsretrieval.cli.run_folder import lock_folder
    from rsretrieval.cli.sweep_check import check_against_configuration
    from rsretrieval.sweeps.definition import read_sweep
    from rsretrieval.sweeps.results import results, table, write_table
    from rsretrieval.sweeps.study import check_installed, open_study
    from rsretrieval.sweeps.trials import Trials

    file = find_sweep(options.file)
    check_installed()
    text = file.read_text(encoding="utf-8")
    sweep = read_sweep(file, text)
    folder = (options.to or Path("runs/sweeps") / file.stem).expanduser()
    trials = options.trials or _all_trials(sweep)

    def command(settings: Mapping[str, Any], run: Path) -> list[str]:
        return [sys.executable, "-m", "rsretrieval", *_fit(sweep, settings, extra, run)]

    check_against_configuration(sweep, str(file), lambda settings: _fit(sweep, settings, extra, folder))
    lock = lock_folder(folder, "sweep")
    try:
        _remember(folder, {"sweep": yaml.safe_load(text), "options": list(extra)})
        with open_study(sweep, folder, options.seed) as study:
            devices = [options.devices[slot % len(options.devices)] if options.devices else None
                       for slot in range(options.jobs)]  # fmt: skip
            Trials(
                sweep, study, folder, command, devices, lambda: write_table(results(study, sweep), sweep, folder)
            ).run(trials)
            rows = results(study, sweep)
            sys.stdout.write(f"{table(rows, sweep)}\n{_pictures(study, sweep, folder)}\n")
    finally:
        lock.release(force=True)
    if all(row.value is None for row in rows):
        sys.exit(f"rsretrieval: no trial of the sweep came to a figure: see {folder / 'trials.csv'}")


def _all_trials(sweep: Sweep) -> int:
    """As the file says, or all of a grid.

    Raises:
        SweepError: where neither says.
    """
    import math

    from rsretrieval.sweeps.parameters import SweepError

    if sweep.run_cap is not None:
        return sweep.run_cap
    if sweep.method != "grid":
        raise SweepError(f"method: {sweep.method} has no end: give --trials, or run_cap in the file")
    return math.prod(len(parameter.grid()) for parameter in sweep.parameters)


def _fit(sweep: Sweep, settings: Mapping[str, Any], extra: Sequence[str], run: Path) -> list[str]:
    """The command ``fit`` of a trial in its folder."""
    from rsretrieval.sweeps.trials import PROGRESS

    told = {"metric": sweep.metric, "file": str(run / PROGRESS), "parent": os.getpid()}
    callback = json.dumps({"class_path": CALLBACK, "init_args": told})
    base = sweep.options({})
    return [
        "fit", *base, *extra, *sweep.options(settings)[len(base) :],
        f"--trainer.default_root_dir={run}", f"--trainer.callbacks+={callback}", "--trainer.enable_progress_bar=false",
    ]  # fmt: skip


def _remember(folder: Path, definition: Mapping[str, Any]) -> None:
    """Keep what the sweep is beside its trials; refuse to go on with another one.

    Raises:
        SweepError: if the folder is of another sweep.
    """
    from rsretrieval.files import write_text
    from rsretrieval.sweeps.parameters import SweepError

    file = folder / DEFINITION
    if not file.is_file():
        write_text(file, json.dumps(definition, indent=1, default=str) + "\n")
    elif json.loads(file.read_text(encoding="utf-8")) != json.loads(json.dumps(definition, default=str)):
        raise SweepError(
            f"'{folder}' holds the trials of another sweep (see '{file}'): give this one a folder of its own by --to, "
            "or the file and the options after -- as they were"
        )


def _pictures(study: Study, sweep: Sweep, folder: Path) -> str:
    """Draw what there is to draw; where it lies."""
    from rsretrieval.files import write_png
    from rsretrieval.sweeps.pictures import (
        IMPORTANCE,
        LEAST_TRIALS,
        PARALLEL,
        draw_importances,
        draw_parallel,
        importances,
    )  # fmt: skip
    from rsretrieval.sweeps.results import CSV, results

    write_png(folder / PARALLEL, draw_parallel(results(study, sweep), sweep))
    shares = importances(study, sweep)
    names = [CSV, PARALLEL]
    if shares:
        write_png(folder / IMPORTANCE, draw_importances(shares))
        names.append(IMPORTANCE)
    said = "" if shares else f"; {IMPORTANCE} takes {LEAST_TRIALS} finished trials that differ in setting and figure"
    return f"in {folder}: {', '.join(names)}{said}"
