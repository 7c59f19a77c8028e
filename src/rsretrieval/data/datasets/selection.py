"""A source of whose training rows only some are read: what a hold-out and an exclusion share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.data.datasets.base import Record, Source


class TrainingRows(Source):
    """A source some of whose splits are chosen rows of its training split; all others are as they are.

    Args:
        source: whose rows.
        rows: split to ``(N,)`` bool, which of the ``N`` training rows it has.
    """

    def __init__(self, source: Source, rows: Mapping[str, NDArray[np.bool_]]) -> None:
        self.source, self.revision = source, source.revision
        self._rows = dict(rows)
        # Which rows of each block of the training split a split has; blocks of which it has none are left out.
        ends = np.cumsum(source.blocks("train"))[:-1]
        self._blocks = {
            split: [(number, of_block) for number, of_block in enumerate(np.split(chosen, ends)) if of_block.any()]
            for split, chosen in self._rows.items()
        }

    def records(self, split: str) -> list[Record]:
        """See :class:`Source`."""
        if split not in self._rows:
            return self.source.records(split)
        return list(compress(self.source.records("train"), self._rows[split]))

    def text_columns(self, split: str) -> Any:  # noqa: ANN401 - as the source's
        """See :class:`Source`."""
        if split not in self._rows:
            return self.source.text_columns(split)
        columns = self.source.text_columns("train")
        return columns and columns.rows(self._rows[split])

    def blocks(self, split: str) -> list[int]:
        """Rows of each block of the training split, where any are this split's."""
        if split not in self._blocks:
            return self.source.blocks(split)
        return [int(rows.sum()) for _, rows in self._blocks[split]]

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        if split not in self._blocks:
            return self.source.read(split, block)
        number, rows = self._blocks[split][block]
        return list(compress(self.source.read("train", number), rows))

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        chosen = f"split '{split}' of it" if split in self._rows else ""
        return ", ".join(filter(None, (self.source.where("train" if chosen else split), chosen)))

    def fingerprint(self) -> str | None:
        """See :class:`Source`."""
        return self.source.fingerprint()

    def prepare(self) -> None:
        """See :class:`Source`."""
        self.source.prepare()

    def fetch(self, split: str) -> None:
        """See :class:`Source`."""
        self.source.fetch("train" if split in self._rows else split)
