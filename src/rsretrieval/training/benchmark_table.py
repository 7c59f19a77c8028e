"""The table of a benchmark: as JSON, which a later run reads again, as CSV and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from rsretrieval.files import write_csv, write_text
from rsretrieval.settings import SettingsError, build

RESULTS, CSV, MARKDOWN = "benchmark.json", "benchmark.csv", "benchmark.md"
FIGURES = ("i2t_R@1", "i2t_R@5", "i2t_R@10", "t2i_R@1", "t2i_R@5", "t2i_R@10", "mR")
NOTES = """
Figures in percent. Protocol `every`: each caption a query, right for its own image; `distinct`: each distinct caption
once, right for all images that have it. Captions are compared as the model sees them: cleaned, or as written for a
pre-trained pair. Ceiling: the mR of a perfect encoder, which captions that repeat over images set. Published: the mR
that a model's authors state, not measured here; their protocol may differ.
"""


@dataclass(frozen=True)
class Cell:
    """One model on one split of one data set.

    Attributes:
        model: its name.
        data: the data set's name, as it was given.
        split: ``valid`` or ``test``.
        queries: the protocol.
        figures: by name, in percent; none where it could not be evaluated.
        ceiling: mean recall of a perfect encoder, in percent.
        images: that were evaluated.
        captions: of them.
        coverage: what part of the split that is; empty for all of it.
        seen: the data set whose training split the model saw, as far as the catalogue knows; empty for none.
        published: mean recall that the model's authors state.
        reason: why there are no figures.
        identity: of model, data and settings.
        is_missing_split: the data set has no such split.
        data_unreachable: the data set cannot be read at all.
        computed_before: the figures are those of an earlier run.
    """

    model: str
    data: str
    split: str
    queries: str
    figures: dict[str, float] = field(default_factory=dict)
    ceiling: float | None = None
    images: int = 0
    captions: int = 0
    coverage: str = ""
    seen: str = ""
    published: float | None = None
    reason: str = ""
    identity: str = ""
    is_missing_split: bool = False
    data_unreachable: bool = False
    computed_before: bool = False

    @property
    def place(self) -> tuple[str, str, str, str]:
        """In the table."""
        return self.data, self.split, self.queries, self.model

    @property
    def note(self) -> str:
        """What to know of its figures, or why there are none."""
        seen = f"trained on the training split of {self.seen}: not zero-shot" if self.seen else ""
        return "; ".join(filter(None, (self.reason, self.coverage, seen)))


def read_cells(file: Path) -> list[Cell]:
    """The cells with figures of an earlier run; none where there is no such file.

    Raises:
        ValueError: if it is no such table.
    """
    if not file.is_file():
        return []
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        cells = [build(Cell, cell, f"'{file}'") for cell in content["cells"]]
    except (ValueError, KeyError, TypeError, SettingsError) as error:
        raise ValueError(f"'{file}' is no table of `rsretrieval benchmark` ({error}): give another folder") from error
    return [cell for cell in cells if cell.figures]


def together(cells: Sequence[Cell], known: Sequence[Cell]) -> list[Cell]:
    """The cells of this run and of earlier ones, ordered by data set and split.

    Where this run has no figures and an earlier one has, those stay, and the note says so.
    """
    of_place = {cell.place: cell for cell in known}
    for cell in cells:
        earlier = of_place.get(cell.place)
        if cell.figures or earlier is None:
            of_place[cell.place] = cell
        else:
            reason = f"figures of an earlier run; now {cell.reason}"
            of_place[cell.place] = replace(earlier, reason=reason, computed_before=True)
    sets = list(dict.fromkeys(cell.place[:3] for cell in of_place.values()))
    return sorted(of_place.values(), key=lambda cell: sets.index(cell.place[:3]))


def write_cells(cells: Sequence[Cell], known: Sequence[Cell], folder: Path) -> None:
    """Write the three forms of the table.

    Args:
        cells: of this run.
        known: of earlier ones.
        folder: is made.
    """
    table = together(cells, known)
    content = json.dumps({"cells": [asdict(cell) for cell in table]}, indent=1) + "\n"
    write_text(folder / RESULTS, content)
    write_csv(folder / CSV, [HEADER, *(_row(cell, 4) for cell in table)])
    write_text(folder / MARKDOWN, markdown(table) + NOTES)


def _number(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _row(cell: Cell, digits: int) -> list[str]:
    figures = [_number(cell.figures.get(name), digits) for name in FIGURES]
    others = [_number(cell.published, digits), _number(cell.ceiling, digits), cell.queries, str(cell.images or "")]
    return [cell.data, cell.split, cell.model, *figures, *others, cell.note]


HEADER = ("data", "split", "model", *FIGURES, "published mR", "ceiling mR", "protocol", "images", "note")


def markdown(table: Sequence[Cell]) -> str:
    """The table as Markdown, its columns aligned, and its notes below it, each once.

    Example:
        >>> print(markdown([Cell("clip", "ucm", "test", "every", reason="no such split")]).splitlines()[-1])
        1. no such split
    """
    notes = list(dict.fromkeys(cell.note for cell in table if cell.note))
    marks = [str(notes.index(cell.note) + 1) if cell.note else "" for cell in table]
    rows = [list(HEADER), *([*_row(cell, 2)[:-1], mark] for cell, mark in zip(table, marks, strict=True))]
    rows = [[text.replace("|", "\\|") for text in row] for row in rows]
    widths = [max(3, *(len(row[column]) for row in rows)) for column in range(len(HEADER))]
    numbers = [name in FIGURES or name.endswith("mR") for name in HEADER]
    rule = ["-" * (width - 1) + ":" if right else "-" * width for width, right in zip(widths, numbers, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = zip(row, widths, numbers, strict=True)
        return f"| {' | '.join(text.rjust(width) if right else text.ljust(width) for text, width, right in cells)} |"

    numbered = [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return "\n".join([line(rows[0]), line(rule), *map(line, rows[1:]), *([""] if notes else []), *numbered]) + "\n"
