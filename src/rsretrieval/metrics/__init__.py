"""Retrieval metrics over embeddings and owner ids."""

from rsretrieval.metrics.functional import TIES, retrieval_recall

__all__ = ["TIES", "retrieval_recall"]
