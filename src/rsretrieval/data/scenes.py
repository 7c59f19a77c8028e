"""Scene labels: from a JSON file, a column, the file name's prefix, a vote over the captions' words; else its own."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from math import log
from pathlib import Path, PurePath

from rsretrieval.data.datasets.base import DataError, Record
from rsretrieval.data.datasets.text_files import read_text
from rsretrieval.data.datasets.values import Place, is_row_number, record

logger = logging.getLogger(__name__)
_PREFIX = re.compile(r"([A-Za-z]+(?:[_ ][A-Za-z]+)*)[_ -]?\d+$")
_SET = re.compile(r"^(?:rsicd|rsitmd|ucm)_", re.IGNORECASE)  # before the authors' own name, in RET-3's archives
_ZEROS = str.maketrans("123456789", "0" * 9)


def scene_names(labels: Sequence[str | None], names: Sequence[str], captions: Sequence[Sequence[str]]) -> Sequence[str]:
    """A scene class for every row.

    What has no label takes the class whose labelled captions its words fit best (multinomial naive Bayes, add-one
    smoothing); where nothing is labelled, an image is a class of its own.

    Args:
        labels: of the rows of a split, see :func:`scene_labels`.
        names: file name of each row.
        captions: the cleaned captions of each row.
    """
    if None not in labels:
        return labels  # type: ignore[return-value]
    if not any(label is not None for label in labels):
        return [f"image {name}" for name in names]
    words = [[word for caption in texts for word in caption.split()] for texts in captions]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for label, of_row in zip(labels, words, strict=True):
        if label is not None:
            counts[label].update(of_row)
    vocabulary = max(len(set().union(*counts.values())), 1)
    totals = {label: sum(of_label.values()) for label, of_label in counts.items()}

    def likelihood(label: str, of_row: Sequence[str]) -> float:
        return sum(log((counts[label][word] + 1) / (totals[label] + vocabulary)) for word in of_row)

    def vote(of_row: Sequence[str]) -> str:
        return max(counts, key=lambda label: likelihood(label, of_row))

    return [vote(of_row) if label is None else label for label, of_row in zip(labels, words, strict=True)]


def stated_scenes(records: Sequence[Record], by_file: Mapping[str, str] | None = None) -> Sequence[str | None]:
    """:func:`scene_labels` of records."""
    return scene_labels([record.filename for record in records], [record.scene for record in records], by_file)


def scene_labels(
    names: Sequence[str], scenes: Sequence[str | None] | None = None, by_file: Mapping[str, str] | None = None
) -> Sequence[str | None]:
    """The class of each row as far as a file, a column or the name says it; None instead of a guess.

    Args:
        names: file name of each row.
        scenes: of a column; None where there is none.
        by_file: file name, with or without its folders, to class; it wins.
    """
    labels: Sequence[str | None] = scenes or [None] * len(names)
    if by_file:
        labels = [
            by_file.get(name, by_file.get(_path(name).name, label)) for name, label in zip(names, labels, strict=True)
        ]
    if None not in labels:
        return labels
    # The digits of a name say nothing of its prefix, so that of many names few are looked at.
    keys = "\n".join(names).translate(_ZEROS).split("\n")
    keys = keys if len(keys) == len(names) else list(names)  # a name may have two lines
    prefixes = {key: _prefix(key) for key in set(keys)}
    stated = list(map(prefixes.__getitem__, keys))
    if not (scenes or by_file):
        return stated
    by_name = [name for name, label, prefix in zip(names, labels, stated, strict=True) if label is None and prefix]
    if by_name and any(label is not None for label in labels):
        logger.info("scenes of %d images are those of their names, such as '%s'", len(by_name), by_name[0])
    return [prefix if label is None else label for prefix, label in zip(stated, labels, strict=True)]


def guessed_scenes(labels: Sequence[str | None], merged: Set[int] = frozenset()) -> int:
    """How many images take their class by vote, as :func:`scene_names` gives it.

    Args:
        labels: of the rows of a split, see :func:`scene_labels`.
        merged: rows of an image that has an earlier one.
    """
    if None not in labels:
        return 0
    without = sum(label is None and row not in merged for row, label in enumerate(labels))
    return without if without < len(labels) - len(merged) else 0


def read_scene_file(path: str, names: Sequence[str], split: str) -> dict[str, str]:
    """File name to scene class, from a JSON.

    Args:
        path: of the JSON: an object of names to classes, or of classes to lists of names.
        names: file names of a split's images; where it lists none of them, the log says so.
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
    if listed and all(isinstance(files, list) and set(map(type, files)) <= {str} for files in listed.values()):
        listed = _by_name(listed, str(file))
    places = ((name, Place(f"--data.scene_file: '{file}'", f"'{name}'", {})) for name in listed)
    scenes = {name: record({"scene": listed[name]}, 0, place).scene for name, place in places}
    if not any({name, PurePath(name).name} & scenes.keys() for name in names):
        logger.warning(
            "--data.scene_file %s lists none of the images of split '%s'; such as '%s' in it, and '%s' in the split",
            *(file, split, next(iter(scenes), ""), names[0] if names else ""),
        )
    return {name: scene for name, scene in scenes.items() if scene is not None}


def _by_name(classes: Mapping[str, list[str]], file: str) -> dict[str, str]:
    """Classes with lists of file names, turned round."""
    named = [(name, label) for label, names in classes.items() for name in names]
    twice = [name for name, count in Counter(name for name, _ in set(named)).items() if count > 1]
    if twice:
        raise DataError(f"--data.scene_file: '{file}' has '{twice[0]}' in several classes: leave it in one")
    return dict(named)


def _path(name: str) -> PurePath:
    return PurePath(name.strip().replace("\\", "/"))


def _prefix(name: str) -> str | None:
    """The class that begins a file name, before its number."""
    path = _path(name)
    match = None if is_row_number(path.name) else _PREFIX.match(_SET.sub("", path.stem, count=1))
    return match[1].lower() if match else None
