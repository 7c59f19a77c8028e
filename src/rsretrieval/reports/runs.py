"""A run as it lies in its folder: what was set, what was logged, and how each query went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rsretrieval.data.captions import clean
from rsretrieval.metrics.functional import hit_probability
from rsretrieval.records.logs import LOG_READERS, Log, ReportError, latest, read_log, settings_of_log
from rsretrieval.records.queries import KEY, account_of, query_file
from rsretrieval.settings import flat

SPLITS = ("test", "val")
"""By preference, where runs are compared query by query."""
CONFIG = "config.yaml"
LOGGERS = ("lightning_logs", "wandb")
"""Folders of loggers in a run's, by their defaults."""
MOST_WORDS = 30
"""Of a caption, by which queries of two models are told to be the same."""
DEPTH = 3
"""Levels of folders below one that is no run, in which runs are looked for."""


class Queries(NamedTuple):
    """How the queries of a split went.

    Attributes:
        about: ``split``, protocol (``queries``), ranks (``ks``) and ``of``, which model it was.
        keys: ``way``, ``file`` and ``caption`` of each, cleaned, since some models see captions as they are written.
        scenes: of each, or None.
        hits: figure to ``(Q,)``, the probability that a query of its way succeeds.
        images: figure to ``(Q,)``, number of each query's image in the order of the files' names.
        rows: figure to the rows of ``keys`` that are its queries.
    """

    about: Mapping[str, Any]
    keys: list[tuple[str, str, str | None]]
    scenes: list[str | None]
    hits: dict[str, Tensor]
    images: dict[str, Tensor]
    rows: dict[str, list[int]]

    @property
    def recall(self) -> dict[str, float]:
        """The figures in percent."""
        means = {name: 100 * float(hits.mean()) for name, hits in self.hits.items()}
        return {**means, "mR": sum(means.values()) / len(means)}


def read_queries(file: Path) -> Queries:
    """What :func:`rsretrieval.training.query_records.write_queries` wrote.

    Raises:
        ReportError: if the file is another one.
    """
    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ReportError(f"'{file}' cannot be read ({error}): remove it, or evaluate the run again") from error
    about = account_of(table.schema.metadata)
    if about is None:
        raise ReportError(f"'{file}' holds no queries of a run: it has no '{KEY.decode()}' in its metadata")
    columns = table.to_pydict()
    order = sorted(range(len(table)), key=lambda row: (columns["way"][row], columns["file"][row]))
    columns = {name: [values[row] for row in order] for name, values in columns.items()}
    names = {name: number for number, name in enumerate(sorted(set(columns["file"])))}
    above, tied, own = (torch.tensor(columns[name]) for name in ("above", "tied", "own"))
    hits, images, rows = {}, {}, {}
    for way in ("i2t", "t2i"):
        of_way = [row for row, value in enumerate(columns["way"]) if value == way]
        for k in about["ks"]:
            name = f"{way}_R@{k}"
            hits[name] = hit_probability(above[of_way], tied[of_way], own[of_way], k, "expected")
            images[name] = torch.tensor([names[columns["file"][row]] for row in of_way])
            rows[name] = of_way
    texts = [caption and clean(caption, MOST_WORDS) for caption in columns["caption"]]
    keys = list(zip(columns["way"], columns["file"], texts, strict=True))
    return Queries(about, keys, columns["scene"], hits, images, rows)


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        folder: of the run.
        settings: its configuration, flat; empty where none was kept.
        log: its figures.
    """

    folder: Path
    settings: Mapping[str, Any]
    log: Log

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.resolve().name

    @cached_property
    def queries(self) -> dict[str, Queries]:
        """By split, as far as it was evaluated."""
        files = {split: query_file(self.folder, split) for split in SPLITS}
        return {split: read_queries(file) for split, file in files.items() if file.is_file()}

    @property
    def has_figures(self) -> bool:
        """Whether anything was evaluated."""
        return any(f"{name}/mR" in self.log for name in ("val", "validate", "test"))

    def evaluated(self) -> dict[str, dict[str, float]]:
        """Title to figures of what was evaluated: the last and the best epoch, ``validate``, ``test``."""
        rows = {"validation, last epoch": latest(self.log, "val/")}
        if "val/mR" in self.log:
            best = max(self.log["val/mR"], key=lambda step: self.log["val/mR"][step])
            at_best = {name: values.get(best) for name, values in self.log.items() if name.startswith("val/")}
            rows["validation, best epoch"] = {k.removeprefix("val/"): v for k, v in at_best.items() if v is not None}
        rows["validate"] = latest(self.log, "validate/")
        rows["validate, corrected for hubs"] = latest(self.log, "validate_hubness_corrected/")
        rows["test"] = latest(self.log, "test/")
        rows["test, corrected for hubs"] = latest(self.log, "test_hubness_corrected/")
        return {title: figures for title, figures in rows.items() if "mR" in figures}


def read_run(folder: Path) -> Run:
    """Read a run; one without a log has no figures.

    Raises:
        ReportError: if it has neither a log nor a configuration.
    """
    import yaml

    file, log = folder / CONFIG, read_log(folder)
    if not file.is_file() and not log:
        patterns = [reader.pattern for reader in LOG_READERS.values()]
        raise ReportError(
            f"'{folder}' has no log: none of {patterns} lies below it. Give the folder of a run "
            "(--trainer.default_root_dir), or a folder of such folders"
        )
    if not file.is_file():
        return Run(folder, settings_of_log(folder), log)
    try:
        settings = flat(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (yaml.YAMLError, ValueError, AttributeError) as error:
        raise ReportError(f"'{file}' cannot be read as a run's settings ({error}): remove it or its folder") from error
    return Run(folder, settings, log)


def find_runs(places: Iterable[Path]) -> list[Path]:
    """The folders of runs that are given, or that lie below what is given.

    Raises:
        ReportError: if there is no such folder.
    """
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            raise ReportError(f"'{place}' is no folder: give the folder of a run (--trainer.default_root_dir)")
        found += [place] if _is_run(place) else _below(place, DEPTH) or [place]
    return list(dict.fromkeys(found))


def _is_run(folder: Path) -> bool:
    """Whether a command has written here: its configuration, its queries, or a logger's folder."""
    if (folder / CONFIG).is_file() or any(query_file(folder, split).is_file() for split in SPLITS):
        return True
    return any((folder / name).is_dir() for name in LOGGERS) or any(
        next(folder.glob(reader.pattern), None) for reader in LOG_READERS.values()
    )


def _below(folder: Path, depth: int) -> list[Path]:
    """Folders of runs below one, in alphabetical order."""
    runs = []
    for child in sorted(path for path in folder.iterdir() if path.is_dir() and depth):
        runs += [child] if _is_run(child) else _below(child, depth - 1)
    return runs
