"""Indexes of an archive's embeddings: kinds by name, one interface, built whole or not at all."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.archive.index.base import INDEX_KINDS, VectorIndex, register_index
    from rsretrieval.archive.index.build import build_index
    from rsretrieval.archive.index.saved import Index, IndexReport, open_index

__all__ = ["INDEX_KINDS", "Index", "IndexReport", "VectorIndex", "build_index", "open_index", "register_index"]

__getattr__ = lazy(
    __name__,
    {
        "INDEX_KINDS": "rsretrieval.archive.index.base",
        "Index": "rsretrieval.archive.index.saved",
        "IndexReport": "rsretrieval.archive.index.saved",
        "VectorIndex": "rsretrieval.archive.index.base",
        "build_index": "rsretrieval.archive.index.build",
        "open_index": "rsretrieval.archive.index.saved",
        "register_index": "rsretrieval.archive.index.base",
    },
)
