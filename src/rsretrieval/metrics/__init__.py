"""Retrieval metrics: pure functions, and the torchmetrics class over them."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy
from rsretrieval.metrics.functional import TIES, retrieval_recall
from rsretrieval.metrics.hubness import HubnessConfig, hub_bias, hubness_corrected_recall

if TYPE_CHECKING:
    from rsretrieval.metrics.retrieval import CrossModalRecall, SplitEmbeddings

__all__ = [
    "TIES",
    "CrossModalRecall",
    "HubnessConfig",
    "SplitEmbeddings",
    "hub_bias",
    "hubness_corrected_recall",
    "retrieval_recall",
]

# torchmetrics takes longer to import than torch, and the functions do without it.
__getattr__ = lazy(__name__, dict.fromkeys(("CrossModalRecall", "SplitEmbeddings"), "rsretrieval.metrics.retrieval"))
