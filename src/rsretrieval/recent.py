"""What was used last, kept up to a limit."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Values by their keys, of which the least recently used are let go; several threads may use it.

    Args:
        limit: of the values' sizes together; the value that came last is kept whatever its size.
        size: of a value; each counts one without it.

    Example:
        >>> words = Recent(7, len)
        >>> [words.kept(word, lambda: word * 3) for word in ("a", "b", "a", "c")]
        ['aaa', 'bbb', 'aaa', 'ccc']
        >>> words.total, words.get("b"), words.get("a")
        (6, None, 'aaa')
    """

    def __init__(self, limit: int, size: Callable[[V], int] = lambda _: 1) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[K, V] = OrderedDict()
        self._lock = threading.RLock()
        self.total = 0
        """The sizes of what is kept."""

    def get(self, key: K) -> V | None:
        """What is kept under a key; None if it is not, or not any more."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def put(self, key: K, value: V) -> V:
        """Keep a value, in place of what was there."""
        with self._lock:
            if key in self._values:
                self.total -= self._size(self._values.pop(key))
            self._values[key] = value
            self.total += self._size(value)
            while self.total > self._limit and len(self._values) > 1:
                self.total -= self._size(self._values.popitem(last=False)[1])
        return value

    def kept(self, key: K, make: Callable[[], V]) -> V:
        """What is kept under a key, made if need be while other threads wait."""
        with self._lock:
            value = self.get(key)
            return self.put(key, make()) if value is None else value
