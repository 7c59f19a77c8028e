"""What a run has logged, whichever logger kept it: CSV, W&B offline, TensorBoard."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rsretrieval.lazy import needs
from rsretrieval.registry import Registry

_logger = logging.getLogger(__name__)
Log = dict[str, dict[int, float]]
"""Name of a figure to its value at each step."""


SEED = "seed_everything"
"""A setting that every whole configuration has."""
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


def sessions(folder: Path) -> dict[str, list[Path]]:
    """Kind of log to its files below a run's folder, in the order in which they were begun; none of kinds without."""
    found = {kind: sorted(folder.rglob(reader.pattern), key=_begun) for kind, reader in LOG_READERS.items()}
    return {kind: files for kind, files in found.items() if files}


def _begun(file: Path) -> tuple[list[int], float]:
    """By numbers in the names that loggers give, since copies have other times: version, date, time stamp."""
    named = next((part for part in file.parts[-2::-1] if re.match(r"version_\d|(offline-)?run-\d", part)), "")
    stamp = re.findall(r"tfevents\.(\d+)", file.name)
    return [*map(int, re.findall(r"\d+", named)[:2]), *map(int, stamp)], file.stat().st_mtime


def read_log(folder: Path) -> Log:
    """The figures of a run, of all its sessions and loggers.

    A session that trains replaces everything from its first step on: one that went on after an interruption what had
    been trained beyond its checkpoint, a new training in the same folder all of the earlier one; what was tested before
    it is of another model, and left out. Figures of a validation split from a session that does not train are kept
    as ``validate/…``. Of several loggers the one that saw the newest training is read; others add what was evaluated
    after it.
    """
    kinds = {kind: [(file, LOG_READERS[kind].read(file)) for file in files] for kind, files in sessions(folder).items()}
    newest = {
        kind: max((file.stat().st_mtime for file, session in read if _trained(session)), default=0.0)
        for kind, read in kinds.items()
    }
    since = max(newest.values(), default=0.0)
    log: Log = {}
    for kind in sorted(kinds, key=lambda kind: newest[kind], reverse=True):
        read = kinds[kind] if not log else [(f, s) for f, s in kinds[kind] if f.stat().st_mtime >= since]
        joined = _joined([session for _, session in read])
        log |= {name: values for name, values in joined.items() if not log or name.startswith(EVALUATED)}
    return log


def _trained(session: Log) -> list[int]:
    """The steps of a session that trained."""
    return [step for name, values in session.items() if not name.startswith(NOT_OF_TRAINING) for step in values]


def _joined(sessions: Sequence[Log]) -> Log:
    log: Log = {}
    for session in sessions:
        if steps := _trained(session):
            first = min(steps)
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
            try:
                step = int(float(row.pop("step", "")))
                values = {name: float(value) for name, value in row.items() if name and value}
            except (TypeError, ValueError):  # cut off, by a kill
                _logger.warning("'%s' has a row that is no numbers, and is read without it: %s", file, row)
                continue
            for name, value in values.items():
                log.setdefault(name, {})[step] = value
    return log


LOG_READERS.register("csv")(LogReader("metrics.csv", _read_csv, _hyperparameters))


def _read_wandb(file: Path) -> Log:
    from rsretrieval.records.wandb_file import history

    log: Log = {}
    for row in history(file):
        step = row.pop("trainer/global_step", None)
        for name, value in row.items() if isinstance(step, int | float) else ():
            if isinstance(value, int | float) and math.isfinite(value):
                log.setdefault(name, {})[int(step)] = float(value)
    return log


def _settings_of_wandb(file: Path) -> Mapping[str, Any]:
    from rsretrieval.records.wandb_file import config

    return config(file)


LOG_READERS.register("wandb")(LogReader("run-*.wandb", _read_wandb, _settings_of_wandb))


def _read_tensorboard(file: Path) -> Log:
    events = needs("tensorboard.backend.event_processing.event_accumulator", "report")
    accumulator = events.EventAccumulator(str(file), size_guidance={events.SCALARS: 0})
    accumulator.Reload()
    names = [name for name in accumulator.Tags()["scalars"] if name != "hp_metric"]  # Lightning's mark, of no figure
    return {name: {one.step: one.value for one in accumulator.Scalars(name)} for name in names}


LOG_READERS.register("tensorboard")(LogReader("events.out.tfevents.*", _read_tensorboard, _hyperparameters))


def settings_of_log(folder: Path) -> Mapping[str, Any]:
    """The configuration that a run's logs hold, flat, of the last session that has a whole one, or else a part."""
    read = [LOG_READERS[kind].settings(file) for kind, files in sessions(folder).items() for file in files]
    return max(read[::-1], key=lambda settings: (SEED in settings, bool(settings)), default={})


def latest(log: Log, prefix: str) -> dict[str, float]:
    """The last value of every figure whose name begins so, without that beginning."""
    return {
        name.removeprefix(prefix): [*values.values()][-1] for name, values in log.items() if name.startswith(prefix)
    }
