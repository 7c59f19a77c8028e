"""What the metrics are given, checked and made alike: arrays and lists become tensors, and precisions meet.

Nothing else here looks at types and shapes, so that a metric is its formula.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def dense(name: str, value: object) -> Tensor:
    """A tensor of what is one, or becomes one, such as an array or a list of numbers.

    Raises:
        TypeError: for anything else, sparse tensors and complex numbers among it.
    """
    try:
        tensor = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} is a {type(value).__name__} that makes no tensor ({error}): give a tensor, an array or a list of "
            "numbers; torch.stack makes one of several tensors"
        ) from error
    if tensor.layout is not torch.strided or tensor.is_complex():
        raise TypeError(f"{name} is a tensor of {tensor.dtype}, {tensor.layout}: give a dense one of real numbers")
    return tensor


def integers(name: str, value: object) -> Tensor:
    """Numbers or ids as int64, of any type of integers.

    Raises:
        TypeError: for other numbers, which could be rounded ids or a mask.
    """
    tensor = dense(name, value)
    if tensor.numel() and (tensor.is_floating_point() or tensor.dtype == torch.bool):
        raise TypeError(f"{name} has {tensor.dtype}: give integers, such as torch.int64")
    return tensor.long()


def rows_of(name: str, value: object, count: int, kind: str, other: str) -> Tensor:
    """Rows of ``count`` things of a ``kind``, each there once or more.

    Args:
        name: of the argument.
        value: ``(P,)`` integers.
        count: of the things.
        kind: what they are, for messages.
        other: what each of the rows stands for.

    Raises:
        TypeError: as :func:`integers`.
        ValueError: for a row that does not exist, and for things that are not there.
    """
    rows = integers(name, value)
    if rows.ndim != 1:
        raise ValueError(f"{name} {tuple(rows.shape)}: give (P,), the {kind}'s row for each {other}")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise ValueError(
            f"{name} run from {int(rows.min())} to {int(rows.max())}, the {kind}s from 0 to {count - 1}: each is the "
            f"row of the {other}'s {kind}"
        )
    without = (torch.bincount(rows, minlength=count) == 0).nonzero()[:, 0].tolist()
    if without or not count:
        raise ValueError(
            f"{len(without)} of {count} {kind}s have no {other} (rows {without[:5]}): recall needs one {other} or more "
            f"for every {kind}; leave the others out"
        )
    return rows


def matching(**embeddings: object) -> tuple[Tensor, Tensor]:
    """Two sets of embeddings of one width as ``(N, d)`` and ``(M, d)``, whatever their values.

    Args:
        embeddings: by their names.

    Returns:
        Both on the first one's device; in float64 where one of them is, and else in float32.

    Raises:
        TypeError: for what is no dense tensor of real numbers.
        ValueError: for other shapes.
    """
    first, second = (dense(name, value) for name, value in embeddings.items())
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or not first.shape[1]:
        shapes = " and ".join(f"{n} {tuple(x.shape)}" for n, x in zip(embeddings, (first, second), strict=True))
        raise ValueError(f"{shapes} do not go together: give (N, d) and (M, d) of one width, 1 or more")
    precision = torch.float64 if torch.float64 in (first.dtype, second.dtype) else torch.float32
    return first.to(precision), second.to(first.device, precision)


def comparable(**embeddings: object) -> tuple[Tensor, Tensor]:
    """See :func:`matching`; embeddings whose products can be ranked.

    Raises:
        TypeError: as there.
        ValueError: as there; for NaN or infinity, and for numbers so large or small that no product of them is one.
    """
    first, second = matching(**embeddings)
    sizes = [max(abs(float(x)) for x in side.detach().aminmax()) if side.numel() else 0.0 for side in (first, second)]
    if not all(map(math.isfinite, sizes)):
        raise ValueError("the embeddings contain NaN or infinity: the model diverged, or its input is broken")
    limits, largest = torch.finfo(first.dtype), sizes[0] * sizes[1]
    if largest * first.shape[1] > limits.max or (min(sizes) > 0 and largest < limits.tiny):
        raise ValueError(
            f"the embeddings have numbers up to {sizes[0]:.3g} and {sizes[1]:.3g}, whose products {first.dtype} cannot "
            "hold: divide each row by its norm"
        )
    return first, second


def comparable_with_owners(image: object, text: object, owners: object) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`comparable`, and the row of ``image`` that each row of ``text`` belongs to.

    Raises:
        TypeError: as :func:`comparable` and :func:`integers`.
        ValueError: as :func:`comparable` and :func:`rows_of`, and if there is not one owner a text.
    """
    image, text = comparable(image=image, text=text)
    owners = integers("owners", owners).to(image.device)
    if owners.shape != text.shape[:1]:
        raise ValueError(
            f"text {tuple(text.shape)} and owners {tuple(owners.shape)} do not go together: give one owner a caption"
        )
    return image, text, rows_of("owners", owners, len(image), "image", "caption")
