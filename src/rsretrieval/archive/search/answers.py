"""From rows of an archive to answers, and to a note about what is missing among them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rsretrieval.archive.search.filters import Selection
from rsretrieval.archive.search.results import Answer


def answers_of(
    information: pa.Table, groups: Sequence[Sequence[int]], scores: NDArray[np.floating], z: NDArray[np.float64]
) -> tuple[Answer, ...]:
    """Answers in order.

    Args:
        information: of all rows.
        groups: numbers of rows, each an answer's and then those of its near-duplicates.
        scores: ``(n,)`` of the answers, not a number where there is no query.
        z: ``(n,)``, not a number where it is not known.
    """
    numbers = [row for group in groups for row in group]
    rows = dict(zip(numbers, information.take(pa.array(numbers, pa.int64())).to_pylist(), strict=True))
    answers = []
    for rank, (group, score, own_z) in enumerate(zip(groups, scores, z, strict=True), 1):
        row = rows[group[0]]
        box = row.get("bbox")
        place = None if box is None else (box["xmin"], box["ymin"], box["xmax"], box["ymax"])
        known, known_z = (None if np.isnan(value) else float(value) for value in (score, own_z))
        folded = tuple(rows[number]["id"] for number in group[1:])
        where = (tuple(row["pixel_bbox"]), place, row.get("geometry"), row["datetime"])
        answers.append(Answer(rank, row["id"], row["source"], known, known_z, *where, folded))
    return tuple(answers)


def note(total: int, selection: Selection, groups: int, answers: int, k: int, min_z: float | None) -> str:
    """Why there are fewer answers than were wanted; empty if there are not.

    Args:
        total: rows of the archive.
        selection: those that may answer.
        groups: answers before any was left out for its z.
        answers: after that.
        k: answers that were wanted.
        min_z: that answers are left out by.
    """
    possible = total if selection.rows is None else len(selection.rows)
    parts = []
    if not possible:
        parts.append(f"no row of the archive's {total} is {selection.words}: there is no answer")
    elif possible < k:
        which = f"rows {selection.words}" if selection.words else "rows in the archive"
        parts.append(f"fewer than {k} {which}: all {possible} are looked at")
    if possible and groups < min(k, possible):
        parts.append(f"all of them are near-duplicates of {groups}")
    if answers < groups:
        parts.append(f"left out for a z below {min_z:g}: {groups - answers} of {groups}")
    return "; ".join(parts)
