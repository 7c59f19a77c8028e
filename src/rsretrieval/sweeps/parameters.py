"""The parameters of a sweep: what each may be, as W&B's sweep files say it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

KEYS = {
    "constant": ("value",),
    "categorical": ("values",),
    "int_uniform": ("min", "max"),
    "uniform": ("min", "max"),
    "q_uniform": ("min", "max", "q"),
    "log_uniform": ("min", "max"),
    "log_uniform_values": ("min", "max"),
    "q_log_uniform_values": ("min", "max", "q"),
}
"""Distributions of W&B's that are known here, and the keys that each needs."""


class SweepError(ValueError):
    """A sweep's file that cannot be run as it is."""


@dataclass(frozen=True)
class Parameter:
    """One setting of ``rsretrieval fit``, and what it may be.

    Attributes:
        name: with dots, such as ``model.optimizer.learning_rate``.
        choices: the values to choose from, each as JSON, so that 1, 1.0 and true differ; empty for a range.
        low: of a range.
        high: of a range, which includes it.
        is_integer: whether a range is of whole numbers.
        is_log: whether a range is uniform in the logarithm.
        step: that the values of a range are multiples of; None for any. A whole number keeps values whole.
    """

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    is_integer: bool = False
    is_log: bool = False
    step: float | None = None

    def distribution(self) -> BaseDistribution:
        """For Optuna."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices:
            return CategoricalDistribution(self.choices)
        if self.is_integer:
            return IntDistribution(int(self.low), int(self.high))
        return FloatDistribution(self.low, self.high, log=self.is_log)

    def value(self, drawn: Any) -> Any:  # noqa: ANN401 - any setting
        """What the setting is, for what Optuna drew.

        Example:
            >>> Parameter("batch_size", low=16, high=64, step=16).value(39.5), Parameter("x", ("null",)).value("null")
            (32, None)
        """
        if self.choices:
            return json.loads(drawn)
        if self.is_integer or self.step is None:
            return drawn
        rounded = round(drawn / self.step) * self.step
        return rounded if isinstance(self.step, int) else float(f"{rounded:.12g}")

    def grid(self) -> list[Any]:
        """All that Optuna may draw.

        Raises:
            SweepError: for a range of real numbers.
        """
        if self.choices:
            return list(self.choices)
        if self.is_integer:
            return list(range(int(self.low), int(self.high) + 1))
        raise SweepError(
            f"the parameter '{self.name}' is a range of real numbers, which a grid cannot go through: give `values` "
            "or method: random"
        )


def read_parameters(parameters: object, group: str = "") -> Iterator[Parameter]:
    """The parameters of a sweep's file; nested ones by names with dots.

    Raises:
        SweepError: naming the parameter and what is wrong with it.
    """
    if not isinstance(parameters, Mapping) or not parameters:
        raise SweepError(
            f"`parameters` of {group or 'the sweep'} is {parameters!r}: give settings by name, and their values"
        )
    for key, settings in parameters.items():
        name = f"{group}{key}"
        if not isinstance(settings, Mapping):
            raise SweepError(
                f"the parameter '{name}' is {settings!r}: give `value: …`, `values: […]` or `min` and `max`"
            )
        if "parameters" in settings:
            yield from read_parameters(settings["parameters"], f"{name}.")
        else:
            yield _parameter(name, dict(settings))


def _parameter(name: str, settings: dict[str, Any]) -> Parameter:
    kind = settings.pop("distribution", None) or _kind(settings)
    if kind not in KEYS:
        raise SweepError(f"the parameter '{name}' has the distribution {kind!r}; possible here are {sorted(KEYS)}")
    missing = [key for key in KEYS[kind] if key not in settings and key != "q"]
    unknown = [key for key in settings if key not in KEYS[kind]]
    if missing or unknown:
        near = [match for key in unknown for match in get_close_matches(str(key), KEYS[kind], 1)]
        meant = f" (meant is perhaps {near})" if near else ""
        raise SweepError(
            f"the parameter '{name}' has the keys {sorted(map(str, settings))}{meant}: {kind} needs {list(KEYS[kind])}"
        )
    if kind in ("constant", "categorical"):
        return Parameter(name, _choices(name, [settings["value"]] if kind == "constant" else settings["values"]))
    return _range(name, kind, settings)


def _kind(settings: Mapping[str, Any]) -> str:
    """The distribution where none is named, by W&B's rules."""
    if "value" in settings:
        return "constant"
    if "values" in settings:
        return "categorical"
    ends = settings.get("min"), settings.get("max")
    return "int_uniform" if all(isinstance(end, int) for end in ends) else "uniform"


def _choices(name: str, values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise SweepError(f"the parameter '{name}' has the values {values!r}: give a list of one or more")
    try:
        return tuple(dict.fromkeys(json.dumps(value, allow_nan=False) for value in values))
    except (TypeError, ValueError) as error:
        raise SweepError(f"the parameter '{name}' has a value that is none of JSON's ({error}): {values!r}") from error


def _range(name: str, kind: str, settings: Mapping[str, Any]) -> Parameter:
    step = settings.get("q", 1) if kind.startswith("q_") else None
    for key, value in (("min", settings["min"]), ("max", settings["max"]), ("q", 1 if step is None else step)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            hint = f": in YAML {value!r} is a text, write 1.0e-5 for 1e-5" if isinstance(value, str) else ""
            raise SweepError(f"the parameter '{name}' has {key}={value!r}, which is no finite number{hint}")
    low, high = settings["min"], settings["max"]
    if kind == "int_uniform" and not (isinstance(low, int) and isinstance(high, int)):
        raise SweepError(f"the parameter '{name}' has min={low} and max={high}: an int_uniform needs whole numbers")
    if kind == "log_uniform":
        low, high = math.exp(low), math.exp(high)  # W&B's: the ends are exponents
    if high < low or (step is not None and step <= 0) or ("log" in kind and low <= 0):
        raise SweepError(
            f"the parameter '{name}' has min={low}, max={high}" + (f", q={step}" if step is not None else "")
            + ": max must not be below min, q above 0, and a range of logarithms lies above 0"
        )  # fmt: skip
    return Parameter(name, (), low, high, kind == "int_uniform", "log" in kind, step)


def combinations(parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of a grid, as Optuna draws it; the last parameter runs fastest."""
    for drawn in itertools.product(*(parameter.grid() for parameter in parameters)):
        yield {parameter.name: one for parameter, one in zip(parameters, drawn, strict=True)}
