"""Scene labels: from a JSON file, a column, the file name's prefix, a vote over the captions' words; else its own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log
from pathlib import PurePath

from rsretrieval.data.captions import clean
from rsretrieval.data.rows import Record

_PREFIX = re.compile(r"([A-Za-z]+(?:[_ ][A-Za-z]+)*)[_ -]?\d+$")


def scene_names(records: Sequence[Record], by_file: Mapping[str, str] | None = None) -> list[str]:
    """A scene class for every record.

    What has no column, file entry or prefix takes the class whose labelled captions its words fit best (multinomial
    naive Bayes, add-one smoothing); where nothing is labelled, an image is a class of its own.

    Args:
        records: the rows of a split.
        by_file: file name, with or without its folders, to class.
    """
    by_file = by_file or {}

    def known(record: Record) -> str | None:
        path = PurePath(record.filename)
        prefix = _PREFIX.match(path.stem)
        named = by_file.get(record.filename, by_file.get(path.name))
        return named or record.scene or (prefix[1].lower() if prefix else None)

    labels = [known(record) for record in records]
    words: dict[str, Counter[str]] = defaultdict(Counter)
    for record, label in zip(records, labels, strict=True):
        if label is not None:
            words[label].update(_words(record))
    vocabulary = len(set().union(*words.values())) if words else 0
    totals = {label: sum(counts.values()) for label, counts in words.items()}

    def vote(record: Record) -> str:
        if not words:
            return f"image {record.filename}"
        text = _words(record)
        return max(
            words, key=lambda label: sum(log((words[label][w] + 1) / (totals[label] + vocabulary)) for w in text)
        )

    return [label or vote(record) for record, label in zip(records, labels, strict=True)]


def _words(record: Record) -> list[str]:
    return [word for caption in record.captions if isinstance(caption, str) for word in clean(caption).split()]
