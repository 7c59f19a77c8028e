"""A batch in parts: to save memory where it trains, and on a CPU, where nothing trains, to use every core.

There each thread has a core of its own and does not wait for the others. Threads that share every operation meet at its
end: with another program on the cores one of them comes late each time, and two were five times slower than one; idle,
both ways are equally fast.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rsretrieval.models.feature_cache import Inputs, take_rows, trains

CPU_BATCH = 8
"""Images that a CPU sees at a time where its cores work together. At 224 pixels, 16 take twice as long each: maps of
more than 32 MiB are memory that glibc gives back and faults in anew."""
CORE_TEXTS = 32
"""Texts that a core sees at a time."""
Item = TypeVar("Item")
Result = TypeVar("Result")


def core_images(network: nn.Module) -> int:
    """Images that a core sees at a time: few, whose maps stay in its cache; more where the weights would not anyway."""
    return 4 if sum(parameter.numel() for parameter in network.parameters()) < 64e6 else 16


def in_pieces(function: Callable[[Inputs], Sequence[Tensor]], inputs: Inputs, largest: int | None) -> Sequence[Tensor]:
    """What a function gives for a batch whose rows do not depend on one another.

    Where no gradients are taken and a CPU computes, in pieces: on as many threads as torch would use, or on the
    caller's own where that is one. A graph that is traced is for batches of any size, and has no pieces.

    Args:
        function: such inputs to tensors ``(b, ...)``.
        inputs: of ``B`` rows.
        largest: rows of a piece at most; fewer where there are threads for more pieces. None for all at once.

    Returns:
        The tensors, of all ``B`` rows.
    """
    rows = next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs
    if largest is None or torch.is_grad_enabled() or torch.compiler.is_compiling() or rows.device.type != "cpu":
        return function(inputs)
    threads = torch.get_num_threads()
    size = max(min(largest, math.ceil(len(rows) / threads)), 1)
    if len(rows) <= size:
        return function(inputs)
    pieces = [take_rows(inputs, slice(start, start + size)) for start in range(0, len(rows), size)]
    return [torch.cat(parts) for parts in zip(*on_cores(_as_here(function), pieces), strict=True)]


def in_chunks(encode: Callable[[Inputs], Tensor], inputs: Inputs, size: int | None, weight: Tensor) -> Tensor:
    """What a network gives for a batch; where gradients are taken in chunks, each of them again in the backward pass.

    Args:
        encode: such inputs to ``(b, d)``.
        inputs: of ``B`` rows.
        size: rows of a chunk; None for all at once.
        weight: on the network's device, which tells whose random numbers are drawn again.

    Returns:
        ``(B, d)``.
    """
    count = len(next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs)
    if size is None or size >= count or not torch.is_grad_enabled():
        return encode(inputs)
    chunks = [take_rows(inputs, slice(start, start + size)) for start in range(0, count, size)]
    return torch.cat([checkpoint(lambda chunk, _: encode(chunk), c, weight, use_reentrant=False) for c in chunks])


def without_training(network: nn.Module, images: Tensor) -> Sequence[Tensor]:
    """What a network gives for images; where neither is trained, in pieces, beside others that are."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and (images.requires_grad or trains(network))):
        return in_pieces(network, images, None if network.training else core_images(network))


def on_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The function's results in order, from as many threads as torch uses in the caller's."""
    threads = torch.get_num_threads()
    # A fork of the process has none of its threads, and so a pool of its own.
    return map(function, items) if threads == 1 else _pool(os.getpid(), threads).map(function, items)


def _as_here(function: Callable[[Inputs], Sequence[Tensor]]) -> Callable[[Inputs], Sequence[Tensor]]:
    """The function under the caller's modes, which a thread does not inherit."""
    inference, autocast = torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    precision = torch.get_autocast_dtype("cpu")

    def run(piece: Inputs) -> Sequence[Tensor]:
        with torch.inference_mode(inference), torch.no_grad(), torch.autocast("cpu", precision, autocast):
            return function(piece)

    return run


@cache
def _pool(_: int, threads: int) -> ThreadPoolExecutor:
    """Threads of one core each, of a process; what torch uses elsewhere stays as it was."""
    pool, all_there = ThreadPoolExecutor(threads, "encode", _use_one_core), threading.Barrier(threads)
    list(pool.map(lambda _: all_there.wait(), range(threads)))
    torch.set_num_threads(threads)  # for threads to come: it is a thread's own in those that have computed
    return pool


def _use_one_core() -> None:
    torch.get_num_threads()  # the first call takes the process's number, whatever was set here
    torch.set_num_threads(1)
