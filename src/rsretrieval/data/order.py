"""Which samples an epoch has, and in which order: a pure function of seed and epoch.

Every training caption is used exactly once an epoch, up to the dropped last batch; every rank gets the same number of
batches. Rows of one block stay near each other, so that a stream reads a block about once.
"""

from __future__ import annotations

import numpy as np

from rsretrieval.data.datasets.ragged import Ints, lengths
from rsretrieval.data.table import Table


def has_blocks(table: Table) -> bool:
    """Whether rows are read several at once; each loading process then has blocks, and batches, of its own."""
    return max(table.blocks, default=1) > 1


def training_pairs(
    table: Table, epoch: int, seed: int, per_image: int | None, window: int, *, shuffle: bool = True
) -> Ints:
    """``(P, 2)`` row and caption number of every sample of an epoch, in its order.

    Args:
        table: the split.
        epoch: counted from 0.
        seed: of the order.
        per_image: captions of each image this epoch, taking turns over the epochs; None for all.
        window: rows that are shuffled together where blocks hold several rows.
        shuffle: False keeps the source's order.
    """
    counts = lengths(table.captions)
    taken = counts if per_image is None else np.minimum(per_image, counts)
    rng = np.random.default_rng([seed, epoch])
    rows = np.repeat(np.arange(len(counts)), taken)
    blocks = np.array(table.blocks)
    if not shuffle:
        order = np.arange(len(rows))
    elif (blocks == 1).all():
        order = rng.permutation(len(rows))
    else:
        shuffled = rng.permutation(len(blocks))
        group = np.empty(len(blocks), np.int64)
        group[shuffled] = (np.cumsum(blocks[shuffled]) - blocks[shuffled]) // window
        order = np.lexsort((rng.random(len(rows)), np.repeat(group, blocks)[rows]))
    rows = rows[order]
    numbers = order - (np.cumsum(taken) - taken)[rows]
    if per_image is not None:
        start = np.random.default_rng(seed).integers(0, np.maximum(counts, 1))
        numbers = (start[rows] + epoch * per_image + numbers) % counts[rows]
    return np.stack([rows, numbers], axis=1)


def training_batches(pairs: Ints, batch_size: int, shard: tuple[int, int], *, take_turns: bool) -> list[Ints]:
    """Row and caption number ``(batch_size, 2)`` of each batch of a rank; equally many full batches on every rank.

    Args:
        pairs: ``(P, 2)``, see :func:`training_pairs`.
        batch_size: of each rank.
        shard: the rank and the number of ranks.
        take_turns: the batches of all ranks are together those of one process with the global batch; False gives each
            rank one part of the epoch, so that none reads another's blocks.
    """
    rank, world = shard
    count = len(pairs) // (batch_size * world)
    pairs = pairs[: count * batch_size * world]
    if take_turns:
        return list(pairs.reshape(count, world, batch_size, 2)[:, rank])
    return list(pairs.reshape(world, count, batch_size, 2)[rank])


def training_length(table: Table, per_image: int | None, batch_size: int, world: int) -> int:
    """How many batches :func:`training_batches` gives."""
    counts = lengths(table.captions)
    return int((counts if per_image is None else np.minimum(per_image, counts)).sum()) // (batch_size * world)


def evaluation_batches(table: Table, batch_size: int, shard: tuple[int, int]) -> list[Ints]:
    """Rows of each batch of a rank: every row of it once over all ranks, in the source's order.

    Args:
        table: the split.
        batch_size: of each rank.
        shard: the rank and the number of ranks.
    """
    rank, world = shard
    rows = np.array_split(np.array(table.evaluated, np.int64), world)[rank]
    return [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
