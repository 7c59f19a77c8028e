"""The report over some runs."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean, median
from typing import TYPE_CHECKING

import torch

from rsretrieval import __version__
from rsretrieval.files import write_whole
from rsretrieval.metrics.bootstrap import SAMPLES
from rsretrieval.records.logs import SEED, ReportError
from rsretrieval.registry import meant
from rsretrieval.reports.document import Document
from rsretrieval.reports.groups import Group, difference, group_runs, mean_and_deviation, mismatch, with_queries
from rsretrieval.reports.pictures import draw_curves, draw_scenes
from rsretrieval.reports.runs import SPLITS, Run, find_runs, read_run
from rsretrieval.training.scene_figures import mean_by_label

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURES = (*(f"{way}_R@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)), "mR")
LONGEST = 60
"""Letters of a setting's value in a table."""


def write_report(places: Sequence[Path], to: Path, baseline: str | None = None) -> list[Path]:
    """Compare runs.

    Args:
        places: folders of runs, or folders that hold some.
        to: folder of ``report.md``, ``report.html`` and their pictures.
        baseline: name of the group, or of the folder of one of its runs, that others are compared with; the first.

    Returns:
        The files of the report.

    Raises:
        ReportError: if there is no run, or no such baseline.
    """
    runs = [read_run(folder) for folder in find_runs(places)]
    empty = [run for run in runs if not run.has_figures]
    runs = [run for run in runs if run.has_figures]
    if not runs:
        raise ReportError(
            f"none of {[str(run.folder) for run in empty]} has a figure: none was validated or tested yet"
        )
    groups = group_runs(runs)
    first = _baseline(groups, baseline)
    document = Document("Runs side by side" if len(groups) > 1 else f"Runs of {groups[0].name}")
    document.text(f"Written by rsretrieval {__version__}.")
    _list_runs(document, groups, empty)
    _figures(document, groups)
    _differences(document, groups, first)
    document.heading("Curves")
    document.picture(_save(to / "curves.png", draw_curves(groups)), "training loss by step, validation mR by epoch")
    _scenes(document, groups, to)
    _worst(document, groups, to)
    _costs(document, groups)
    return document.write(to, "report")


def _save(file: Path, figure: Figure) -> Path:
    write_whole(file, lambda partial: figure.savefig(partial, format="png"))
    return file


def _baseline(groups: Sequence[Group], name: str | None) -> Group:
    if name is None:
        return groups[0]
    for group in groups:
        if name == group.name or any(name in (run.name, str(run.folder)) for run in group.runs):
            return group
    known = [group.name for group in groups]
    raise ReportError(f"there is no group or run '{name}' to compare with{meant(name, known)}; there are {known}")


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"


def _list_runs(document: Document, groups: Sequence[Group], empty: Sequence[Run]) -> None:
    document.heading("Runs")
    document.text("Runs that differ in their seed alone are one group.")
    rows = [
        [group.name, str(run.folder), _short(run.settings.get(SEED)), str(len(run.log.get("val/mR", {})))]
        for group in groups
        for run in group.runs
    ]
    document.table(["group", "folder", "seed", "epochs"], rows)
    if empty:
        document.text(f"Left out, since nothing was evaluated: {', '.join(str(run.folder) for run in empty)}.")
    if differing := list(groups[0].differs):
        rows = [[name, *(_short(group.differs[name]) for group in groups)] for name in differing]
        document.table(["setting", *(group.name for group in groups)], rows)


def _figures(document: Document, groups: Sequence[Group]) -> None:
    document.heading("Figures")
    document.text("Recall in percent; mean over the runs of a group ± standard deviation of the sample.")
    rows = []
    for group in groups:
        evaluated = [run.evaluated() for run in group.runs]
        for title in dict.fromkeys(title for one in evaluated for title in one):
            found = [one[title] for one in evaluated if title in one]
            cells = [mean_and_deviation([one[name] for one in found]) if name in found[0] else "" for name in FIGURES]
            rows.append([f"{group.name}: {title}", str(len(found)), *cells])
    document.table(["", "runs", *FIGURES], rows)


def _differences(document: Document, groups: Sequence[Group], first: Group) -> None:
    if len(groups) < 2:
        return
    document.heading("Differences")
    split, compared = with_queries(groups)
    if without := [group.name for group in groups if group not in compared]:
        document.text(
            f"Not every run of {', '.join(without)} has kept its queries of the {_title(split)} "
            f"(queries-{split}.parquet in its folder, which `fit`, `validate` and `test` write at their end)."
        )
    if first not in compared or len(compared) < 2:
        document.text(f"So nothing is compared query by query with {first.name}.")
        return
    document.text(
        f"mR on the {_title(split)} against {first.name}, query by query: a paired bootstrap over images, each with "
        f"all its captions ({SAMPLES:,} samples, 95 %). Runs of a group are averaged first: the interval is about "
        f"queries, the deviation above about seeds. {first.name} is of {_models(first, split)}."
    )
    rows = []
    for group in compared:
        found = difference(first, group, split) if group is not first else None
        if isinstance(found, str):
            rows.append([group.name, found, "", "", _models(group, split)])
        elif found is not None:
            interval = f"{found.low:+.2f} to {found.high:+.2f}"
            rows.append([group.name, f"{found.mean:+.2f}", interval, f"{found.p:.4f}", _models(group, split)])
    document.table(["group", "difference in mR", "interval", "p, two-sided", "of"], rows)


