"""What a run has logged, whichever logger kept it: CSV, W&B offline, TensorBoard."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rsretrieval.lazy import needs
from rsretrieval.registry import Registry

Log = dict[str, dict[int, float]]
"""Name of a figure to its value at each step."""


EVALUATED = ("validate", "test")
"""Beginnings of the names of figures that no training has logged."""


NOT_OF_TRAINING = ("val", "test", "epoch")
"""Beginnings of the names of figures that sessions without training log."""


class ReportError(ValueError):
    """What cannot be reported on."""


class LogReader(NamedTuple):
    """How one kind of logger's files are read.

    Attributes:
        pattern: of the files, below a run's folder; one a session of the run.
        read: the figures of a file.
        settings: the configuration in or beside a file, flat; empty where there is none.
    """

    pattern: str
    read: Callable[[Path], Log]
    settings: Callable[[Path], Mapping[str, Any]]


LOG_READERS: Registry[LogReader] = Registry("kind of log")
"""Name to :class:`LogReader`; the first that finds files in a run's folder reads them."""


def sessions(folder: Path) -> tuple[str, list[Path]]:
    """The kind of a run's logs, and their files in the order in which they were begun.

    Raises:
        ReportError: if there are none.
    """
    for kind, reader in LOG_READERS.items():
        files = sorted(folder.rglob(reader.pattern), key=_begun)
        if files:
            return kind, files
    patterns = [reader.pattern for reader in LOG_READERS.values()]
    raise ReportError(
        f"'{folder}' has no log: none of {patterns} lies below it. Give the folder of a run "
        "(--trainer.default_root_dir), or a folder of such folders"
    )


def _begun(file: Path) -> tuple[float, str]:
    hyperparameters = file.with_name("hparams.yaml")
    first = hyperparameters if hyperparameters.is_file() else file
    return min(one.stat().st_mtime for one in (first, file)), str(file)


def read_log(folder: Path) -> Log:
    """The figures of a run, of all its sessions.

    A session that trains replaces everything from its first step on: one that went on after an interruption what had
    been trained beyond its checkpoint, a new training in the same folder all of the earlier one; what was tested before
    it is of another model, and left out. Figures of a validation split from a session that does not train are kept
    as ``validate/…``.

    Raises:
        ReportError: if there is no log.
    """
    kind, files = sessions(folder)
    log: Log = {}
    for file in files:
        session = LOG_READERS[kind].read(file)
        trained = [step for name, values in session.items() if not name.startswith(NOT_OF_TRAINING) for step in values]
        if trained:
            first = min(trained)
            old = {name: {s: v for s, v in values.items() if s < first} for name, values in log.items()}
            log = {name: old.get(name, {}) | session.get(name, {}) for name in [*old, *session]}
            log = {name: values for name, values in log.items() if not name.startswith(EVALUATED)}
        else:
            renamed = {re.sub("^val(?=[/_])", "validate", name): values for name, values in session.items()}
            log |= {name: values for name, values in renamed.items() if name.startswith(EVALUATED)}
    return {name: dict(sorted(values.items())) for name, values in log.items() if values}


def by_epoch(log: Log, name: str) -> dict[int, float]:
    """A figure by the epoch in which it was logged, counted from 0; of several the last."""
    epochs = log.get("epoch", {})
    return {int(epochs[step]): value for step, value in log.get(name, {}).items() if step in epochs}


def _hyperparameters(file: Path) -> Mapping[str, Any]:
    """Of Lightning's ``hparams.yaml`` beside a log, which has the configuration under ``config``."""
    import yaml

    from rsretrieval.settings import flat

    beside = file.with_name("hparams.yaml")
    content = yaml.safe_load(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    return flat(content.get("config") or {}) if isinstance(content, dict) else {}


def _read_csv(file: Path) -> Log:
    log: Log = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            step = row.pop("step", None)
            for name, text in row.items() if step else ():
                if name and text:
                    log.setdefault(name, {})[int(float(step))] = float(text)
    return log


LOG_READERS.register("csv")(LogReader("metrics.csv", _read_csv, _hyperparameters))


def _read_wandb(file: Path) -> Log:
    from rsretrieval.reports.wandb_file import history

    log: Log = {}
    for row in history(file):
        step = row.pop("trainer/global_step", None)
        for name, value in row.items() if isinstance(step, int | float) else ():
            if isinstance(value, int | float) and math.isfinite(value):
                log.setdefault(name, {})[int(step)] = float(value)
    return log


def _settings_of_wandb(file: Path) -> Mapping[str, Any]:
    from rsretrieval.reports.wandb_file import config

    return config(file)


LOG_READERS.register("wandb")(LogReader("run-*.wandb", _read_wandb, _settings_of_wandb))


def _read_tensorboard(file: Path) -> Log:
    events = needs("tensorboard.backend.event_processing.event_accumulator", "report")
    accumulator = events.EventAccumulator(str(file), size_guidance={events.SCALARS: 0})
    accumulator.Reload()
    return {name: {one.step: one.value for one in accumulator.Scalars(name)} for name in accumulator.Tags()["scalars"]}


LOG_READERS.register("tensorboard")(LogReader("events.out.tfevents.*", _read_tensorboard, _hyperparameters))


def settings_of_log(folder: Path) -> Mapping[str, Any]:
    """The configuration that a run's logs hold, flat, of the first session that has one."""
    kind, files = sessions(folder)
    return next((found for file in files if (found := LOG_READERS[kind].settings(file))), {})


def latest(log: Log, prefix: str) -> dict[str, float]:
    """The last value of every figure whose name begins so, without that beginning."""
    return {
        name.removeprefix(prefix): [*values.values()][-1] for name, values in log.items() if name.startswith(prefix)
    }
