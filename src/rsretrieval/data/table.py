"""A split's text side, ready for training: captions cleaned and valued, scenes numbered.

The one place where a data set's captions are cleaned.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np
import pyarrow as pa

from rsretrieval.data.captions import clean, values_of_lengths, words
from rsretrieval.data.datasets import rows, values
from rsretrieval.data.datasets.base import DataError, Record, Source, check_broken
from rsretrieval.data.datasets.ragged import Ragged, lengths
from rsretrieval.data.datasets.text_columns import TextColumns
from rsretrieval.data.scenes import guessed_scenes, read_scene_file, scene_labels, scene_names
from rsretrieval.data.words import word_counts

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
    captions: Sequence[list[str]]
    values: Sequence[list[float]]
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
            return np.flatnonzero(lengths(self.captions)).tolist()
        return [row for row in range(len(self.names)) if row not in self.merged]

    @cached_property
    def digest(self) -> str:
        """Equal for tables of the same rows, captions and blocks, wherever they were read from."""
        content = hashlib.blake2b(f"[{json.dumps(self.names)}, [".encode(), digest_size=16)
        for row, captions in enumerate(self.captions):  # as json.dumps of all of them, which would take their memory
            content.update(f"{', ' if row else ''}{json.dumps(captions)}".encode())
        content.update(f"], {json.dumps(self.blocks)}]".encode())
        return content.hexdigest()


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
    columns = source.text_columns(split) or _columns(checked(source.records(split), where), where)
    names, merged = columns.names, columns.merged
    if needs_captions and names and not len(columns.captions.flat):
        raise DataError(
            f"{where} has no captions: none of its {len(names)} images, such as '{names[0]}', has one. "
            "Give a source with captions, or use its images alone (rsretrieval classify, rsretrieval predict)"
        )
    counts = np.minimum(word_counts(columns.captions.flat), max_words)
    written = columns.captions.keep(counts > 0)
    captions = replace(written, convert=partial(clean, max_words=max_words))
    empty = [row for row in np.flatnonzero(written.lengths == 0).tolist() if needs_captions and row not in merged]
    broken = [names[row] for row in empty]
    reason = f"{where}, row {empty[0]}, '{broken[0]}', has no caption with a word in it" if empty else ""
    check_broken(broken, len(names) - len(merged), split, max_broken, reason)
    by_file = read_scene_file(scene_file, names, split) if scene_file else None
    labels = scene_labels(names, columns.scenes, by_file)
    scenes = scene_names(labels, names, captions)
    classes = {name: number for number, name in enumerate(sorted(set(scenes)))}
    if caption_values is not None:
        of_captions = _values(captions, caption_values)
    elif columns.values is not None:
        of_captions = columns.values.keep(counts > 0)
    else:
        of_captions = Ragged(pa.array(values_of_lengths(counts[counts > 0])), written.offsets)
    return Table(
        names=names,
        captions=written if as_written else captions,
        values=of_captions,
        scenes=list(map(classes.__getitem__, scenes)),
        blocks=source.blocks(split),
        scene_names=list(classes),
        broken=broken,
        merged=merged,
        guessed=guessed_scenes(labels, merged),
        needs_captions=needs_captions,
    )


def warn_of_shared_names(training: Table, other: Table, split: str) -> None:
    """Say which images of another split have names of training images: their figures may be too good."""
    shared = sorted(name for name in set(training.names) & set(other.names) if not values.is_row_number(name))
    if shared:
        log.warning(
            "%d images of the split '%s' have the name of a training image, such as '%s': if they are the same images, "
            "figures are too good; leave them out of training by --data.exclude",
            *(len(shared), split, shared[0]),
        )


def checked(records: Sequence[Record], where: str) -> list[Record]:
    """The records with each field of the type that it should have, whatever the source made of its rows."""
    return [values.record(record._asdict(), row, values.Place(where, row, {})) for row, record in enumerate(records)]


def _columns(records: Sequence[Record], where: str) -> TextColumns:
    """The records with all captions of an image in its first row."""
    records, merged = rows.merge(records, where)
    if merged:
        log.info(
            "%s: %d rows are of %d images; an image has the captions of all its rows",
            *(where, len(records), len(records) - len(merged)),
        )
    return TextColumns(
        [record.filename for record in records],
        Ragged.of([record.captions for record in records], pa.large_string()),
        [record.scene for record in records],
        _own_values(records, where),
        merged,
    )


def _own_values(records: Sequence[Record], where: str) -> Ragged[float] | None:
    """The source's values of each row's captions; None if it has none."""
    if all(record.values is None for record in records):
        return None
    for row, record in enumerate(records):
        if record.values is None and any(map(words, record.captions)):
            raise DataError(
                f"{where}, row {row}, '{record.filename}': it has captions and no values of captions, and "
                "other rows have some: give one for each caption, or name another column as --data.columns.values"
            )
    return Ragged.of([record.values or [0.0] * len(record.captions) for record in records], pa.float64())


def _values(captions: Ragged[str], caption_values: ValueOfCaptions) -> Ragged[float]:
    """The values of each row's captions, by a function of all captions of the split."""
    texts = [text for of_row in captions for text in of_row]
    numbers = list(caption_values(texts)) if texts else []
    if len(numbers) != len(texts):
        raise DataError(
            f"--data.caption_values gave {len(numbers)} values for {len(texts)} captions: it needs to give one for each"
        )
    return Ragged(pa.array([float(number) for number in numbers], pa.float64()), captions.offsets)
