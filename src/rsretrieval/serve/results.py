"""The answer to a search: rows from a rank on, how sure it is, and what to say where there is little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rsretrieval.archive.search.filters import Selection
from rsretrieval.archive.search.query import Query, query_of_vector
from rsretrieval.serve.schema import Answers, Item, Search
from rsretrieval.serve.settings import MOST_RANKED
from rsretrieval.serve.snapshot import Ranked, Snapshot, in_order

SURE = 2.0
"""z of the best answer below which nothing here matches."""
NEAREST = 8


class Part(NamedTuple):
    """Answers from a rank on.

    Attributes:
        found: the answers.
        next: rank of the first after them; None if there is none.
        best_z: of the best of all answers; None if it is not known.
        total: rows that may answer.
    """

    found: Ranked
    next: int | None
    best_z: float | None
    total: int


def part_of(now: Snapshot, query: Query | None, asked: Search) -> Part:
    """The answers that a search asks for.

    Raises:
        ArchiveError: if the box is none, or z is asked for and not known.
    """
    selection = now.selection(asked)
    total = len(now) if selection.rows is None else len(selection.rows)
    first, last = asked.offset, asked.offset + asked.k
    if query is None:
        rows = np.arange(first, min(last, total)) if selection.rows is None else selection.rows[first:last]
        return Part(in_order(rows), last if last < total else None, None, total)
    reach = min(total, MOST_RANKED)
    if not reach:
        return Part(in_order(np.zeros(0, np.int64)), None, None, total)
    needs_z = asked.min_z is not None
    ranked = now.ranked(query, selection, reach if needs_z else min(last, reach), first, needs_z=needs_z)
    best_z = None if np.isnan(ranked.z[0]) else float(ranked.z[0])
    places = np.arange(first, len(ranked.rows))
    if asked.min_z is not None:
        places = places[ranked.z[first:] >= asked.min_z]
    chosen = places[: asked.k].tolist()
    further = len(places) > asked.k if needs_z else last < reach
    return Part(ranked[chosen], chosen[-1] + 1 if chosen and further else None, best_z, total)


def chosen(now: Snapshot, query: Query | None, keys: Sequence[str]) -> Ranked:
    """Rows by their keys: as a query ranks them, or without one in the order of the keys.

    Raises:
        UnknownKeyError: if one is of no row.
    """
    rows = np.array([now.row(key) for key in keys], np.int64)
    return in_order(rows) if query is None else now.ranked(query, Selection(np.unique(rows)), len(rows))


def answered(now: Snapshot, query: Query | None, asked: Search) -> Answers:
    """The same as the API tells it."""
    part = part_of(now, query, asked)
    return Answers(
        results=now.items(part.found), total=part.total, next=part.next, best_z=part.best_z,
        nothing_matches=part.best_z is not None and part.best_z < SURE, message=_message(now, query, asked, part),
    )  # fmt: skip


def _message(now: Snapshot, query: Query | None, asked: Search, part: Part) -> str | None:
    """What to say of an answer that may surprise."""
    if not len(now):
        return "The archive has no rows: embed images into it, and index it."
    if not part.total:
        return "No row lies within the filters: widen the box or the dates, or choose another scene."
    if query is None and (asked.against or asked.unlike):
        return "What is not wanted can only be taken from something: say what is looked for, too."
    if query is None:
        return None
    if not len(part.found.rows) and asked.min_z is not None and asked.offset == 0:
        return f"No answer has a z of {asked.min_z:g} or more: lower it, or look for something else."
    if part.best_z is not None and part.best_z < SURE:
        return (
            f"Nothing here matches: the best answer is no better than chance (z {part.best_z:.1f}, and {SURE:g} would "
            "be a match)."
        )
    if part.next is None and part.total > MOST_RANKED and asked.offset + asked.k >= MOST_RANKED:
        return f"The first {MOST_RANKED:,} of {part.total:,} rows are ranked: narrow the search for others."
    return None


def neighbours(now: Snapshot, row: int, count: int) -> list[Item]:
    """The rows that are most like a row, without itself."""
    query = query_of_vector(now.vector(row), now.width)
    found = now.ranked(query, Selection(), min(len(now), count + 1))
    others = [place for place, other in enumerate(found.rows) if other != row]
    return now.items(found[others[:count]])
