"""A split's text side, ready for training: captions cleaned and valued, scenes numbered.

The one place where a data set's captions are cleaned.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rsretrieval.data.captions import clean, length_values
from rsretrieval.data.datasets.base import DataError, Record, Source, check_broken
from rsretrieval.data.scenes import scene_names

ValueOfCaptions = Callable[[Sequence[str]], Sequence[float]]
"""All captions of a split, cleaned, to the value of each in the weighted contrastive loss."""


@dataclass
class Table:
    """The text side of a split: one entry a row.

    Attributes:
        names: file name of each row.
        captions: cleaned captions of each row.
        values: value of each caption.
        scenes: scene class of each row, an index into ``scene_names``.
        blocks: rows of each block of the source.
        scene_names: every scene class.
        broken: names of rows without a caption; they are left out.
    """

    names: list[str]
    captions: list[list[str]]
    values: list[list[float]]
    scenes: list[int]
    blocks: list[int]
    scene_names: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def build_table(
    source: Source,
    split: str,
    *,
    max_words: int = 30,
    max_broken: float = 0.01,
    scene_file: str | None = None,
    caption_values: ValueOfCaptions | None = None,
) -> Table:
    """Read the text side of a split.

    Args:
        source: where the rows are.
        split: ``train``, ``valid`` or ``test``.
        max_words: longest caption, in words.
        max_broken: fraction of the rows that may have no caption with a word in it.
        scene_file: JSON of file name to scene class.
        caption_values: None for the source's own values, and without them for
            :func:`rsretrieval.data.captions.length_values`, the paper's.

    Raises:
        MissingSplitError: if there is no such split.
        DataError: if too many rows have no caption with a word in it, or captions and their values differ in number.
    """
    records = source.records(split)
    cleaned = [[clean(c, max_words) if isinstance(c, str) else "" for c in r.captions] for r in records]
    captions = [[text for text in texts if text] for texts in cleaned]
    empty = [record.filename for record, texts in zip(records, captions, strict=True) if not texts]
    check_broken(empty, len(records), split, max_broken)
    by_file = json.loads(Path(scene_file).expanduser().read_text()) if scene_file else None
    names = scene_names(records, captions, by_file)
    classes = {name: number for number, name in enumerate(sorted(set(names)))}
    own_values = _own_values(records, cleaned) if caption_values is None else None
    return Table(
        names=[record.filename for record in records],
        captions=captions,
        values=own_values or _values(captions, caption_values or length_values),
        scenes=[classes[name] for name in names],
        blocks=source.blocks(split),
        scene_names=list(classes),
        broken=empty,
    )


def _own_values(records: Iterable[Record], cleaned: Iterable[Sequence[str]]) -> list[list[float]] | None:
    """The source's values of each row's captions, without those of captions that have no word; None if it has none."""
    values = []
    for record, texts in zip(records, cleaned, strict=True):
        if record.values is None:
            return None
        if len(record.values) != len(texts):
            raise DataError(
                f"'{record.filename}' has {len(texts)} captions and {len(record.values)} values of captions: give one "
                "for each, or name another column as --data.columns.values"
            )
        values.append([value for value, text in zip(record.values, texts, strict=True) if text])
    return values


def _values(captions: Sequence[Sequence[str]], caption_values: ValueOfCaptions) -> list[list[float]]:
    """The values of each row's captions, by a function of all captions of the split."""
    values = iter(caption_values([text for texts in captions for text in texts]))
    return [[next(values) for _ in texts] for texts in captions]
