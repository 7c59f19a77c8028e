"""What can be extended from outside: names to entries of one stated contract."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

Entry = TypeVar("Entry")


class UnknownNameError(ValueError, KeyError):
    """A name that a registry does not have; the message lists the near ones and all."""

    def __str__(self) -> str:
        return str(self.args[0])


def meant(name: str, known: Iterable[str], count: int = 2, cutoff: float = 0.4) -> str:
    """The near names to one that is not known, for the end of a sentence; empty where none is near.

    Example:
        >>> meant("val/mr", ["val/mR", "train/loss"])
        ', meant is perhaps val/mR'
    """
    near = difflib.get_close_matches(name, list(known), count, cutoff)
    return f", meant is perhaps {' or '.join(near)}" if near else ""


def _origin(entry: object) -> tuple[str, str]:
    return getattr(entry, "__module__", ""), getattr(entry, "__qualname__", repr(entry))


class Registry(Mapping[str, Entry]):
    """Names to entries.

    Args:
        kind: what the entries are, for messages.

    Example:
        >>> shapes = Registry[type]("shape")
        >>> @shapes.register("square")
        ... class Square: ...
        >>> shapes["square"] is Square
        True
        >>> shapes["sqare"]
        Traceback (most recent call last):
        rsretrieval.registry.UnknownNameError: unknown shape 'sqare' (did you mean 'square'?); known are ['square']
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """A decorator that adds an entry under a name; a definition that is run again replaces itself.

        Raises:
            ValueError: if another entry has that name.
        """

        def add(entry: Entry) -> Entry:
            known = self._entries.get(name, entry)
            if known is not entry and _origin(known) != _origin(entry):
                raise ValueError(f"the {self.kind} '{name}' is registered already: give yours another name")
            self._entries[name] = entry
            return entry

        return add

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=3, cutoff=0.6)
            hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            raise UnknownNameError(f"unknown {self.kind} {name!r}{hint}; known are {sorted(self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
