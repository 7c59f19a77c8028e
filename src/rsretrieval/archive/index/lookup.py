"""From keys back to places."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Lookup:
    """Where each key stands in an array.

    Args:
        keys: ``(n,)``, each once; negative ones stand for nothing and are never found.
    """

    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def __call__(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of keys of any shape, -1 for what is not there."""
        if not len(self._sorted):
            return np.full(np.shape(keys), -1, np.int64)
        place = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where((self._sorted[place] == keys) & (np.asarray(keys) >= 0), self._order[place], -1)

    def all(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of keys that must be there.

        Raises:
            KeyError: naming one that is not.
        """
        places = self(keys)
        if (places < 0).any():
            raise KeyError(f"the index has no key {np.asarray(keys)[places < 0][0]}")
        return places
