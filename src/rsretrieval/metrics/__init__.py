"""Retrieval metrics over embeddings and owner ids."""

from rsretrieval.metrics.functional import TIES, retrieval_recall
from rsretrieval.metrics.retrieval import Embeddings, RetrievalRecall

__all__ = ["TIES", "Embeddings", "RetrievalRecall", "retrieval_recall"]
