"""Retrieval metrics over embeddings and owner ids."""

from rsretrieval.metrics.functional import TIES, retrieval_recall
from rsretrieval.metrics.retrieval import RetrievalRecall, text_ids

__all__ = ["TIES", "RetrievalRecall", "retrieval_recall", "text_ids"]
