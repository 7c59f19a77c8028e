"""The sorted file of an archive, written anew from rows that come in parts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa

from rsretrieval.embeddings import read_shard, shard_files, write_sorted
from rsretrieval.embeddings.file import KEY, NAME
from rsretrieval.embeddings.rows import schema
from rsretrieval.embeddings.shards import write_shard

PARTS = "edit"
"""Folder of an archive for rows that are being sorted in."""


def rewrite(
    folder: Path, about: dict[str, Any], parts: Iterable[pa.Table], others: Sequence[pa.Table] = ()
) -> dict[str, Any]:
    """Replace ``embeddings.parquet`` by rows that may be more than memory holds.

    Args:
        folder: of the archive.
        about: what the file will say of model and tiles.
        parts: rows as the old file has them, which may lack the columns of places.
        others: more rows, memory-mapped, with all columns.

    Returns:
        ``about`` with another ``written``.

    Raises:
        OSError: naming the file, where the disk is full; what was there is as it was.
    """
    form = schema(about["dimensions"], about["data_type"])
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    for number, part in enumerate(part for part in parts if len(part)):
        for name in form.names:
            if name not in part.column_names:  # no row of that archive has a place
                part = part.append_column(form.field(name), pa.nulls(len(part), form.field(name).type))
        write_shard(folder / PARTS / f"00000-{number:06d}.arrow", part.select(form.names).cast(form), {})
    tables = [form.empty_table(), *others, *(read_shard(file) for file in shard_files(folder / PARTS))]
    about = {**about, "written": str(uuid4())}
    write_sorted(folder / NAME, [table.replace_schema_metadata(None) for table in tables], {KEY: about})
    del tables  # memory-mapped
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    return about
