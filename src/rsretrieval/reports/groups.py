"""Runs that differ in their seed alone are one thing, trained several times."""

from __future__ import annotations

import itertools
import json
import re
import statistics
import string
from collections.abc import Sequence
from typing import Any, NamedTuple

from rsretrieval.metrics.bootstrap import Difference, paired_bootstrap
from rsretrieval.records.logs import SEED
from rsretrieval.reports.runs import SPLITS, Queries, Run

ASIDE = (
    SEED, "ckpt_path", "config", "trainer.default_root_dir", "trainer.logger",
    "trainer.enable_progress_bar", "checkpoint.dirpath", "last.dirpath", "resume.dirpath", "report.", "tracking.",
    "run.",
)  # fmt: skip
"""Settings, or beginnings of their names, that make no difference to a training."""

OF_SWEEPS = "rsretrieval.training.callbacks.trial."


class Group(NamedTuple):
    """Runs of the same settings but for the seed.

    Attributes:
        name: of the folder, or what the folders' names have in common; a letter where that tells groups not apart.
        runs: of it.
        differs: settings in which groups differ, with this one's values.
    """

    name: str
    runs: tuple[Run, ...]
    differs: dict[str, Any]

    @property
    def seeds(self) -> list[Any]:
        """Of its runs."""
        return [run.settings.get(SEED) for run in self.runs]


def group_runs(runs: Sequence[Run]) -> list[Group]:
    """Groups in the order of their first runs; a run of which no whole configuration was kept is alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        key = json.dumps(_telling(run), sort_keys=True, default=str) if SEED in run.settings else str(run.folder)
        groups.setdefault(key, []).append(run)
    members = list(groups.values())
    settings = [_telling(group[0]) for group in members]
    every = dict.fromkeys(name for one in settings for name in one)
    differing = [name for name in every if len({json.dumps(one.get(name), default=str) for one in settings}) > 1]
    names = _names(members)
    return [
        Group(name, tuple(group), {setting: one.get(setting) for setting in differing})
        for name, group, one in zip(names, members, settings, strict=True)
    ]


def _telling(run: Run) -> dict[str, Any]:
    """The settings that make a difference; a sweep's own callback, which holds a number of a process, is none."""
    settings = {name: value for name, value in run.settings.items() if not name.startswith(ASIDE)}
    callbacks = settings.get("trainer.callbacks")
    if isinstance(callbacks, list):
        kept = [one for one in callbacks if not str(one.get("class_path", "")).startswith(OF_SWEEPS)]
        settings["trainer.callbacks"] = kept or None
    return settings


def _names(groups: Sequence[Sequence[Run]]) -> list[str]:
    names = [_common_name([run.name for run in group]) for group in groups]
    if len(set(names)) == len(names) and all(names):
        return names
    letters = [*string.ascii_uppercase, *(a + b for a in string.ascii_uppercase for b in string.ascii_uppercase)]
    return letters[: len(groups)]


def _common_name(names: Sequence[str]) -> str:
    """How all begin, without the number in which they differ.

    Example:
        >>> _common_name(["rsicd2-10", "rsicd2-11"]), _common_name(["rsicd2-0"])
        ('rsicd2', 'rsicd2-0')
    """
    if len(names) == 1:
        return names[0]
    alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    return re.sub(r"\d+$", "", "".join(letters[0] for letters in alike)).rstrip("-_. ")


def mean_and_deviation(values: Sequence[float]) -> str:
    """As ``20.17 ± 0.11``, with the sample's standard deviation; of a single value no deviation.

    Example:
        >>> mean_and_deviation([20.0, 21.0])
        '20.50 ± 0.71'
    """
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def with_queries(groups: Sequence[Group]) -> tuple[str, list[Group]]:
    """The split of which most groups have kept their queries in all runs, and these groups; of equals the test one."""
    has = {split: [g for g in groups if all(split in run.queries for run in g.runs)] for split in SPLITS}
    split = max(SPLITS, key=lambda name: len(has[name]))
    return split, has[split]


def mismatch(one: Queries, other: Queries) -> str | None:
    """Why two runs' queries cannot be compared one by one; None if they can."""
    if (other.about["queries"], other.about["ks"]) != (one.about["queries"], one.about["ks"]):
        told = [f"{about['queries']} at {about['ks']}" for about in (one.about, other.about)]
        return f"other protocols: {told[0]}, and {told[1]}"
    if other.keys != one.keys:
        first = next((pair for pair in itertools.zip_longest(one.keys, other.keys) if pair[0] != pair[1]), None)
        return f"other queries: {len(one.keys)} and {len(other.keys)}, first apart in {first}"
    return None


def difference(first: Group, second: Group, split: str) -> Difference | str:
    """How much the second group is above the first in mR; or why that cannot be said."""
    trained = [run.queries[split] for group in (first, second) for run in group.runs]
    reason = next((reason for other in trained[1:] if (reason := mismatch(trained[0], other))), None)
    if reason is not None:
        return reason
    hits = [[run.queries[split].hits for run in group.runs] for group in (first, second)]
    return paired_bootstrap(hits[0], hits[1], trained[0].images)
