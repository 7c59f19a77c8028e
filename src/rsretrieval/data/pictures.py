"""A split without its captions: pictures by row, as they come, and the labels that images have."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rsretrieval.data.datasets import rows
from rsretrieval.data.datasets.base import BrokenRowError, DataError, Source, check_broken
from rsretrieval.data.reader import ImageReader
from rsretrieval.data.scenes import read_scene_file, stated_scenes
from rsretrieval.data.table import Table, checked
from rsretrieval.images import Rendering

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledRows:
    """The images of a split that have a label.

    Attributes:
        rows: of each in its split.
        names: of their files.
        labels: the scene class of each.
        without: how many other images of the split have no label.
    """

    rows: list[int]
    names: list[str]
    labels: list[str]
    without: int


def labelled_rows(source: Source, split: str, scene_file: str | None = None) -> LabelledRows:
    """The images whose class a JSON file, a column, a folder or the file name's prefix says; nothing is guessed.

    Args:
        source: where the rows are; several rows of one image are one.
        split: ``train``, ``valid`` or ``test``.
        scene_file: JSON of file name to scene class.

    Raises:
        MissingSplitError: if there is no such split.
        DataError: if fewer than two classes are stated.
    """
    where = source.where(split)
    records, merged = rows.merge(checked(source.records(split), where), where)
    by_file = read_scene_file(scene_file, [record.filename for record in records], split) if scene_file else None
    stated = [(row, label) for row, label in enumerate(stated_scenes(records, by_file)) if row not in merged]
    labelled = [(row, label) for row, label in stated if label is not None]
    classes = sorted({label for _, label in labelled})
    if len(classes) < 2:
        raise DataError(
            f"{where} has no classes to tell apart: {len(labelled)} of its {len(stated)} images have a label, of "
            f"{classes or 'no class'}. Without labels each image would be a class of its own: give a JSON of file "
            "names to classes as --data.scene_file, a column as --data.columns.scene, file names that begin with the "
            "class, or folders of classes as --data.source classes"
        )
    without = len(stated) - len(labelled)
    if without:
        log.warning("%s: %d of %d images have no label and are left out", where, without, len(stated))
    numbers = [row for row, _ in labelled]
    return LabelledRows(numbers, [records[row].filename for row in numbers], [label for _, label in labelled], without)


def read_pictures(
    source: Source,
    split: str,
    numbers: Sequence[int],
    max_broken: float,
    rendering: Rendering | None = None,
    *,
    decoded: bool = True,
) -> Iterator[tuple[int, Any]]:
    """Row and picture of some rows, one after the other, block by block.

    Args:
        source: where they are.
        split: ``train``, ``valid`` or ``test``.
        numbers: of the rows, in ascending order.
        max_broken: fraction of these rows that may be left out because they are broken; the log counts them.
        rendering: see :func:`rsretrieval.images.decode`.
        decoded: in RGB; or each in the form that the source has it in, for models of other bands.

    Raises:
        DataError: if more are broken, or a picture needs a rendering.
    """
    source.fetch(split)
    names = [record.filename for record in source.records(split)]
    reader = ImageReader(source, split, Table(names, [], [], [], source.blocks(split)), 1, rendering)
    broken: list[str] = []
    reason = ""
    for row in numbers:
        try:
            picture = reader.image(row) if decoded else reader.encoded(row)
        except BrokenRowError as error:
            broken.append(names[row])
            reason = reason or str(error)
            continue
        yield row, picture
    if broken:
        log.warning(
            "%s: %d images of '%s' are left out, such as %s: %s",
            *(source.where(split), len(broken), split, broken[:3], reason),
        )
    check_broken(broken, len(numbers), split, max_broken, reason)
