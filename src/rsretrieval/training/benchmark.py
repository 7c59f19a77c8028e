"""Several models on several data sets: each figure as ``rsretrieval test`` gives it, computed once and kept."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from lightning import Trainer

from rsretrieval import __version__
from rsretrieval.data.checks import check_choice
from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.datasets.base import MissingSplitError, Source
from rsretrieval.data.datasets.registry import source_and_path
from rsretrieval.metrics import recall_ceiling
from rsretrieval.metrics.protocol import QUERIES
from rsretrieval.models.catalogue import entry_of, seen_in_training
from rsretrieval.models.feature_cache import fingerprint
from rsretrieval.models.pretrained import find_model
from rsretrieval.settings import plain
from rsretrieval.training.benchmark_table import RESULTS, Cell, read_cells, write_cells
from rsretrieval.training.callbacks import ValueGuidedLearning
from rsretrieval.training.module import RetrievalModule

log = logging.getLogger(__name__)
STAGES = {"valid": "val", "test": "test"}
"""Split to what its figures are logged under."""


@dataclass(frozen=True)
class Evaluation:
    """How every model is evaluated.

    Attributes:
        splits: of each data set, ``valid`` and ``test``.
        queries: ``every`` caption or each ``distinct`` one, see :class:`rsretrieval.data.RetrievalDataModule`.
        eval_batch_size: images that are embedded at once.
        num_workers: processes that load images.
        max_broken: fraction of a split's rows that may be left out because they are broken.
        accelerator: of Lightning's Trainer.

    Raises:
        ValueError: for no split, or another one; for an unknown protocol.
    """

    splits: tuple[str, ...] = ("test",)
    queries: str = "every"
    eval_batch_size: int = 64
    num_workers: int = 2
    max_broken: float = 0.01
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "splits", tuple(dict.fromkeys(self.splits)))
        if unknown := sorted(set(self.splits) - set(STAGES)):
            raise ValueError(f"--splits {' '.join(unknown)}: models are compared on {' and '.join(STAGES)}")
        check_choice(QUERIES, queries=self.queries)
        if not self.splits:
            raise ValueError(f"--splits names none: give some of {list(STAGES)}")


class _Model(NamedTuple):
    """A model, the settings of the data that belong to it, and a name for its tensors and settings."""

    name: str
    module: RetrievalModule
    data: dict[str, Any]
    digest: str


def benchmark(models: Sequence[str], data: Sequence[str], to: Path, how: Evaluation) -> list[Cell]:
    """Evaluate every model on every split of every data set that is there.

    What cannot be evaluated is named with the reason, and the others go on. The folder is written after each figure; a
    figure that is in it already, of the same model, data and settings, is not computed again.

    Args:
        models: names, see :func:`rsretrieval.models.pretrained.find_model`.
        data: names of data sets, ``OWNER/NAME`` on the hub, or ``SOURCE:PATH``.
        to: the folder of the table.
        how: they are evaluated.

    Returns:
        A cell for each model, data set and split.

    Raises:
        ValueError: if the folder's JSON is no such table.
    """
    known = read_cells(to / RESULTS)
    cells: list[Cell] = []
    unreachable: dict[tuple[str, str], str] = {}
    for name in dict.fromkeys(models):
        for cell in _of_model(name, list(dict.fromkeys(data)), how, known, unreachable):
            cells.append(cell)
            write_cells(cells, known, to)
            _say(cell)
    return cells


def _say(cell: Cell) -> None:
    where = f"{cell.model} on {cell.data}, {cell.split}"
    if cell.figures:
        log.info("%s: mR %.2f%s", where, cell.figures["mR"], " (computed before)" if cell.computed_before else "")
    else:
        log.warning("%s: %s", where, cell.reason)


def _of_model(
    name: str, data: Sequence[str], how: Evaluation, known: Sequence[Cell], unreachable: dict[tuple[str, str], str]
) -> Iterator[Cell]:
    """The cells of a model; ``unreachable`` remembers the data sets and splits that are, and why."""
    model, reason = None, ""
    try:
        model = _load(name)
    except Exception as error:  # whatever it is, the other models go on
        reason = f"the model cannot be loaded: {_in_a_line(error)}"
    for spec in data:
        for split in how.splits:
            cell = Cell(name, spec, split, how.queries, reason=reason or unreachable.get((spec, split), ""))
            if model is not None and not cell.reason:
                cell = _evaluated(cell, model, how, known)
                if cell.data_unreachable:
                    unreachable[spec, split] = cell.reason
            yield cell


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]


def _load(name: str) -> _Model:
    source = find_model(name)
    module = RetrievalModule(pretrained=name)
    settings = (plain(source.encoder), source.image_size, source.max_words)
    digest = fingerprint(module.model.state_dict(), *settings)
    return _Model(name, module, source.settings()["data"], digest)


def _evaluated(cell: Cell, model: _Model, how: Evaluation, known: Sequence[Cell]) -> Cell:
    """The cell with its figures, or the reason why there are none."""
    source_name, path = source_and_path(cell.data)
    settings: dict[str, Any] = {
        "eval_batch_size": how.eval_batch_size,
        "num_workers": how.num_workers,
        "max_broken": how.max_broken,
        "queries": how.queries,
    }
    try:
        part = RetrievalDataModule(source_name, path, **settings, **model.data)
        part.source.prepare()
        content = _content(part.source, cell.split)
    except MissingSplitError:
        return replace(cell, reason="no such split", is_missing_split=True)
    except Exception as error:  # of data that cannot be reached; the other sets go on
        return replace(cell, reason=f"the data cannot be read: {_in_a_line(error)}", data_unreachable=True)
    options = (cell.split, how.queries, how.max_broken, __version__)
    identity = blake2b(repr((model.digest, content, options)).encode(), digest_size=16).hexdigest()
    cell = replace(
        cell,
        identity=identity,
        seen=seen_in_training(model.module.trained_on, f"{source_name} {path}") or "",
        published=_published(model.name, source_name, path) if cell.split == "test" else None,
    )
    for earlier in known:
        if earlier.identity == identity and earlier.figures:
            own = {name: getattr(cell, name) for name in ("model", "data", "seen", "published")}
            return replace(earlier, **own, reason="", computed_before=True)
    try:
        return _measured(cell, model.module, part, how)
    except Exception as error:  # of this model on these data; the others go on
        return replace(cell, reason=_in_a_line(error))


def _content(source: Source, split: str) -> str:
    """What changes when a split does: its revision, its files' times, its names and captions."""
    digest = blake2b(repr((source.revision, source.fingerprint())).encode(errors="surrogateescape"), digest_size=16)
    for record in source.records(split):
        digest.update(repr(record).encode(errors="surrogateescape"))
    return digest.hexdigest()


