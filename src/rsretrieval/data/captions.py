"""Captions: cleaning, word deletion, and their value in the weighted contrastive loss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

_PUNCTUATION = re.compile(r"[^\w\s]|_")
SHORT, SHORT_VALUE = 0.7, 0.95  # of the mean length; inferred from the name of the release's data file


def clean(caption: str, max_words: int = 30) -> str:
    """Lower case, punctuation removed, at most ``max_words`` words.

    Example:
        >>> clean("Two planes, parked near the Terminal .")
        'two planes parked near the terminal'
    """
    return " ".join(words(caption)[:max_words])


def words(caption: str) -> list[str]:
    """Of a caption, in lower case and without punctuation."""
    return _PUNCTUATION.sub(" ", caption.lower()).split()


def cleaned_templates(templates: Sequence[str]) -> list[str]:
    """Templates for a model that sees cleaned texts; each once.

    Example:
        >>> cleaned_templates(["A photo of {}.", "a photo, of {}"])
        ['a photo of {}']
    """
    parts = (template.partition("{}") for template in templates)
    return list(dict.fromkeys(" ".join(filter(None, (clean(a), "{}", clean(b)))) for a, _, b in parts))


def delete_words(caption: str, probability: float) -> str:
    """Drop each word with a probability, by torch's random state; one word at least remains."""
    words = caption.split()
    draws = torch.rand(len(words)).tolist()
    return " ".join([word for word, draw in zip(words, draws, strict=True) if draw >= probability] or words[:1])


def length_values(captions: Sequence[str]) -> list[float]:
    """The paper's rule: captions shorter than 0.7 of the mean number of words are worth 0.95, all others 1.

    Example:
        >>> length_values(["a b c d", "a b c d", "a"])
        [1.0, 1.0, 0.95]
    """
    values: list[float] = values_of_lengths(np.array([len(caption.split()) for caption in captions], np.int64)).tolist()
    return values


def values_of_lengths(lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """:func:`length_values` of ``(N,)`` captions whose numbers of words are known."""
    return np.where(lengths < SHORT * int(lengths.sum()) / max(len(lengths), 1), SHORT_VALUE, 1.0)


def cleaned_sentences(texts: Iterable[str], max_words: int) -> tuple[list[str], list[str]]:
    """Sentences as they are, and each cleaned.

    Args:
        texts: a list of sentences.
        max_words: see :func:`clean`.

    Raises:
        TypeError: for a single sentence, or what is none.
        ValueError: for a sentence without a word.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Iterable):
        raise TypeError(f"encode_texts takes a list of sentences, not one {type(texts).__name__}: give [sentence]")
    sentences = list(texts)
    for number, text in enumerate(sentences):
        if not isinstance(text, str):
            raise TypeError(f"sentence {number} is of type {type(text).__name__}, not a string: {text!r:.80}")
    cleaned = [clean(text, max_words) for text in sentences]
    if "" in cleaned:
        number = cleaned.index("")
        raise ValueError(f"sentence {number} ({sentences[number]!r}) has no word: leave it out")
    return sentences, cleaned
