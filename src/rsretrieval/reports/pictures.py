"""Pictures of a report: learning curves, and recall by scene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rsretrieval.lazy import needs
from rsretrieval.records.logs import by_epoch
from rsretrieval.reports.groups import Group

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCENE_HEIGHT = 0.22
"""Of a scene's line, in inches."""


def _figure(width: float, height: float) -> Figure:
    figure: Figure = needs("matplotlib.figure", "report").Figure((width, height), layout="constrained", dpi=110)
    return figure


def draw_curves(groups: Sequence[Group]) -> Figure:
    """Training loss by step, and validation mR by epoch: a line the mean over seeds, a band from lowest to highest.

    A dotted line in a group's colour is where one of its stages begins.
    """
    figure = _figure(10, 3.6)
    left, right = figure.subplots(1, 2)
    for number, group in enumerate(groups):
        colour = f"C{number % 10}"
        _line(left, [run.log.get("train/loss", {}) for run in group.runs], group.name, colour)
        _line(right, [by_epoch(run.log, "val/mR") for run in group.runs], group.name, colour, marker=".")
        for epoch in _stages(group)[1:]:
            right.axvline(epoch, color=colour, linestyle=":", linewidth=1)
    left.set(xlabel="step", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation mR, %")
    right.xaxis.get_major_locator().set_params(integer=True)
    if len(groups) > 1:
        right.legend(fontsize="small")
    return figure


def _line(axes: Any, series: Sequence[dict[int, float]], name: str, colour: str, **options: str) -> None:  # noqa: ANN401
    places = sorted(set().union(*series))
    values = [[one[place] for one in series if place in one] for place in places]
    axes.plot(places, [sum(here) / len(here) for here in values], label=name, color=colour, linewidth=1.2, **options)
    if len(series) > 1:
        axes.fill_between(places, list(map(min, values)), list(map(max, values)), color=colour, alpha=0.2, linewidth=0)


def _stages(group: Group) -> list[int]:
    """Epochs in which a stage begins, of the group's first run."""
    stages = by_epoch(group.runs[0].log, "stage")
    return [epoch for epoch, stage in stages.items() if stages.get(epoch - 1) != stage]


def draw_scenes(scenes: dict[str, list[float]], names: Sequence[str]) -> Figure:
    """A line for each scene, a dot for each group's mR.

    Args:
        scenes: name to mR of each group, in the order in which they are drawn from the top.
        names: of the groups.
    """
    figure = _figure(8, 1.2 + SCENE_HEIGHT * len(scenes))
    axes = figure.subplots()
    places = range(len(scenes))[::-1]
    for number, name in enumerate(names):
        axes.plot(
            [row[number] for row in scenes.values()], places, "o", color=f"C{number % 10}", label=name, markersize=4
        )
    axes.set_yticks(list(places), list(scenes), fontsize="small")
    axes.set(xlabel="mR of the scene's queries, %", ylim=(-1, len(scenes)))
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend(fontsize="small")
    return figure
