"""Rows of one image belong together: equal file names are one image, whose captions are those of all its rows."""

from __future__ import annotations

from collections.abc import Sequence

from rsretrieval.data.datasets.base import DataError, Record


def first_rows(names: Sequence[str]) -> list[int]:
    """For each row, the first row of the same image.

    Example:
        >>> first_rows(["a.png", "b.png", "a.png"])
        [0, 1, 0]
    """
    first: dict[str, int] = {}
    return [first.setdefault(name, row) for row, name in enumerate(names)]


def merge(records: Sequence[Record], where: str) -> tuple[list[Record], frozenset[int]]:
    """All captions of an image in its first row, and none in its others.

    Args:
        records: the rows of a split.
        where: which, for messages.

    Returns:
        As many records, and the rows whose captions went to an earlier row.

    Raises:
        DataError: if rows of one name have different scenes, or only some have values.
    """
    firsts = first_rows([record.filename for record in records])
    others = frozenset(row for row, first in enumerate(firsts) if row != first)
    merged = list(records)
    rows_of: dict[int, list[int]] = {}
    for row in sorted(others):
        rows_of.setdefault(firsts[row], [firsts[row]]).append(row)
        merged[row] = records[row]._replace(captions=(), values=records[row].values and ())
    for first, rows in rows_of.items():
        merged[first] = _one([records[row] for row in rows], f"{where}, rows {rows[:5]}")
    return merged, others


def _one(records: Sequence[Record], where: str) -> Record:
    """The record of an image that has several rows."""
    name = records[0].filename
    scenes = {record.scene: None for record in records if record.scene is not None}
    if len(scenes) > 1:
        raise DataError(
            f"{where}, are all named '{name}' and have different scenes ({list(scenes)}): give each image a name of "
            "its own, such as its path with the folder, and all rows of one image the same scene"
        )
    described = [record for record in records if record.captions]
    with_values = [record.values for record in described if record.values is not None]
    if with_values and len(with_values) != len(described):
        raise DataError(f"{where}, of '{name}': some have values of captions and some have none: give all of them")
    return Record(
        name,
        tuple(caption for record in records for caption in record.captions),
        next(iter(scenes), None),
        tuple(value for values in with_values for value in values) if with_values else records[0].values,
    )
