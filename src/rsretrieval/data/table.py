"""A split's text side, ready for training: captions cleaned and valued, scenes numbered.

The one place where a data set's captions are cleaned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from rsretrieval.data.captions import clean, length_values
from rsretrieval.data.datasets import rows, values
from rsretrieval.data.datasets.base import DataError, Record, Source, check_broken
from rsretrieval.data.scenes import guessed_scenes, read_scene_file, scene_names

log = logging.getLogger(__name__)

ValueOfCaptions = Callable[[Sequence[str]], Sequence[float]]
"""All captions of a split, cleaned, to the value of each in the weighted contrastive loss."""


@dataclass
class Table:
    """The text side of a split: one entry a row.

    Attributes:
        names: file name of each row.
        captions: of each row, cleaned or as they are written.
        values: value of each caption.
        scenes: scene class of each row, an index into ``scene_names``.
        blocks: rows of each block of the source.
        scene_names: every scene class.
        broken: names of images without a caption; they are left out.
        merged: rows whose captions went to an earlier row of the same image; they have none, and are not broken.
        guessed: how many images' scene is a vote over the words of their captions, where others have a label.
        needs_captions: whether images without a caption are left out.
    """

    names: list[str]
    captions: list[list[str]]
    values: list[list[float]]
    scenes: list[int]
    blocks: list[int]
    scene_names: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    merged: frozenset[int] = frozenset()
    guessed: int = 0
    needs_captions: bool = True

    @property
    def images(self) -> int:
        """How many images the rows are of, broken ones among them."""
        return len(self.names) - len(self.merged)

    @property
    def evaluated(self) -> list[int]:
        """The rows of evaluation, one an image."""
        if self.needs_captions:
            return [row for row, captions in enumerate(self.captions) if captions]
        return [row for row in range(len(self.names)) if row not in self.merged]


def build_table(
    source: Source,
    split: str,
    *,
    max_words: int = 30,
    max_broken: float = 0.01,
    scene_file: str | None = None,
    caption_values: ValueOfCaptions | None = None,
    as_written: bool = False,
    needs_captions: bool = True,
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
        as_written: keep case, punctuation and length; values and scenes are told by the cleaned captions all the same.
        needs_captions: whether an image without a caption is a broken row.

    Raises:
        MissingSplitError: if there is no such split.
        DataError: if too many rows have no caption with a word in it and need one, or captions and their values differ
            in number.
    """
    where = source.where(split)
    records = checked(source.records(split), where)
    if needs_captions and records and not any(record.captions for record in records):
        raise DataError(
            f"{where} has no captions: none of its {len(records)} images, such as '{records[0].filename}', has one. "
            "Give a source with captions, or use its images alone (rsretrieval classify, rsretrieval predict)"
        )
    records, merged = rows.merge(records, where)
    if merged:
        log.info(
            "%s: %d rows are of %d images; an image has the captions of all its rows",
            *(where, len(records), len(records) - len(merged)),
        )
    cleaned = [[clean(caption, max_words) for caption in record.captions] for record in records]
    captions = [[text for text in texts if text] for texts in cleaned]
    empty = [row for row, texts in enumerate(captions) if needs_captions and not texts and row not in merged]
    broken = [records[row].filename for row in empty]
    reason = f"{where}, row {empty[0]}, '{broken[0]}', has no caption with a word in it" if empty else ""
    check_broken(broken, len(records) - len(merged), split, max_broken, reason)
    by_file = read_scene_file(scene_file, records, split) if scene_file else None
    names = scene_names(records, captions, by_file)
    classes = {name: number for number, name in enumerate(sorted(set(names)))}
    own_values = _own_values(records, cleaned, where) if caption_values is None else None
    written = [
        [raw for raw, text in zip(record.captions, texts, strict=True) if text]
        for record, texts in zip(records, cleaned, strict=True)
    ]
    return Table(
        names=[record.filename for record in records],
        captions=written if as_written else captions,
        values=own_values or _values(captions, caption_values or length_values),
        scenes=[classes[name] for name in names],
        blocks=source.blocks(split),
        scene_names=list(classes),
        broken=broken,
        merged=merged,
        guessed=guessed_scenes([record for row, record in enumerate(records) if row not in merged], by_file),
        needs_captions=needs_captions,
    )


def checked(records: Sequence[Record], where: str) -> list[Record]:
    """The records with each field of the type that it should have, whatever the source made of its rows."""
    return [values.record(record._asdict(), row, values.Place(where, row, {})) for row, record in enumerate(records)]


def _own_values(records: Sequence[Record], cleaned: Iterable[Sequence[str]], where: str) -> list[list[float]] | None:
    """The source's values of each row's captions, without those of captions that have no word; None if it has none."""
    own: list[list[float]] = []
    if all(record.values is None for record in records):
        return None
    for row, (record, texts) in enumerate(zip(records, cleaned, strict=True)):
        if record.values is None and any(texts):
            raise DataError(
                f"{where}, row {row}, '{record.filename}': it has captions and no values of captions, and "
                "other rows have some: give one for each caption, or name another column as --data.columns.values"
            )
        own.append([value for value, text in zip(record.values or [0.0] * len(texts), texts, strict=True) if text])
    return own


def _values(captions: Sequence[Sequence[str]], caption_values: ValueOfCaptions) -> list[list[float]]:
    """The values of each row's captions, by a function of all captions of the split."""
    texts = [text for of_row in captions for text in of_row]
    numbers = list(caption_values(texts)) if texts else []
    if len(numbers) != len(texts):
        raise DataError(
            f"--data.caption_values gave {len(numbers)} values for {len(texts)} captions: it needs to give one for each"
        )
    remaining = iter(numbers)
    return [[next(remaining) for _ in of_row] for of_row in captions]
