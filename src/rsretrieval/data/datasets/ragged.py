"""Lists of different lengths, one a row, in two flat arrays: captions as Python's strings take twice as much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Ints = NDArray[np.int64]
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Ragged(Sequence[list[T]]):
    """A sequence of lists, each made where it is asked for.

    Attributes:
        flat: the items of all rows, an arrow array without nulls.
        offsets: ``(R + 1,)`` where the items of each of ``R`` rows begin, and the last ones end.
        convert: what is done to an item where it is asked for; None for nothing.

    Example:
        >>> rows = Ragged.of([["a", "b"], [], ["c"]], pa.large_string())
        >>> rows[0], len(rows), rows.lengths.tolist(), list(rows.keep(np.array([True, False, True])))
        (['a', 'b'], 3, [2, 0, 1], [['a'], [], ['c']])
    """

    flat: Any
    offsets: Ints
    convert: Callable[[Any], T] | None = None

    @classmethod
    def of(cls, rows: Sequence[Sequence[T]], kind: Any) -> Ragged[T]:  # noqa: ANN401 - pyarrow is untyped
        """From lists of items of an arrow type."""
        return cls.of_lengths(pa.array([item for row in rows for item in row], kind), lengths(rows))

    @classmethod
    def of_lengths(cls, flat: Any, lengths: Ints) -> Ragged[T]:  # noqa: ANN401
        """From the items of all rows, and how many each row has."""
        return cls(flat, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @property
    def lengths(self) -> Ints:
        """``(R,)`` items of each row."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, row: int) -> list[T]: ...

    @overload
    def __getitem__(self, row: slice) -> list[list[T]]: ...

    def __getitem__(self, row: int | slice) -> list[T] | list[list[T]]:
        if isinstance(row, slice):
            return [self[number] for number in range(len(self))[row]]
        number = range(len(self))[row]
        items: list[T] = self.flat[self.offsets[number] : self.offsets[number + 1]].tolist()
        return items if self.convert is None else list(map(self.convert, items))

    def __eq__(self, other: object) -> bool:
        """Whether the lists are equal, whatever holds them."""
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(list.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def keep(self, items: NDArray[np.bool_]) -> Ragged[T]:
        """As many rows, with some of their items ``(N,)``."""
        if items.all():
            return self
        return Ragged(self.flat.filter(pa.array(items)), np.append(0, np.cumsum(items))[self.offsets], self.convert)

    def rows(self, chosen: NDArray[np.bool_]) -> Ragged[T]:
        """Some of the rows ``(R,)``."""
        flat = self.flat.filter(pa.array(np.repeat(chosen, self.lengths)))
        return Ragged(flat, np.append(0, np.cumsum(self.lengths[chosen])), self.convert)


def lengths(rows: Sequence[Sequence[object]]) -> Ints:
    """``(R,)`` items of each row, of lists or of :class:`Ragged`."""
    return rows.lengths if isinstance(rows, Ragged) else np.fromiter(map(len, rows), np.int64, len(rows))


def utf8(texts: Any) -> tuple[NDArray[np.uint8], Ints]:  # noqa: ANN401
    """The bytes of arrow's large strings without a copy, and ``(N + 1,)`` where each begins, and the last one ends."""
    _, offsets, data = texts.buffers() if len(texts) else (None, bytes(8), None)
    bounds = np.frombuffer(offsets, np.int64)[texts.offset :][: len(texts) + 1]
    return np.frombuffer(data or b"", np.uint8), bounds
