"""Parts of the losses whose gradients are written by hand: autograd's own take several times as many passes.

On a CPU these passes are bound by memory, and each of the sums knows its gradient when it knows its value. They can be
differentiated once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor
from torch.autograd import Function

from rsretrieval.losses.membership import EPSILON

Context = Any
"""What torch keeps between forward and backward, which it leaves without a type."""

P = ParamSpec("P")
T = TypeVar("T")


def _once(backward: Callable[Concatenate[Context, Tensor, P], T]) -> Callable[Concatenate[Context, Tensor, P], T]:
    """Refuse a graph of the gradient, which torch's ``once_differentiable`` would silently leave without one.

    The gradient is computed in the precision of the loss, also where it is asked for within autocast.
    """

    @wraps(backward)
    def checked(ctx: Context, above: Tensor, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if torch.is_grad_enabled():
            raise NotImplementedError("the losses can be differentiated once: call backward without create_graph=True")
        with torch.autocast(above.device.type, enabled=False):
            return backward(ctx, above, *args, **kwargs)

    return checked


class CrossEntropy(Function):
    """``(R, B)`` cosines, a temperature and ``(R, B)`` members of 0 and 1 to the sum of the rows' cross-entropies.

    The targets of a row are ``∝ member + EPSILON``. ``across`` (``R = B``, members symmetric): plus the columns' sum.
    """

    @staticmethod
    def forward(ctx: Context, cosines: Tensor, temperature: Tensor, members: Tensor, across: bool) -> Tensor:
        """``Σ_i (log Σ_j exp s_ij - Σ_j p_ij s_ij)``, where ``s`` are the cosines over the temperature."""
        loss, weights, total = _log_sum_exp(cosines, temperature, 1)
        gradient = weights.div_(total)
        targets = members + EPSILON
        share = 1 / targets.sum(1, keepdim=True)
        if across:
            of_columns, weights, total = _log_sum_exp(cosines, temperature, 0)
            loss, gradient = loss + of_columns, gradient.addcdiv_(weights, total)
            share = share + share.T
        targets.mul_(share)
        loss = loss - _dot(targets, cosines) / temperature
        ctx.save_for_backward(gradient.sub_(targets), cosines, temperature)
        return loss

    @staticmethod
    @_once
    def backward(ctx: Context, above: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Of the cosines, where the softmax gives too much, and of the temperature."""
        gradient, cosines, temperature = ctx.saved_tensors
        scale = above / temperature
        return gradient * scale, -_dot(gradient, cosines) * scale / temperature, None, None


class ClassMeans(Function):
    """``(B, B)`` cosines and ``(C, B)`` shares of classes to ``(C, B)``, twice: means of columns, and of rows."""

    @staticmethod
    def forward(ctx: Context, cosines: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        """Each image with the texts of a class, each text with the images of a class."""
        ctx.save_for_backward(shares)
        return shares @ cosines.T, shares @ cosines

    @staticmethod
    @_once
    def backward(ctx: Context, of_images: Tensor, of_texts: Tensor) -> tuple[Tensor, None]:
        """Of the cosines."""
        (shares,) = ctx.saved_tensors
        return (of_images.T @ shares).addmm_(shares.T, of_texts), None


class NegativeShares(Function):
    """One side of the scene-adaptive loss: the rows of a modality against the hardest negatives within it.

    Args:
        embeddings: ``(B, d)`` of the modality.
        temperature: divisor of the cosines.
        rows: ``R`` pairs of the batch.
        hardest: ``(H,)`` distinct pairs that are somebody's hardest negative.
        columns: ``(C, H)``, how often each is one, in the row of its class.
        kind: ``(R,)`` class of each row.
        weights: of a negative of another class, and of the same.
        below: scores up to it count as 0.
    """

    @staticmethod
    def forward(
        ctx: Context,
        embeddings: Tensor,
        temperature: Tensor,
        rows: slice,
        hardest: Tensor,
        columns: Tensor,
        kind: Tensor,
        weights: tuple[float, float],
        below: float,
    ) -> Tensor:
        """``Σ_i Σ_j P_ij w_ij``: the softmax with a constant in its denominator, shifted so that exp is at most 1."""
        left, right = embeddings[rows], embeddings.index_select(0, hardest)
        scores = (left @ right.T).div_(temperature)  # (R, H)
        confusion = F.threshold(scores, below, 0)  # Q
        shift = confusion.amax(1, keepdim=True)
        exponentials = confusion.sub_(shift).exp_()
        of_kinds = exponentials @ columns.T  # (R, C)
        constant = (-shift).exp_().mul_(EPSILON)
        total = of_kinds.sum(1, keepdim=True) + constant
        own, more = kind[:, None], weights[1] - weights[0]
        within = of_kinds.gather(1, own) / total
        gradient = ((weights[0] * constant / total - more * within) / total).repeat(1, len(columns))
        gradient.scatter_add_(1, own, more / total)
        of_scores = torch.ops.aten.threshold_backward((gradient @ columns).mul_(exponentials), scores, below)
        ctx.save_for_backward(left, right, of_scores, hardest, temperature)
        ctx.rows, ctx.count = rows, len(embeddings)
        # Written so that the nearly equal weights of both kinds do not cancel in float32.
        loss: Tensor = (weights[0] * (1 - constant / total) + more * within).sum()
        return loss

    @staticmethod
    @_once
    def backward(ctx: Context, above: Tensor) -> tuple[Tensor | None, ...]:
        """Of the embeddings, as rows and as negatives, and of the temperature."""
        left, right, of_scores, hardest, temperature = ctx.saved_tensors
        of_scores = of_scores * (above / temperature)
        gradient = of_scores @ right
        # By the embeddings: of the scores, large terms would cancel in float32.
        of_temperature = -_dot(gradient, left) / temperature
        if len(left) < ctx.count:
            gradient, part = gradient.new_zeros(ctx.count, gradient.shape[1]), gradient
            gradient[ctx.rows] = part
        gradient.index_add_(0, hardest, of_scores.T @ left)
        return gradient, of_temperature, *[None] * 6


def _log_sum_exp(cosines: Tensor, temperature: Tensor, dim: int) -> tuple[Tensor, Tensor, Tensor]:
    """Their sum over the rows (``dim`` 1) or columns (0), the exponentials, and the sums of these."""
    shift = cosines.amax(dim, keepdim=True)
    weights = (cosines - shift).div_(temperature).exp_()
    total = weights.sum(dim, keepdim=True)
    return (total.log() + shift / temperature).sum(), weights, total


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return torch.dot(a.flatten(), b.flatten())
