"""Everything that knows about processes; each function also works where there is only one.

Gradients: every rank gathers the embeddings of all ranks with :func:`gather` and computes the loss of the whole
batch, or its own rows' part of it (:func:`sum_of_ranks`). The backward of the first adds what all ranks ask of a rank's
rows, and DDP's mean over the ranks then gives the gradient of one process that holds the whole batch.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.nn.functional import all_gather

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether more than one process takes part."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rows_of_ranks(tensor: Tensor) -> list[int]:
    """Number of rows of ``tensor`` on each rank."""
    if not is_distributed():
        return [len(tensor)]
    counts = [torch.zeros(1, dtype=torch.int64, device=tensor.device) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, torch.tensor([len(tensor)], device=tensor.device))
    return [int(count) for count in counts]


def gather(tensor: Tensor, sizes: Sequence[int]) -> Tensor:
    """Rows of all ranks in the order of the ranks, with gradients; ranks may hold different numbers of rows.

    Args:
        tensor: ``(n, ...)``, equal on all ranks but for ``n``.
        sizes: ``n`` of each rank, from :func:`rows_of_ranks`.

    Returns:
        ``(sum of n, ...)``; the tensor itself in a single process.
    """
    if not is_distributed():
        return tensor
    missing = max(sizes) - len(tensor)
    padded = torch.cat([tensor, tensor.new_zeros(missing, *tensor.shape[1:])]) if missing else tensor.contiguous()
    if padded.requires_grad:
        parts = list(all_gather(padded))  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    else:
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
    return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])


def sum_of_ranks(part: Tensor) -> Tensor:
    """The sum over the ranks of a loss of which each computes a part, with the gradient that DDP's mean makes whole.

    Args:
        part: ``()`` of this rank; the sum of all is the loss of the global batch.

    Example:
        >>> sum_of_ranks(torch.tensor(1.5))
        tensor(1.5000)
    """
    if not is_distributed():
        return part
    total = part.detach().clone()
    dist.all_reduce(total)
    scaled = part * dist.get_world_size()
    return scaled + (total - scaled.detach())


def rows_of_all(part: Tensor, rows: slice, count: int) -> Tensor:
    """``(count,)``: what each rank has for its own ``rows``, put together; without gradients."""
    if not is_distributed():
        return part
    whole = part.new_zeros(count)
    whole[rows] = part
    dist.all_reduce(whole)
    return whole


def gather_objects(value: T) -> list[T]:
    """The value of each rank, in the order of the ranks; any that can be pickled.

    Example:
        >>> gather_objects("alone")
        ['alone']
    """
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def cpu_group() -> Any:  # noqa: ANN401 - torch has no public type for it
    """A group of all ranks that talks without their devices, which would have to finish first; every rank calls it."""
    return dist.new_group(backend="gloo") if is_distributed() and dist.get_backend() != "gloo" else None


def any_rank(flag: bool, group: Any = None) -> bool:  # noqa: ANN401
    """Whether it is so on any rank.

    Args:
        flag: of this rank.
        group: see :func:`cpu_group`.

    Example:
        >>> any_rank(True)
        True
    """
    if not is_distributed():
        return flag
    flags = torch.tensor([flag], dtype=torch.int32)
    dist.all_reduce(flags, dist.ReduceOp.MAX, group)
    return bool(flags)


def rank() -> int:
    """This process's number, from 0."""
    return dist.get_rank() if is_distributed() else 0


def run_seed() -> int:
    """The seed that Lightning's ``seed_everything`` gave to all processes of the run; 0 where it was not called."""
    return int(os.environ.get("PL_GLOBAL_SEED", 0))
