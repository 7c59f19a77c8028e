"""A sweep's file, as ``wandb sweep`` takes it: what is varied, by which method, and the command of a trial."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from rsretrieval.registry import meant
from rsretrieval.sweeps.parameters import Parameter, SweepError, combinations, read_parameters

METHODS = ("bayes", "grid", "random")
KEYS = (
    "program", "command", "method", "metric", "parameters", "early_terminate", "name", "description", "project",
    "entity", "run_cap",
)  # fmt: skip
"""Keys of a sweep's file; ``project`` and ``entity`` are W&B's alone."""
FIGURES = ("val/mR", *(f"val/{way}_R@{rank}" for way in ("i2t", "t2i") for rank in (1, 5, 10)))
"""What ``rsretrieval fit`` logs of a validation."""
_VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]+)\}")
_ARGUMENTS = {"${args}", "${args_no_equals}"}


@dataclass(frozen=True)
class Halving:
    """W&B's ``hyperband``: trials that are worse than the best 1/eta are stopped at some numbers of validations.

    Attributes:
        first: validations after which trials are compared for the first time.
        eta: the next times are after ``first * eta``, ``first * eta**2``, …
    """

    first: int
    eta: int = 3


@dataclass(frozen=True)
class Sweep:
    """What a sweep's file says.

    Attributes:
        method: ``grid``, ``random`` or ``bayes``.
        metric: a figure of validation.
        maximize: whether more of it is better.
        parameters: what is varied, and constants.
        arguments: of ``rsretrieval fit`` before those of a trial.
        halving: when bad trials are stopped; None for never.
        run_cap: trials in all; None where the file does not say.
    """

    method: str
    metric: str
    maximize: bool
    parameters: tuple[Parameter, ...]
    arguments: tuple[str, ...]
    halving: Halving | None
    run_cap: int | None

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a trial, typed, for what Optuna drew."""
        return {parameter.name: parameter.value(drawn[parameter.name]) for parameter in self.parameters}

    def options(self, settings: Mapping[str, Any]) -> list[str]:
        """The arguments of ``rsretrieval fit`` for a trial's settings."""
        return [*self.arguments, *(f"--{name}={json.dumps(value)}" for name, value in settings.items())]


def read_sweep(file: Path, text: str) -> Sweep:
    """A sweep's file, checked as far as it can be without the configuration that it varies.

    Args:
        file: for messages.
        text: its content.

    Raises:
        SweepError: naming the file, what is wrong in it and what is possible.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SweepError(f"'{file}' is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise SweepError(f"'{file}' is no sweep: it holds a {type(content).__name__}, not `method`, `parameters`, …")
    try:
        return _sweep(content)
    except SweepError as error:
        raise SweepError(f"'{file}': {error}") from error


def _sweep(content: Mapping[str, Any]) -> Sweep:
    for key in content:
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, 1)
            raise SweepError(
                f"the key '{key}' is unknown{f', meant is perhaps {near[0]!r}' if near else ''}; known are {KEYS}"
            )
    method = content.get("method")
    if method not in METHODS:
        raise SweepError(f"method={method!r} is unknown; possible are {list(METHODS)}")
    metric = content.get("metric")
    if not isinstance(metric, Mapping) or not isinstance(metric.get("name"), str):
        raise SweepError(f"metric={metric!r}: give what is to be optimised, as in {{name: val/mR, goal: maximize}}")
    if metric.get("goal") not in ("maximize", "minimize"):
        raise SweepError(
            f"the metric's goal={metric.get('goal')!r}: give maximize or minimize (without, W&B would minimize)"
        )
    parameters = tuple(read_parameters(content.get("parameters")))
    cap = content.get("run_cap")
    if cap is not None and (not isinstance(cap, int) or cap < 1):
        raise SweepError(f"run_cap={cap!r}: give a number of trials, 1 or more")
    if method == "grid":
        next(combinations(parameters))  # refuses ranges
    return Sweep(
        method, metric["name"], metric["goal"] == "maximize", parameters, _arguments(content.get("command")),
        _halving(content.get("early_terminate")), cap,
    )  # fmt: skip


def check_figure(metric: str) -> None:
    """Refuse a metric that ``fit`` with the package's own module never logs.

    Raises:
        SweepError: with the near names.
    """
    if metric not in FIGURES:
        raise SweepError(f"the metric '{metric}' never comes{meant(metric, FIGURES)}; validation has {list(FIGURES)}")


def _halving(settings: object) -> Halving | None:
    if settings is None:
        return None
    if not isinstance(settings, Mapping) or settings.get("type") != "hyperband":
        raise SweepError(f"early_terminate={settings!r}: possible is {{type: hyperband, min_iter: 3, eta: 3}}")
    allowed = ("type", "min_iter", "max_iter", "s", "eta", "strict")
    eta = settings.get("eta", 3)
    first: Any = settings.get("min_iter")
    numbers = [eta, first] if first is not None else [eta, settings.get("max_iter"), settings.get("s")]
    if set(settings) - set(allowed) or not all(isinstance(value, int) and value > 0 for value in numbers) or eta < 2:
        raise SweepError(
            f"early_terminate={dict(settings)}: give min_iter, or max_iter and s, as whole numbers from 1, eta from 2: "
            f"keys are {list(allowed)}"
        )
    if first is None:
        first = max(1, settings["max_iter"] // eta ** settings["s"])
    return Halving(first, eta)


def _arguments(command: object) -> tuple[str, ...]:
    """The arguments of ``rsretrieval fit`` in a sweep's command, without the place of the trial's own."""
    shape = "[${env}, ${interpreter}, -m, rsretrieval, fit, -c, CONFIGURATION, ${args}]"
    if not isinstance(command, Sequence) or isinstance(command, str):
        raise SweepError(f"command={command!r}: give the command of a trial as a list, {shape}")
    words = [str(word) for word in command]
    before = [number for number, word in enumerate(words[1:], 1) if word == "fit" and _is_program(words[number - 1])]
    if not before:
        raise SweepError(f"command={words} does not run `rsretrieval fit`: give {shape}")
    arguments = [_substituted(word) for word in words[before[0] + 1 :]]
    if not set(arguments) & _ARGUMENTS:
        raise SweepError(f"command={words} has no place for a trial's settings: it ends by ${{args}}, {shape}")
    arguments = [word for word in arguments if word not in _ARGUMENTS]
    if macros := [word for word in arguments if word.startswith("${")]:
        raise SweepError(
            f"command={words}: {macros} cannot be read by `fit`, whose settings are --NAME=VALUE: use ${{args}}"
        )
    return tuple(arguments)


def _is_program(word: str) -> bool:
    return Path(word).name == "rsretrieval"


def _substituted(word: str) -> str:
    """With variables of the environment in place, as ``wandb agent`` does it, but that all have to be there."""
    for name in _VARIABLE.findall(word):
        if name not in os.environ:
            raise SweepError(f"the command takes {name} from the environment, where it is not: export {name}=…")
    return _VARIABLE.sub(lambda match: os.environ[match[1]], word)
