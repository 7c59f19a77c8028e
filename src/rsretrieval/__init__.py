"""Remote-sensing image-text retrieval with PyTorch Lightning: FISVL and what builds on it."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval import losses, metrics
    from rsretrieval.data import RetrievalDataModule, register_dataset
    from rsretrieval.losses import register_loss
    from rsretrieval.models import EncoderConfig, TowerConfig, register_image_tower, register_text_tower
    from rsretrieval.retriever import Retriever
    from rsretrieval.training import RetrievalModule

__version__ = "0.1.0"
__all__ = [
    "EncoderConfig",
    "RetrievalDataModule",
    "RetrievalModule",
    "Retriever",
    "TowerConfig",
    "__version__",
    "losses",
    "metrics",
    "register_dataset",
    "register_image_tower",
    "register_loss",
    "register_text_tower",
]

__getattr__ = lazy(
    __name__,
    {
        "EncoderConfig": "rsretrieval.models",
        "TowerConfig": "rsretrieval.models",
        "register_image_tower": "rsretrieval.models",
        "register_text_tower": "rsretrieval.models",
        "RetrievalDataModule": "rsretrieval.data",
        "register_dataset": "rsretrieval.data",
        "RetrievalModule": "rsretrieval.training",
        "Retriever": "rsretrieval.retriever",
        "register_loss": "rsretrieval.losses",
        "losses": "rsretrieval.losses",
        "metrics": "rsretrieval.metrics",
    },
)
