"""Remote-sensing image-text retrieval with PyTorch Lightning: FISVL and what builds on it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rsretrieval.retriever import Retriever

__version__ = "0.1.0"
__all__ = ["Retriever", "__version__"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - as Python wants it
    """Load what takes seconds to import only where it is used."""
    if name == "Retriever":
        from rsretrieval.retriever import Retriever

        return Retriever
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