def _models(group: Group, split: str) -> str:
    return ", ".join(dict.fromkeys(str(run.queries[split].about["of"]) for run in group.runs))


def _title(split: str) -> str:
    return {"val": "validation split", "test": "test split"}[split]


def _scenes(document: Document, groups: Sequence[Group], to: Path) -> None:
    document.heading("Recall by scene")
    split, compared = with_queries(groups)
    compared = [group for group in compared if not any(None in run.queries[split].scenes for run in group.runs)]
    if without := [group.name for group in groups if group not in compared]:
        document.text(
            f"Not every run of {', '.join(without)} has kept queries of the {_title(split)} with scene labels."
        )
    if not compared:
        return
    base = compared[0].runs[0].queries[split]
    alike = [g for g in compared if not any(mismatch(base, run.queries[split]) for run in g.runs)]
    if apart := [group.name for group in compared if group not in alike]:
        document.text(f"{', '.join(apart)}: of other queries than {compared[0].name}, and left out.")
    found = {group.name: [scene_recall(run, split) for run in group.runs] for group in alike}
    common = set.intersection(*(set(one) for runs in found.values() for one in runs))
    scenes = {scene: [mean(one[scene] for one in runs) for runs in found.values()] for scene in common}
    scenes = dict(sorted(scenes.items(), key=lambda item: (item[1][0], item[0])))
    document.text(f"mR of the queries of each scene against the whole {_title(split)}, the lowest first.")
    document.picture(_save(to / "scenes.png", draw_scenes(scenes, list(found))), "mR by scene")
    rows = [[scene, *(f"{value:.2f}" for value in values)] for scene, values in scenes.items()]
    document.table(["scene", *found], rows)


def scene_recall(run: Run, split: str) -> dict[str, float]:
    """Mean recall of each scene's queries, in percent; of scenes that have queries of both ways.

    Args:
        run: has kept queries of the split, all with a scene.
        split: ``val`` or ``test``.
    """
    queries = run.queries[split]
    names = sorted({scene for scene in queries.scenes if scene is not None})
    numbers = {scene: number for number, scene in enumerate(names)}
    figures = []
    for name, hits in queries.hits.items():
        labels = torch.tensor([numbers[str(queries.scenes[row])] for row in queries.rows[name]])
        figures.append(100 * mean_by_label(hits, labels, len(names)))
    means = torch.stack(figures).mean(0).tolist()
    return {scene: value for scene, value in zip(names, means, strict=True) if not math.isnan(value)}


def _worst(document: Document, groups: Sequence[Group], to: Path) -> None:
    document.heading("Worst queries")
    document.text(
        "Queries whose own result comes last, with its place, and what came first; of the first run of a group."
    )
    for number, group in enumerate(groups):
        run = group.runs[0]
        pictures = [run.folder / f"worst-{split}.png" for split in SPLITS]
        picture = next((file for file in pictures if file.is_file()), None)
        if picture is None:
            document.text(f"{group.name}: '{run.folder}' has none ({' or '.join(file.name for file in pictures)}).")
            continue
        copied = to / f"worst-{number}.png"
        write_whole(copied, lambda partial, source=picture: shutil.copyfile(source, partial))  # type: ignore[misc]
        split = picture.stem.removeprefix("worst-")
        document.picture(copied, f"{group.name}, {run.folder.name}, {_title(split)}")


def _costs(document: Document, groups: Sequence[Group]) -> None:
    document.heading("Time and memory")
    document.text("Of a run, on average. Memory is the most of the first process, without its loader's workers.")

    def cell(group: Group, name: str, of: Callable[[Sequence[float]], float], form: str) -> str:
        values = [of(list(run.log[name].values())) for run in group.runs if run.log.get(name)]
        return format(mean(values), form) if values else "not logged"

    rows = [
        [
            group.name, cell(group, "time/epoch", lambda one: sum(one) / 60, ".1f"),
            cell(group, "speed/pairs_per_second", median, ".1f"), cell(group, "memory/peak_GB", max, ".2f"),
            cell(group, "memory/gpu_peak_GB", max, ".2f"),
        ]
        for group in groups
    ]  # fmt: skip
    header = ["group", "training, minutes", "pairs a second (median)", "memory, GB", "of the GPU, GB"]
    document.table(header, rows)
