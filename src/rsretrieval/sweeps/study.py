"""The trials of a sweep in a file of SQLite: what was tried, what comes next, whether a trial is worth its time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.lazy import needs
from rsretrieval.sweeps.definition import Halving, Sweep
from rsretrieval.sweeps.parameters import combinations

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

DATABASE = "sweep.db"
INTERRUPTED = "interrupted"


def check_installed() -> None:
    """Refuse to go on without Optuna.

    Raises:
        ImportError: naming the extra of this package that brings it.
    """
    needs("optuna", "sweeps")


@contextmanager
def open_study(sweep: Sweep, folder: Path, seed: int) -> Iterator[Study]:
    """The sweep's trials; those that a killed process left are queued to be run again, with the same settings.

    Args:
        sweep: what is varied.
        folder: that holds the file, or will.
        seed: of what is drawn; a sweep that goes on draws other values than before.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    storage = optuna.storages.RDBStorage(f"sqlite:///{(folder / DATABASE).resolve()}")
    study = optuna.create_study(
        storage=storage,
        study_name="sweep",
        load_if_exists=True,
        direction="maximize" if sweep.maximize else "minimize",
        pruner=_pruner(sweep.halving),
    )
    study.sampler = _sampler(sweep.method, seed + len(study.trials))
    try:
        _queue_interrupted(study)
        yield study
    finally:
        storage.engine.dispose()


def _sampler(method: str, seed: int) -> BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    return TPESampler(seed=seed) if method == "bayes" else RandomSampler(seed=seed)


def _pruner(halving: Halving | None) -> BasePruner:
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    if halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=halving.first, reduction_factor=halving.eta)


def _queue_interrupted(study: Study) -> None:
    import optuna
    from optuna.trial import TrialState

    trials = study.trials
    queued = {trial.user_attrs.get("repeats") for trial in trials if trial.state != TrialState.FAIL}
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            if trial.number not in queued and trial.params:
                study.enqueue_trial(trial.params, user_attrs={"repeats": trial.number})
            optuna.trial.Trial(study, trial._trial_id).set_user_attr("reason", INTERRUPTED)
            study.tell(trial.number, state=TrialState.FAIL)


def begun(study: Study) -> list[FrozenTrial]:
    """The trials that count: all but those that a killed process left and those that wait."""
    from optuna.trial import TrialState

    return [
        trial
        for trial in study.trials
        if trial.state != TrialState.WAITING and trial.user_attrs.get("reason") != INTERRUPTED
    ]


def ask(study: Study, sweep: Sweep) -> Trial | None:
    """The next trial; None where a grid has been gone through."""
    from optuna.trial import TrialState

    waits = any(trial.state == TrialState.WAITING for trial in study.trials)
    if sweep.method == "grid" and not waits:
        tried = {_key(trial.params) for trial in study.trials}
        drawn = next((drawn for drawn in combinations(sweep.parameters) if _key(drawn) not in tried), None)
        if drawn is None:
            return None
        study.enqueue_trial(drawn)
    return study.ask({parameter.name: parameter.distribution() for parameter in sweep.parameters})


def _key(drawn: dict[str, Any]) -> str:
    return json.dumps(drawn, sort_keys=True)
