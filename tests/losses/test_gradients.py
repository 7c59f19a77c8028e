"""Gradients that are written by hand are those of their sums."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.autograd import gradcheck

from rsretrieval.losses.gradients import ClassMeans, CrossEntropy, NegativeShares
from rsretrieval.losses.membership import EPSILON, in_class, same_id, soft_membership

IDS = torch.tensor([4, 4, 9, 2, 9, 7, 1])
ALL = slice(None)
KIND = torch.tensor([0, 1, 0, 2, 0, 1, 2])


def cosines() -> tuple[Tensor, Tensor]:
    """``(7, 7)`` and ``(7, 5)``, the embeddings that they come from."""
    image, text = (
        F.normalize(torch.randn(7, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64), dim=1)
        for seed in (0, 1)
    )
    return (image @ text.T).requires_grad_(), text.requires_grad_()


def temperature(value: float = 0.5) -> Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("across", [False, True])
def test_cross_entropy(across: bool) -> None:
    scores, _ = cosines()
    members = same_id(IDS, torch.float64)
    assert gradcheck(lambda s, t: CrossEntropy.apply(s, t, members, across), (scores, temperature()))
    targets = soft_membership(members)
    expected = F.cross_entropy(scores / 0.5, targets, reduction="sum")
    expected = expected + F.cross_entropy(scores.T / 0.5, targets, reduction="sum") * across
    torch.testing.assert_close(CrossEntropy.apply(scores, temperature(), members, across), expected)


def test_cross_entropy_of_large_numbers() -> None:
    scores = torch.tensor([[1000.0, 1000.0], [-1000.0, 3.0]])
    loss = CrossEntropy.apply(scores, torch.tensor(1.0), torch.zeros(2, 2), False)
    torch.testing.assert_close(loss, (scores.logsumexp(1) - scores.mean(1)).sum())


def test_class_means() -> None:
    scores, _ = cosines()
    shares = soft_membership(in_class(KIND, 3, torch.float64))
    assert gradcheck(lambda s: ClassMeans.apply(s, shares), (scores,))


@pytest.mark.parametrize("below", [-0.2, 0.3])
@pytest.mark.parametrize("rows", [slice(None), slice(2, 5)])
def test_negative_shares(rows: slice, below: float) -> None:
    _, text = cosines()
    hardest = torch.tensor([0, 2, 6])
    columns = in_class(KIND[hardest], 3, torch.float64) * torch.tensor([4, 1, 2])
    options = (rows, hardest, columns, KIND[rows], (0.3, 1.7), below)
    assert gradcheck(lambda x, t: NegativeShares.apply(x, t, *options), (text, temperature()))


def test_of_one_negative_of_another_scene_the_constant_alone_has_a_gradient() -> None:
    """Its share is all but 6e-5 of the whole, which no tolerance of the test above would see."""
    _, text = cosines()
    columns = in_class(KIND[[1]], 3, torch.float64)
    loss = NegativeShares.apply(
        text, temperature(), slice(0, 1), torch.tensor([1]), columns, KIND[:1], (0.3, 1.7), -9.0
    )
    weight = (text[0] @ text[1] / temperature()).exp()
    expected = 0.3 * weight / (weight + EPSILON)
    (ours,), (wanted,) = (torch.autograd.grad(value, text) for value in (loss, expected))
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=0)


def test_a_second_derivative_is_refused() -> None:
    scores, text = cosines()
    shares, columns = soft_membership(in_class(KIND, 3, torch.float64)), in_class(KIND[[1]], 3, torch.float64)
    for loss, of in (
        (CrossEntropy.apply(scores, temperature(), same_id(IDS, torch.float64), True), scores),
        (ClassMeans.apply(scores, shares)[0].sum(), scores),
        (NegativeShares.apply(text, temperature(), ALL, torch.tensor([1]), columns, KIND, (0.3, 1.7), -9.0), text),
    ):
        with pytest.raises(NotImplementedError, match="once"):
            torch.autograd.grad(loss, of, create_graph=True)
