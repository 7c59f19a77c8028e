"""Callbacks: stages, figures for loggers, averaged weights, what a person sees, embeddings as a file, a common end."""

from rsretrieval.training.callbacks.averaging import AveragedWeights
from rsretrieval.training.callbacks.embeddings import EmbeddingWriter
from rsretrieval.training.callbacks.ending import EndsTogether
from rsretrieval.training.callbacks.figures import TrainingFigures
from rsretrieval.training.callbacks.report import RetrievalReport
from rsretrieval.training.callbacks.tracking import Tracking
from rsretrieval.training.callbacks.value_guided import ValueGuidedLearning

__all__ = [
    "AveragedWeights",
    "EmbeddingWriter",
    "EndsTogether",
    "RetrievalReport",
    "Tracking",
    "TrainingFigures",
    "ValueGuidedLearning",
]
