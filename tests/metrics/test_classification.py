"""Confusions and accuracy by hand, and everything that is refused."""

import math

import pytest
import torch

from rsretrieval.metrics.classification import accuracy, confusion_matrix


def test_confusions_by_hand() -> None:
    labels, predicted = torch.tensor([0, 2, 2, 1, 2]), torch.tensor([0, 2, 0, 2, 2])
    assert confusion_matrix(labels, predicted, 3).tolist() == [[1, 0, 0], [0, 0, 1], [1, 0, 2]]
    assert confusion_matrix(labels[:1], predicted[:1], 1).tolist() == [[1]]
    assert confusion_matrix(labels[1:2], predicted[1:2], 3).tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    nothing = torch.zeros(0, dtype=torch.int64)
    assert confusion_matrix(nothing, nothing, 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("labels", "predicted", "message"),
    [
        ([0, 1], [0], r"labels \(2,\) and predictions \(1,\): give \(N,\) of both"),
        ([[0], [1]], [[0], [1]], r"labels \(2, 1\) and predictions \(2, 1\)"),
        ([0], [0, 1], r"labels \(1,\) and predictions \(2,\)"),
        (1, 1, r"labels \(\) and predictions \(\)"),
        ([0, 3], [0, 1], "classes run from 0 to 3, and there are 3: give 0 to 2"),
        ([0, 4], [1, 1], "classes run from 0 to 4, and there are 3: give 0 to 2"),
        ([1, 1], [-1, 2], "classes run from -1 to 2, and there are 3: give 0 to 2"),
    ],
)
def test_what_confusions_refuse(labels: int | list[int], predicted: int | list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        confusion_matrix(torch.tensor(labels), torch.tensor(predicted), 3)


def test_accuracy_by_hand() -> None:
    figures = accuracy(torch.tensor([[1, 3, 0], [0, 2, 0], [0, 0, 0]]))
    assert figures.overall == pytest.approx(100 * 3 / 6)
    assert figures.mean_of_classes == pytest.approx((25 + 100) / 2)  # the third has no image
    assert figures.by_class[:2] == [25.0, 100.0]
    assert math.isnan(figures.by_class[2])
    assert accuracy(torch.tensor([[4]])) == (100.0, 100.0, [100.0])
    assert accuracy(torch.tensor([[0, 1], [0, 2]])).mean_of_classes == 50.0  # a class of one image counts


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(2, 3, dtype=torch.int64), r"a matrix \(2, 3\) with 6 images has no accuracy"),
        (torch.ones(3, 2, dtype=torch.int64), r"a matrix \(3, 2\) with 6 images has no accuracy"),
        (torch.zeros(2, 2, dtype=torch.int64), r"a matrix \(2, 2\) with 0 images has no accuracy"),
        (torch.ones(2, 2, 2, dtype=torch.int64), r"a matrix \(2, 2, 2\) with 8 images has no accuracy"),
        (torch.ones(4, dtype=torch.int64), r"a matrix \(4,\) with 4 images has no accuracy"),
    ],
)
def test_what_accuracy_refuses(matrix: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy(matrix)
    many = torch.eye(300, dtype=torch.int64)  # numbers beyond those that Python keeps one object of
    assert accuracy(many).overall == 100.0
