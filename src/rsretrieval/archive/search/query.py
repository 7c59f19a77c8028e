"""What is looked for: sentences and pictures, for and against, as one vector or as two that are composed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rsretrieval.data.captions import clean
from rsretrieval.embeddings import ArchiveError

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

Vectors = NDArray[np.float32]
Kind = Literal["texts", "images", "both", "vector"]


@dataclass(frozen=True)
class Query:
    """A question to an archive.

    Attributes:
        label: in words, for people.
        kind: what it was made of; ``both`` is a picture and a sentence that are composed.
        vectors: ``(1, d)``, L2-normalised; of ``both`` ``(2, d)``, the picture's and the sentence's.
    """

    label: str
    kind: Kind
    vectors: Vectors


@dataclass(frozen=True)
class Wish:
    """What is to be found, and what is not.

    Attributes:
        texts: that describe it; each item is one query, of one sentence or more.
        images: that show it, in every query.
        negatives_text: that describe what it is not.
        negatives_image: that show what it is not.

    Raises:
        ArchiveError: if there is nothing to find, or a sentence has no word.
    """

    texts: Sequence[Sequence[str]]
    images: Sequence[Any]
    negatives_text: Sequence[str]
    negatives_image: Sequence[Any]

    def __post_init__(self) -> None:
        if not self.texts:
            raise ArchiveError("there are no queries: give one sentence or more")
        if any(not texts and not self.images for texts in self.texts):
            against = " (what is not wanted can only be taken from something)"
            raise ArchiveError(
                "there is nothing to look for: give a sentence or a picture"
                + (against if self.negatives_text or self.negatives_image else "")
            )
        for text in [text for texts in (*self.texts, self.negatives_text) for text in texts]:
            if not isinstance(text, str):
                raise ArchiveError(f"a sentence is of type {type(text).__name__}, not a text: {text!r:.80}")
            if not clean(text):
                raise ArchiveError(f"the sentence {text!r} has no word to look for: give another")

    def sentences(self) -> list[str]:
        """All of them, each once."""
        return list(dict.fromkeys([text for texts in self.texts for text in texts] + list(self.negatives_text)))

    def queries(self, retriever: Retriever, factors: tuple[float, float]) -> list[Query]:
        """One for each item of ``texts``, embedded.

        Raises:
            ArchiveError: if what is wanted and what is not are the same.
            BrokenImageError: for a picture that cannot be read.
        """
        sentences = self.sentences()
        vectors = dict(zip(sentences, retriever.encode_texts(sentences).numpy(), strict=True)) if sentences else {}
        pictures, against_pictures = (
            retriever.encode_images(images).numpy() if images else np.zeros((0, retriever.model.embed_dim), np.float32)
            for images in (self.images, self.negatives_image)
        )
        against = [vectors[text] for text in self.negatives_text]
        queries = []
        for texts in self.texts:
            wanted = [vectors[text] for text in texts]
            kind: Kind
            if wanted and len(pictures):
                kind, parts = "both", [(pictures, against_pictures), (wanted, against)]
            else:  # what is not wanted is taken from the one vector there is, be it a picture or a sentence
                kind = "texts" if wanted else "images"
                parts = [([*wanted, *pictures], [*against, *against_pictures])]
            rows = [combined(positives, negatives, factors) for positives, negatives in parts]
            queries.append(Query(self._label(texts), kind, np.stack(rows)))
        return queries

    def _label(self, texts: Sequence[str]) -> str:
        wanted = " + ".join([*texts, *map(_name, self.images)])
        return " - ".join([wanted, *self.negatives_text, *map(_name, self.negatives_image)])


def combined(
    positives: Iterable[NDArray[np.floating]], negatives: Iterable[NDArray[np.floating]], factors: tuple[float, float]
) -> Vectors:
    """``factors[0]`` · mean of the positives - ``factors[1]`` · mean of the negatives, L2-normalised: ``(d,)``.

    A single positive without negatives stays as it is, to the last bit.

    Args:
        positives: vectors ``(d,)``, one or more.
        negatives: vectors ``(d,)``, or none.
        factors: by default 2 and 1, as geovibes has them.

    Raises:
        ArchiveError: if nothing remains.

    Example:
        >>> [round(float(number), 4) for number in combined([np.array([1.0, 0.0])], [np.array([0.0, 1.0])], (2.0, 1.0))]
        [0.8944, -0.4472]
    """
    wanted, against = list(positives), list(negatives)
    if len(wanted) == 1 and not against:
        return np.asarray(wanted[0], np.float32)
    total = factors[0] * np.mean(np.asarray(wanted, np.float64), 0)
    if against:
        total = total - factors[1] * np.mean(np.asarray(against, np.float64), 0)
    return unit(total, "what is wanted and what is not wanted cancel each other out: leave one of them out")


def unit(vector: NDArray[np.floating], complaint: str) -> Vectors:
    """A vector of length 1.

    Raises:
        ArchiveError: with the complaint, if it has no direction.
    """
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length < 1e-6:
        raise ArchiveError(complaint)
    return np.asarray(vector / length, np.float32)


def query_of_vector(vector: NDArray[np.floating], width: int) -> Query:
    """A query by an embedding that is there already, of any length but 0.

    Raises:
        ArchiveError: if it is no vector of the archive's width.
    """
    values = np.asarray(vector, np.float64)
    if values.shape != (width,):
        raise ArchiveError(f"a query of shape {values.shape} does not fit: the archive's embeddings are of ({width},)")
    return Query(
        "a vector", "vector", unit(values, "the query has no direction: its numbers are 0 or not finite")[None]
    )


def listed(value: Any) -> list[Any]:  # noqa: ANN401 - a picture in any form
    """Pictures or sentences as a list, be it one, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _name(image: object) -> str:
    return os.path.basename(image) if isinstance(image, str | os.PathLike) else "a picture"
