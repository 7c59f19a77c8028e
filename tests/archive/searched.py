"""Archives to search: rows with places and dates, a model of known vectors, an index that tells what it was asked."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsretrieval.archive.index import Index, VectorIndex
from rsretrieval.archive.search.archive import Archive
from rsretrieval.archive.search.model import ArchiveModel
from rsretrieval.embeddings import EmbeddingsFile, Row, table, write_sorted
from rsretrieval.embeddings.rows import keys
from rsretrieval.embeddings.wkb import to_wkb
from rsretrieval.metrics import HubnessConfig, hub_bias
from rsretrieval.models.query_bank import QueryBank

Box = tuple[float, float, float, float]


def unit(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    """Random vectors of length 1."""
    values = np.random.default_rng(seed).normal(size=shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def outline(box: Box) -> bytes:
    west, south, east, north = box
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return to_wkb({"type": "Polygon", "coordinates": [ring]})


def name(number: int) -> str:
    return f"{number:05d}.png"


def write_archive(
    folder: Path, vectors: NDArray[np.float32], places: Mapping[int, Box] | None = None, **about: Any
) -> None:
    """Row ``n`` is ``0000n.png``, taken ``n`` days after 2024 began, of ``100 + n`` by 50 pixels; the first undated."""
    rows = []
    for number in range(len(vectors)):
        box = (places or {}).get(number)
        taken = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number) if number else None
        origin = "file name" if number else None
        place = None if box is None else outline(box)
        rows.append(Row(name(number), name(number), (0, 0, 100 + number, 50), place, box, taken, origin))
    emb = {
        "type": "chip", "dimensions": vectors.shape[1], "data_type": "float32",
        "model": {"name": "looked-up", "digest": "abc"}, "written": "1", "root": ".", **about,
    }  # fmt: skip
    write_sorted(folder / "embeddings.parquet", [table(rows, vectors, "float32")], {"emb": emb})


class LookedUp:
    """A model that knows a vector for each text and each picture."""

    def __init__(self, vectors: Mapping[str, NDArray[np.float32]], bank: QueryBank | None = None) -> None:
        self.vectors, self.digest, self.hubness = vectors, "abc", HubnessConfig("csls", neighbours=3)
        self.model = SimpleNamespace(embed_dim=len(next(iter(vectors.values()))), bank=bank)
        self.asked: list[list[str]] = []

    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        self.asked.append(list(texts))
        return torch.from_numpy(np.stack([self.vectors[text] for text in texts]))

    encode_images = encode_texts

    def hub_bias(self, gallery: Tensor, queries: str = "texts") -> Tensor:
        if self.model.bank is None:
            raise ValueError("this model has no query bank")
        return hub_bias(self.model.bank.of(queries), gallery, self.hubness)


class Told(VectorIndex):
    """Compares with every vector, and tells what it was asked."""

    exact = True

    def __init__(self, keys: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        self._keys, self._vectors = keys, vectors
        self.asked: list[dict[str, Any]] = []
        self.read = 0

    @property
    def keys(self) -> NDArray[np.int64]:
        return self._keys

    def search(self, queries: Any, k: int, allowed: Any = None, where: Any = None) -> Any:
        self.asked.append({"k": k, "allowed": None if allowed is None else set(allowed.tolist()), "where": where})
        scores = queries @ self._vectors.T
        if allowed is not None:
            scores[:, ~np.isin(self._keys, allowed)] = -np.inf
        order = np.stack([np.lexsort((self._keys, -row)) for row in scores])[:, :k]
        best = np.take_along_axis(scores, order, 1)
        return best, np.where(np.isinf(best), -1, self._keys[order])

    def vectors(self, keys: Any) -> Any:
        self.read += len(keys)
        place = {key: number for number, key in enumerate(self._keys.tolist())}
        return self._vectors[[place[key] for key in keys.tolist()]]

    build = open = add = remove = save = None  # type: ignore[assignment]


class Rough(Told):
    """Finds only rows of even numbers of those that are asked for."""

    exact = False

    def search(self, queries: Any, k: int, allowed: Any = None, where: Any = None) -> Any:
        even = self._keys[::2] if allowed is None else np.intersect1d(self._keys[::2], allowed)
        return super().search(queries, k, even, where)


def told_archive(folder: Path, model: Any, form: type[Told] = Told) -> tuple[Archive, Any]:
    """An archive over such an index, and the index."""
    embeddings = EmbeddingsFile(folder)
    information = embeddings.information()
    ((names, vectors),) = list(embeddings.vectors())
    assert names.tolist() == keys(information.column("id"), next(embeddings.tables()).column("embedding")).tolist()
    index = form(names, vectors)
    wide = vectors.astype(np.float64)
    opened = Index("told", index, names, wide.mean(0), np.cov(wide.T, bias=True), None, embeddings)  # type: ignore[arg-type]
    return Archive(opened, ArchiveModel(folder, embeddings.about, model, {})), index
