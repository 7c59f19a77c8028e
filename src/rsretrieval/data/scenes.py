"""Scene labels: from a JSON file, a column, the file name's prefix, a vote over the captions' words; else its own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log
from pathlib import PurePath

from rsretrieval.data.datasets.base import Record

_PREFIX = re.compile(r"([A-Za-z]+(?:[_ ][A-Za-z]+)*)[_ -]?\d+$")


def scene_names(
    records: Sequence[Record], captions: Sequence[Sequence[str]], by_file: Mapping[str, str] | None = None
) -> list[str]:
    """A scene class for every record.

    What has no column, file entry or prefix takes the class whose labelled captions its words fit best (multinomial
    naive Bayes, add-one smoothing); where nothing is labelled, an image is a class of its own.

    Args:
        records: the rows of a split.
        captions: the cleaned captions of each row.
        by_file: file name, with or without its folders, to class.
    """
    labels = [_label(record, by_file or {}) for record in records]
    words = [[word for caption in texts for word in caption.split()] for texts in captions]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, of_row in zip(labels, words, strict=True):
        if label is not None:
            counts[label].update(of_row)
    vocabulary = len(set().union(*counts.values())) if counts else 0
    totals = {label: sum(of_label.values()) for label, of_label in counts.items()}

    def likelihood(label: str, of_row: Sequence[str]) -> float:
        return sum(log((counts[label][word] + 1) / (totals[label] + vocabulary)) for word in of_row)

    def vote(record: Record, of_row: Sequence[str]) -> str:
        return max(counts, key=lambda label: likelihood(label, of_row)) if counts else f"image {record.filename}"

    return [label or vote(record, of_row) for record, label, of_row in zip(records, labels, words, strict=True)]


def _label(record: Record, by_file: Mapping[str, str]) -> str | None:
    """The class that a file, a column or the file name's prefix says."""
    path = PurePath(record.filename)
    prefix = _PREFIX.match(path.stem)
    listed = by_file.get(record.filename, by_file.get(path.name))
    return listed or record.scene or (prefix[1].lower() if prefix else None)
