"""How many words captions have, without a Python object a caption."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.data.captions import words
from rsretrieval.data.datasets.ragged import Ints, utf8

AT_ONCE = 4096
"""Captions whose words are counted together: their bytes stay in the processor's cache."""


def word_counts(captions: Any) -> Ints:  # noqa: ANN401 - pyarrow is untyped
    """``(N,)`` words of each caption, as :func:`rsretrieval.data.captions.words` has them.

    Args:
        captions: an arrow array of large strings.
    """
    data, bounds = utf8(captions)
    counts = np.empty(len(captions), np.int64)
    for first in range(0, len(counts), AT_ONCE):
        some = slice(first, first + AT_ONCE)
        ends = bounds[first : first + AT_ONCE + 1]
        part = data[ends[0] : ends[-1]]
        is_ascii = part.max(initial=0) < 128
        counts[some] = _ascii_counts(part, ends) if is_ascii else [len(words(text)) for text in captions[some].tolist()]
    return counts


def _ascii_counts(data: NDArray[np.uint8], bounds: Ints) -> Ints:
    """Runs of letters and digits in each part of an ASCII text.

    Args:
        data: the text.
        bounds: ``(N + 1,)`` where each part begins, and the last one ends; the first begins where the text does.
    """
    in_word = np.zeros(len(data) + 1, bool)
    in_word[:-1] = ((data | 32) - np.uint8(ord("a")) < 26) | (data - np.uint8(ord("0")) < 10)
    begins = in_word.copy()
    begins[1:] &= ~in_word[:-1]
    starts, lengths = bounds[:-1] - bounds[0], np.diff(bounds)
    begins[starts] = in_word[starts]
    kind = np.min_scalar_type(int(lengths.max()))  # the narrowest that holds every sum is the fastest
    return np.where(lengths > 0, np.add.reduceat(begins.view(np.uint8), starts, dtype=kind), 0)
