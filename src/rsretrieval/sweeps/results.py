"""What came of a sweep: a table of its trials, as CSV and for the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.files import write_csv
from rsretrieval.sweeps.definition import Sweep
from rsretrieval.sweeps.study import INTERRUPTED

if TYPE_CHECKING:
    from optuna import Study

CSV = "trials.csv"
STATES = {"COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed", "RUNNING": "running"}


@dataclass(frozen=True)
class Result:
    """A trial.

    Attributes:
        folder: its name in the sweep's.
        state: ``finished``, ``stopped`` (by ``early_terminate``), ``failed``, ``interrupted`` or ``running``.
        value: its best figure; None where there is none.
        epoch: of the best figure.
        seconds: that it took.
        settings: that it tried, by name.
        reason: why it failed.
    """

    folder: str
    state: str
    value: float | None
    epoch: int | None
    seconds: float | None
    settings: dict[str, Any]
    reason: str


def results(study: Study, sweep: Sweep) -> list[Result]:
    """The trials that have begun, the best first, those without a figure last."""
    rows = []
    for trial in study.trials:
        if trial.state.name not in STATES:
            continue
        attributes = trial.user_attrs
        reason = attributes.get("reason", "")
        state = INTERRUPTED if reason == INTERRUPTED else STATES[trial.state.name]
        value = {"finished": trial.value, "stopped": attributes.get("best")}.get(state)
        complete = all(parameter.name in trial.params for parameter in sweep.parameters)
        settings = sweep.settings(trial.params) if complete else {}
        name = attributes.get("folder", f"trial-{trial.number:04d}")
        rows.append(Result(name, state, value, attributes.get("epoch"), attributes.get("seconds"), settings, reason))
    sign = -1 if sweep.maximize else 1
    return sorted(rows, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.folder))


def shown(value: object) -> str:
    """A setting in short: as JSON, texts bare."""
    return value if isinstance(value, str) else json.dumps(value)


def write_table(rows: Sequence[Result], sweep: Sweep, folder: Path) -> None:
    """Write :data:`CSV` into the sweep's folder, whole or not at all."""
    names = [parameter.name for parameter in sweep.parameters]
    header = ["trial", "state", sweep.metric, "epoch", "seconds", *names, "reason"]
    table = [
        [
            row.folder, row.state, *("" if one is None else one for one in (row.value, row.epoch, row.seconds)),
            *(json.dumps(row.settings[name]) if name in row.settings else "" for name in names), row.reason,
        ]
        for row in rows
    ]  # fmt: skip
    write_csv(folder / CSV, [header, *table])


def table(rows: Sequence[Result], sweep: Sweep, most: int = 20) -> str:
    """For the terminal: the best trials with what was varied, and how many there are of each state."""
    varied = [parameter.name for parameter in sweep.parameters if len(parameter.choices) != 1]
    lines = [["trial", "state", sweep.metric, "epoch", *(name.rpartition(".")[2] for name in varied)]]
    for row in rows[:most]:
        value = "" if row.value is None else f"{row.value:.2f}"
        settings = [_short(row.settings[name]) if name in row.settings else "" for name in varied]
        lines.append([row.folder, row.state, value, "" if row.epoch is None else str(row.epoch), *settings])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    counts = {state: sum(row.state == state for row in rows) for state in (*STATES.values(), INTERRUPTED)}
    text.append(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "no trial has begun")
    return "\n".join(text)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = shown(value)
    return text if len(text) <= 40 else f"…{text[-39:]}"  # long values differ at their ends
