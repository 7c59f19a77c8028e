"""Training: the LightningModule, value-guided stages, the optimiser, the callbacks and their report."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.training.callbacks import AveragedWeights, EmbeddingWriter, RetrievalReport, ValueGuidedLearning
    from rsretrieval.training.callbacks.report import figures_table
    from rsretrieval.training.module import RetrievalModule
    from rsretrieval.training.optimizer import OptimizerConfig
    from rsretrieval.training.picture import draw_results
    from rsretrieval.training.schedule import PAPER_STAGES, Stage

__all__ = [
    "PAPER_STAGES",
    "AveragedWeights",
    "EmbeddingWriter",
    "OptimizerConfig",
    "RetrievalModule",
    "RetrievalReport",
    "Stage",
    "ValueGuidedLearning",
    "draw_results",
    "figures_table",
]

_CALLBACKS = ("AveragedWeights", "EmbeddingWriter", "RetrievalReport", "ValueGuidedLearning")
__getattr__ = lazy(
    __name__,
    {
        **dict.fromkeys(_CALLBACKS, "rsretrieval.training.callbacks"),
        "figures_table": "rsretrieval.training.callbacks.report",
        "RetrievalModule": "rsretrieval.training.module",
        "OptimizerConfig": "rsretrieval.training.optimizer",
        "draw_results": "rsretrieval.training.picture",
        "PAPER_STAGES": "rsretrieval.training.schedule",
        "Stage": "rsretrieval.training.schedule",
    },
)
