"""How well rows answer a query: cosines, two of them composed, freed of hubs, and against a bank of other queries."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from rsretrieval.archive.index.exact import cosines as of_one
from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import write_whole

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

log = logging.getLogger(__name__)
Vectors = NDArray[np.float32]
Scores = NDArray[np.floating]
Bank = Literal["texts", "images"]


def cosines(vectors: Vectors, queries: Vectors) -> Vectors:
    """Of rows ``(n, d)`` with queries ``(Q, d)``, all L2-normalised: ``(Q, n)``; equal rows get equal ones."""
    return np.stack([of_one(query, vectors) for query in queries])


def composed(parts: Scores, mean: Scores, deviation: Scores, weight: float) -> NDArray[np.float64]:
    """A picture and a sentence in one score: ``(1 - weight)`` · Φ(z of picture) + ``weight`` · Φ(z of sentence).

    z is a cosine's distance from the mean of that query's cosines over the whole archive, in their standard deviations,
    and Φ the normal distribution. After github.com/billpsomas/rscir, which normalises both so before it weighs them;
    that exactly this is its combination is inferred. A query to which all rows are alike has z = 0.

    Args:
        parts: ``(2, n)`` cosines, the picture's and the sentence's.
        mean: ``(2,)`` over the archive.
        deviation: ``(2,)``.
        weight: of the sentence, 0 to 1.

    Returns:
        ``(n,)`` from 0 to 1.
    """
    same = deviation[:, None] < 1e-6
    z = np.where(same, 0, (parts - mean[:, None]) / np.where(same, 1, deviation[:, None]))
    image, text = torch.special.ndtr(torch.from_numpy(z.astype(np.float64))).numpy()
    return np.asarray((1 - weight) * image + weight * text)


def moments(queries: Vectors, mean: Scores, covariance: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation ``(Q,)`` of each query's cosines over rows of that mean and covariance."""
    wide = queries.astype(np.float64)
    variance = np.einsum("qd,de,qe->q", wide, covariance, wide)
    return wide @ mean, np.sqrt(np.maximum(variance, 0))


def bank_z(scores: Scores, vectors: Vectors, bank: Vectors) -> NDArray[np.float64]:
    """How far each row's score is above what other queries have on that row, in their standard deviations.

    Args:
        scores: ``(n,)`` cosines of the query with rows.
        vectors: ``(n, d)`` of these rows.
        bank: ``(Q, d)`` other queries.

    Returns:
        ``(n,)``; not a number where all of the bank score alike.
    """
    others = (vectors @ bank.T).astype(np.float64)
    deviation = others.std(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (scores - others.mean(axis=1)) / deviation
    return np.where(deviation > 1e-9, z, np.nan)


def bank_of(retriever: Retriever, kind: Bank) -> Vectors | None:
    """The model's bank of sentences or pictures ``(Q, d)``; None if it has none of that kind."""
    if retriever.model.bank is None or not retriever.model.bank.total:
        return None
    image, text = retriever.model.bank.queries()
    queries = image if kind == "images" else text
    return queries.cpu().numpy() if len(queries) else None


def hub_biases(
    folder: Path, written: str, retriever: Retriever, kind: Bank, vectors: Iterable[tuple[Any, Vectors]]
) -> Vectors:
    """What to take from each row's score (:meth:`rsretrieval.Retriever.hub_bias`), kept in a file once computed.

    Args:
        folder: of the file.
        written: of the archive; what was kept of another is replaced.
        retriever: with a bank.
        kind: what the archive is searched by.
        vectors: gives the vectors of all rows in order, in pieces.

    Returns:
        ``(N,)``.

    Raises:
        ArchiveError: if the model has no bank of that kind.
    """
    bank = bank_of(retriever, kind)
    file = folder / f"hubs-{kind}.npz"
    state = [written, retriever.digest, asdict(retriever.hubness)]
    digest = blake2b(json.dumps(state).encode(), digest_size=16)
    digest.update(b"" if bank is None else bank.tobytes())
    try:
        with np.load(file) as kept:
            if str(kept["of"]) == digest.hexdigest():
                return np.asarray(kept["bias"])
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        pass  # not there or not whole: it is computed
    try:
        parts = [retriever.hub_bias(torch.from_numpy(part), kind).numpy() for _, part in vectors]
    except ValueError as error:
        raise ArchiveError(f"hubs cannot be told: {error}") from error
    bias = np.concatenate(parts)
    try:
        write_whole(file, lambda partial: _save(partial, digest.hexdigest(), bias))
    except OSError as error:
        log.warning("the correction for hubs is not kept for the next search: %s", error)
    return bias


def _save(file: Path, digest: str, bias: Vectors) -> None:
    with file.open("wb") as content:
        np.savez(content, of=np.array(digest), bias=bias)
