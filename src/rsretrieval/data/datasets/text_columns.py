"""The text side of a split in arrays, where its values are plain: what a million captions are read by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from rsretrieval.data.datasets.ragged import Ragged, utf8
from rsretrieval.data.datasets.values import MISSING, class_name


@dataclass(frozen=True)
class TextColumns:
    """As :class:`rsretrieval.data.datasets.base.Record` has them, for all rows of a split.

    Attributes:
        names: file name of each row.
        captions: of each row, as they are written.
        scenes: scene class of each row, None where no column has it; None for no column at all.
        values: value of each caption; None where no column has them.
        merged: rows whose captions went to an earlier row of the same image.
    """

    names: list[str]
    captions: Ragged[str]
    scenes: Sequence[str | None] | None = None
    values: Ragged[float] | None = None
    merged: frozenset[int] = frozenset()

    def rows(self, chosen: NDArray[np.bool_]) -> TextColumns:
        """Some of the rows ``(R,)``, of columns without merged ones."""
        numbers = np.flatnonzero(chosen).tolist()
        return replace(
            self,
            names=[self.names[row] for row in numbers],
            captions=self.captions.rows(chosen),
            scenes=self.scenes and [self.scenes[row] for row in numbers],
            values=self.values and self.values.rows(chosen),
        )


def plain_columns(fields: Mapping[str, Any], label: Any) -> TextColumns | None:  # noqa: ANN401 - datasets is untyped
    """The columns of a table, if they hold what they are to hold in each row, and each row is an image of its own.

    Args:
        fields: field of a record to its arrow column.
        label: the ``ClassLabel`` of a column of scenes; None where scenes are text.

    Returns:
        None where any value needs a look (:func:`rsretrieval.data.datasets.values.record`): other types, missing ones,
        text that is no UTF-8, captions that are lists written as text, values that are not finite.
    """
    if not {"filename", "captions"} <= fields.keys() or not _is_text(fields["filename"].type):
        return None
    try:
        names, scenes = fields["filename"].to_pylist(), _scenes(fields.get("scene"), label)
        captions = _ragged(fields["captions"], pa.large_string())
        if captions is None or _may_be_written_out(captions):
            return None
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return None
    values = _ragged(fields["values"], pa.float64()) if "values" in fields else None
    if "values" in fields and not _are_values(values, captions):
        return None
    distinct = set(names)
    each_of_its_own = len(distinct) == len(names) and not distinct & {"", None} and not any(map(str.isspace, names))
    plain_scenes = scenes is None or all(scene is None or isinstance(scene, str) for scene in scenes)
    return TextColumns(names, captions, scenes, values) if each_of_its_own and plain_scenes else None


def _scenes(column: Any, label: Any) -> list[Any] | None:  # noqa: ANN401
    if column is None:
        return None
    scenes: list[Any] = column.to_pylist()
    return scenes if label is None else [class_name(label, number) for number in scenes]


def _are_values(values: Ragged[float] | None, captions: Ragged[str]) -> bool:
    """Whether they are finite, and as many as the captions of each row."""
    if values is None or not np.array_equal(values.offsets, captions.offsets):
        return False
    return bool(np.isfinite(values.flat.to_numpy()).all())


def _is_text(kind: Any) -> bool:  # noqa: ANN401 - pyarrow is untyped
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _ragged(column: Any, kind: Any) -> Ragged[Any] | None:  # noqa: ANN401
    """A column of lists, or of single items, of text or of floats; None for another, and for one with nulls."""
    is_list = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
    item = column.type.value_type if is_list else column.type
    if column.null_count or not (_is_text(item) if _is_text(kind) else pa.types.is_floating(item)):
        return None
    items = (pc.list_flatten(column) if is_list else column).cast(kind).combine_chunks()
    counts = pc.list_value_length(column).to_numpy() if is_list else np.ones(len(column), np.int64)
    return None if items.null_count else Ragged.of_lengths(items, counts)


def _may_be_written_out(captions: Ragged[str]) -> bool:
    """Whether a caption needs a look: it begins as a written list does, or with a space, or is as short as "None".

    Raises:
        pa.ArrowInvalid: for text that is no UTF-8.
    """
    data, bounds = utf8(captions.flat)
    if data[bounds[0] : bounds[-1]].max(initial=0) > 127:
        captions.flat.validate(full=True)
    counts = np.diff(bounds)
    if any(caption in MISSING for caption in captions.flat.filter(pa.array((counts > 2) & (counts < 5))).to_pylist()):
        return True
    starts = bounds[:-1][counts > 0]
    suspicious = np.isin(data[starts], np.frombuffer(b"[({ ", np.uint8))
    long = starts[counts[counts > 0] > len("array(")]
    return bool(suspicious.any() or ((data[long] == ord("a")) & (data[long + len("array")] == ord("("))).any())
