"""Accuracy of classification, over all and by class, from the matrix of confusions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.metrics.inputs import integers


class Accuracy(NamedTuple):
    """Figures of a classification, in percent.

    Attributes:
        overall: of all images.
        mean_of_classes: over the classes that have images, however many each has.
        by_class: of each class; NaN for one without images.
    """

    overall: float
    mean_of_classes: float
    by_class: list[float]


def confusion_matrix(labels: Tensor, predicted: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each.

    Args:
        labels: ``(N,)`` integers, the class of each image.
        predicted: ``(N,)`` integers.
        classes: how many there are.

    Returns:
        ``(classes, classes)`` int64: row the label, column the prediction.

    Raises:
        TypeError: for what is no integers.
        ValueError: for lengths that differ, or a class that does not exist.

    Example:
        >>> confusion_matrix(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), 2)
        tensor([[1, 1],
                [0, 1]])
    """
    labels, predicted = integers("labels", labels), integers("predictions", predicted)
    if labels.ndim != 1 or labels.shape != predicted.shape:
        raise ValueError(f"labels {tuple(labels.shape)} and predictions {tuple(predicted.shape)}: give (N,) of both")
    both = torch.cat([labels, predicted])
    if len(both) and not 0 <= int(both.min()) <= int(both.max()) < classes:
        raise ValueError(
            f"classes run from {int(both.min())} to {int(both.max())}, and there are {classes}: give 0 to {classes - 1}"
        )
    return torch.bincount(labels * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(confusion: Tensor) -> Accuracy:
    """The figures of a matrix of confusions.

    Args:
        confusion: see :func:`confusion_matrix`.

    Raises:
        ValueError: for a matrix that is not square, or of no image.

    Example:
        Of two images of the first class one is right, of six of the second all:

        >>> accuracy(torch.tensor([[1, 1], [0, 6]]))
        Accuracy(overall=87.5, mean_of_classes=75.0, by_class=[50.0, 100.0])
    """
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or not int(confusion.sum()):
        raise ValueError(f"a matrix {tuple(confusion.shape)} with {int(confusion.sum())} images has no accuracy")
    right, images = confusion.diagonal().double(), confusion.sum(1).double()
    by_class = 100 * right / images
    overall = 100 * float(right.sum() / images.sum())
    return Accuracy(overall, float(by_class[images > 0].mean()), by_class.tolist())
