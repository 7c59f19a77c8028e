"""Pictures of a sweep: its trials as lines over the parameters, and what each parameter is worth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from rsretrieval.sweeps.definition import Sweep
from rsretrieval.sweeps.parameters import Parameter
from rsretrieval.sweeps.results import Result, shown

if TYPE_CHECKING:
    from optuna import Study

PARALLEL, IMPORTANCE = "parallel.png", "importance.png"
LEAST_TRIALS = 4
"""Finished trials below which nothing is said of what a parameter is worth."""
AXIS, HEIGHT, TOP, LEFT = 190, 420, 70, 90  # pixels
WORST, BEST = (190, 200, 215), (200, 40, 30)


def positions(parameter: Parameter, rows: Sequence[Result]) -> list[float]:
    """Where each trial lies on the parameter's axis, from 0 (bottom) to 1.

    Choices are evenly spaced in the order of the sweep's file; a range goes from end to end, by its logarithm where it
    is drawn so.
    """
    import json

    values = [row.settings[parameter.name] for row in rows]
    if parameter.choices:
        places = [parameter.choices.index(json.dumps(value)) for value in values]
        return [place / max(1, len(parameter.choices) - 1) for place in places]
    return [_share(value, parameter.low, parameter.high, parameter.is_log) for value in values]


def _share(value: float, low: float, high: float, is_log: bool = False) -> float:
    if is_log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return 0.5 if high == low else min(1.0, max(0.0, (value - low) / (high - low)))


def draw_parallel(rows: Sequence[Result], sweep: Sweep) -> Image.Image:
    """Parallel coordinates: an axis for each parameter that varies and, last, the metric; a line for each trial.

    Args:
        rows: trials; those without a figure are left out.
        sweep: what was varied.
    """
    rows = [row for row in rows if row.value is not None and row.settings][::-1]  # the best on top
    varied = [parameter for parameter in sweep.parameters if len(parameter.choices) != 1]
    values = [float(row.value or 0.0) for row in rows]
    low, high = min(values, default=0.0), max(values, default=1.0)
    goal = [_share(value, low, high) for value in values]
    columns = [*(positions(parameter, rows) for parameter in varied), goal]
    canvas = Image.new("RGB", (LEFT + AXIS * len(varied) + 2 * LEFT, HEIGHT + TOP + 40), "white")
    draw = ImageDraw.Draw(canvas)
    for number in range(len(rows)):
        rank = number / max(1, len(rows) - 1)
        colour = tuple(round(worst + rank * (best - worst)) for worst, best in zip(WORST, BEST, strict=True))
        points = [(LEFT + AXIS * axis, _y(column[number])) for axis, column in enumerate(columns)]
        draw.line(points, colour, 2)
    for axis, parameter in enumerate(varied):
        _axis(draw, axis, parameter.name, _ticks(parameter))
    _axis(draw, len(varied), sweep.metric, {0.0: f"{low:.2f}", 1.0: f"{high:.2f}"})
    return canvas


def _y(share: float) -> float:
    return TOP + HEIGHT * (1 - share)


def _ticks(parameter: Parameter) -> dict[float, str]:
    """Places on an axis, and what is written there."""
    if not parameter.choices:
        return {0.0: f"{parameter.low:.4g}", 1.0: f"{parameter.high:.4g}"}
    last = max(1, len(parameter.choices) - 1)
    return {place / last: shown(parameter.value(choice)) for place, choice in enumerate(parameter.choices)}


def _axis(draw: ImageDraw.ImageDraw, number: int, name: str, ticks: Mapping[float, str]) -> None:
    x, font = LEFT + AXIS * number, ImageFont.load_default(12)
    draw.line([(x, TOP), (x, TOP + HEIGHT)], "black", 1)
    *group, last = name.split(".")
    draw.text((x, TOP - 36), f"{'.'.join(group)[-26:]}\n{last}", "black", font, anchor="ma", align="center")
    for share, text in ticks.items():
        draw.line([(x - 4, _y(share)), (x, _y(share))], "black", 1)
        draw.text((x + 5, _y(share)), text if len(text) <= 26 else f"…{text[-25:]}", "#333333", font, anchor="lm")


def importances(study: Study, sweep: Sweep) -> dict[str, float]:
    """Share of what the parameters explain of the metric (PED-ANOVA, Watanabe et al., IJCAI 2023), largest first.

    Returns:
        Nothing where fewer than :data:`LEAST_TRIALS` trials are finished, or nothing varies.
    """
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    finished = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    varied = [
        parameter.name
        for parameter in sweep.parameters
        if len({str(trial.params[parameter.name]) for trial in finished}) > 1
    ]
    if len(finished) < LEAST_TRIALS or not varied or len({trial.value for trial in finished}) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is an experiment of Optuna's
        found: dict[str, Any] = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), params=varied)
    return {name: float(share) for name, share in found.items()}


def draw_importances(shares: Mapping[str, float]) -> Image.Image:
    """A bar for each parameter."""
    font, bar, name_width, full = ImageFont.load_default(13), 26, 330, 300  # pixels
    canvas = Image.new("RGB", (name_width + full + 80, bar * len(shares) + 30), "white")
    draw = ImageDraw.Draw(canvas)
    largest = max(shares.values(), default=0.0) or 1.0
    for number, (name, share) in enumerate(shares.items()):
        y = 15 + bar * number
        length = full * share / largest
        draw.text((name_width - 8, y + bar / 2), name[-46:], "black", font, anchor="rm")
        draw.rectangle([(name_width, y + 4), (name_width + length, y + bar - 4)], BEST)
        draw.text((name_width + length + 6, y + bar / 2), f"{share:.2f}", "black", font, anchor="lm")
    return canvas
