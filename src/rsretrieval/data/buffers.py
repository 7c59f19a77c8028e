"""Shared memory that a loader's worker writes its batches to, over and over."""

from __future__ import annotations

import torch
from torch import Tensor


class BufferRing:
    """Buffers for image batches that take turns: new shared memory takes as long as decoding the images.

    A buffer is free again by the time its turn comes only where whoever takes the batches copies each before it asks
    for the one that is ``count`` further on.

    Args:
        count: of the buffers.
        shape: of each, ``(B, H, W, 3)`` uint8.
    """

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        self._buffers = [torch.empty(shape, dtype=torch.uint8) for _ in range(count)]
        for buffer in self._buffers:
            buffer.share_memory_()  # type: ignore[no-untyped-call]

    def next(self, rows: int) -> Tensor:
        """``(rows, H, W, 3)`` of the buffer whose turn it is."""
        self._buffers.append(self._buffers.pop(0))
        return self._buffers[-1][:rows]
