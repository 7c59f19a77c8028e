"""Retrieval metrics: pure functions, and the torchmetrics class over them."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy
from rsretrieval.metrics.bootstrap import Difference, paired_bootstrap
from rsretrieval.metrics.ceiling import recall_ceiling
from rsretrieval.metrics.functional import recall_of_pairs, retrieval_recall
from rsretrieval.metrics.graded import graded_retrieval
from rsretrieval.metrics.hubness import HubnessConfig, hub_bias, hubness_corrected_recall
from rsretrieval.metrics.protocol import QUERIES, TIES

if TYPE_CHECKING:
    from rsretrieval.metrics.localization import LocalizationFigures, attention_centres, localization_figures
    from rsretrieval.metrics.retrieval import CrossModalRecall, SplitEmbeddings

__all__ = [
    "QUERIES",
    "TIES",
    "CrossModalRecall",
    "Difference",
    "HubnessConfig",
    "LocalizationFigures",
    "SplitEmbeddings",
    "attention_centres",
    "graded_retrieval",
    "hub_bias",
    "hubness_corrected_recall",
    "localization_figures",
    "paired_bootstrap",
    "recall_ceiling",
    "recall_of_pairs",
    "retrieval_recall",
]

# torchmetrics takes longer to import than torch, and most functions do without it and OpenCV.
__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(("CrossModalRecall", "SplitEmbeddings"), "rsretrieval.metrics.retrieval"),
        **dict.fromkeys(
            ("LocalizationFigures", "attention_centres", "localization_figures"), "rsretrieval.metrics.localization"
        ),
    },
)
