"""How each query of a split went, as a file of the run's folder: what two runs are compared by, query by query."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from rsretrieval.data.table import Table
from rsretrieval.files import write_whole
from rsretrieval.metrics import SplitEmbeddings
from rsretrieval.metrics.functional import ranks_of_pairs
from rsretrieval.metrics.protocol import relevant_pairs
from rsretrieval.records.queries import KEY
from rsretrieval.training.results import caption_texts


def write_queries(file: Path, records: pa.Table, about: Mapping[str, Any]) -> None:
    """Write what :func:`query_records` gives.

    Args:
        file: see :func:`rsretrieval.records.queries.query_file`.
        records: the queries.
        about: what they are of; plain values.
    """
    records = records.replace_schema_metadata({KEY: json.dumps(about)})
    write_whole(file, lambda partial: pq.write_table(records, partial, compression="zstd"))


def query_records(table: Table, embeddings: SplitEmbeddings, queries: str, *, scenes: bool) -> pa.Table:
    """A row a query: what it is, and where its best own item stands.

    Columns: ``way`` (``i2t`` or ``t2i``), ``file`` of the image, ``caption`` (null for an image's query), ``scene``,
    ``above``, ``tied`` and ``own``, the first arguments of :func:`rsretrieval.metrics.functional.hit_probability`.

    Args:
        table: the text side of the split.
        embeddings: of it.
        queries: ``every`` caption, or each ``distinct`` one, which belongs to the first of its images here.
        scenes: whether the split has scene labels; without, ``scene`` is null.
    """
    asked = embeddings.asked(queries)
    pairs = relevant_pairs(embeddings.owners, asked["distinct_ids"])
    ranks = ranks_of_pairs(embeddings.image, asked["text"][pairs.rows], pairs.captions, pairs.images)
    texts = caption_texts(table, embeddings)
    captions = [texts[row] for row in embeddings.caption_rows[pairs.rows].tolist()]
    every_image = torch.arange(len(embeddings.image), device=embeddings.owners.device)
    parts = [
        _part("i2t", table, embeddings, every_image, [None] * len(every_image), ranks["i2t"], scenes=scenes),
        _part("t2i", table, embeddings, embeddings.owners[pairs.rows], captions, ranks["t2i"], scenes=scenes),
    ]
    return pa.concat_tables(parts)


def _part(
    way: str,
    table: Table,
    embeddings: SplitEmbeddings,
    images: Tensor,
    captions: Sequence[str | None],
    ranks: tuple[Tensor, Tensor, Tensor],
    *,
    scenes: bool,
) -> pa.Table:
    rows = embeddings.image_ids[images].tolist()
    named = [table.scene_names[table.scenes[row]] if scenes else None for row in rows]
    columns = {
        "way": pa.array([way] * len(rows), pa.string()),
        "file": pa.array([table.names[row] for row in rows], pa.string()),
        "caption": pa.array(captions, pa.string()),
        "scene": pa.array(named, pa.string()),
        **{name: pa.array(counts.numpy()) for name, counts in zip(("above", "tied", "own"), ranks, strict=True)},
    }
    return pa.table(columns)
