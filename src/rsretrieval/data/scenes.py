"""Scene labels: from a JSON file, a column, the file name's prefix, a vote over the captions' words; else its own."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path, PurePath

from rsretrieval.data.datasets.base import DataError, Record
from rsretrieval.data.datasets.text_files import read_text
from rsretrieval.data.datasets.values import Place, record

logger = logging.getLogger(__name__)
_PREFIX = re.compile(r"([A-Za-z]+(?:[_ ][A-Za-z]+)*)[_ -]?\d+$")
_SET = re.compile(r"^(?:rsicd|rsitmd|ucm)_", re.IGNORECASE)  # before the authors' own name, in RET-3's archives
_ROW = re.compile(r"row \d+")  # the name of an image that has none


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
    labels = stated_scenes(records, by_file)
    words = [[word for caption in texts for word in caption.split()] for texts in captions]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, of_row in zip(labels, words, strict=True):
        if label is not None:
            counts[label].update(of_row)
    vocabulary = max(len(set().union(*counts.values())), 1)
    totals = {label: sum(of_label.values()) for label, of_label in counts.items()}

    def likelihood(label: str, of_row: Sequence[str]) -> float:
        return sum(log((counts[label][word] + 1) / (totals[label] + vocabulary)) for word in of_row)

    def vote(record: Record, of_row: Sequence[str]) -> str:
        return max(counts, key=lambda label: likelihood(label, of_row)) if counts else f"image {record.filename}"

    return [
        vote(record, of_row) if label is None else label
        for record, label, of_row in zip(records, labels, words, strict=True)
    ]


def stated_scenes(records: Sequence[Record], by_file: Mapping[str, str] | None = None) -> list[str | None]:
    """The class of each record as far as a file, a column or the name says it; None instead of a guess."""
    return [_label(record, by_file or {}) for record in records]


def guessed_scenes(records: Sequence[Record], by_file: Mapping[str, str] | None = None) -> int:
    """How many records take their class by vote, as :func:`scene_names` gives it."""
    without = stated_scenes(records, by_file).count(None)
    return without if without < len(records) else 0


def read_scene_file(path: str, records: Sequence[Record], split: str) -> dict[str, str]:
    """File name to scene class, from a JSON.

    Args:
        path: of the JSON.
        records: the rows of a split; where it lists none of them, the log says so.
        split: its name.

    Raises:
        DataError: naming the file, if it is not there or is no such JSON.
    """
    file = Path(path).expanduser()
    try:
        listed = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"--data.scene_file: '{file}' cannot be read ({error}): give a JSON of file names to classes"
        ) from error
    if not isinstance(listed, dict):
        raise DataError(f"--data.scene_file: '{file}' is no JSON object of file names to classes: give such a file")
    places = ((name, Place(f"--data.scene_file: '{file}'", f"'{name}'", {})) for name in listed)
    scenes = {name: record({"scene": listed[name]}, 0, place).scene for name, place in places}
    if not any({row.filename, PurePath(row.filename).name} & scenes.keys() for row in records):
        logger.warning(
            "--data.scene_file %s lists none of the images of split '%s'; such as '%s' in it, and '%s' in the split",
            *(file, split, next(iter(scenes), ""), records[0].filename if records else ""),
        )
    return {name: scene for name, scene in scenes.items() if scene is not None}


def _label(record: Record, by_file: Mapping[str, str]) -> str | None:
    """The class that a file, a column or the file name's prefix says."""
    path = PurePath(record.filename.strip().replace("\\", "/"))
    prefix = None if _ROW.fullmatch(path.name) else _PREFIX.match(_SET.sub("", path.stem, count=1))
    listed = by_file.get(record.filename, by_file.get(path.name))
    scenes = (listed, record.scene, prefix[1].lower() if prefix else None)
    return next((scene for scene in scenes if scene is not None), None)
