"""Retrieval metrics: pure functions, and the torchmetrics class over them."""

from rsretrieval.metrics.functional import retrieval_recall
from rsretrieval.metrics.rerank import RerankConfig, reranked_recall
from rsretrieval.metrics.retrieval import Embeddings, RetrievalRecall

__all__ = ["Embeddings", "RerankConfig", "RetrievalRecall", "reranked_recall", "retrieval_recall"]