def _published(model: str, source_name: str, path: str) -> float | None:
    """The mean recall that a model's authors publish for a data set; None as far as the catalogue knows."""
    entry = entry_of(model)
    figures: Mapping[str, float] = entry.figures if entry is not None else {}
    words = [source_name.lower(), *re.findall(r"[a-z0-9]+", path.lower())]
    return next((figures[word] for word in words if word in figures), None)


def _measured(cell: Cell, module: RetrievalModule, data: RetrievalDataModule, how: Evaluation) -> Cell:
    """The cell with figures by Lightning's ``validate`` or ``test``."""
    trainer = Trainer(
        accelerator=how.accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[ValueGuidedLearning()],
    )
    evaluate = trainer.validate if cell.split == "valid" else trainer.test
    evaluate(module, datamodule=data, verbose=False)
    stage = f"{STAGES[cell.split]}/"
    logged = {key.removeprefix(stage): float(value) for key, value in trainer.callback_metrics.items()}
    split = module.recall.merged()
    ceiling = recall_ceiling(owners=split.owners, text_ids=split.caption_rows, queries=cell.queries)
    module.recall.reset()
    return replace(
        cell,
        figures={name: logged[name] for name in ceiling},
        ceiling=ceiling["mR"],
        images=len(split.image),
        captions=len(split.owners),
        coverage=module.coverage.note() if module.coverage else "",
    )


def describe(cells: Sequence[Cell]) -> str:
    """What could not be evaluated, in words; nothing where all was.

    A split that a data set does not have counts only where it has none of those that were asked for.
    """
    there = {cell.data for cell in cells if not cell.is_missing_split}
    failed = [cell for cell in cells if not cell.figures and (cell.data not in there or not cell.is_missing_split)]
    if not failed:
        return ""
    places = json.dumps([f"{cell.model} on {cell.data}, {cell.split}" for cell in failed[:5]])
    return f"{len(failed)} of {len(cells)} evaluations have no figures, such as {places}: the table says why"
