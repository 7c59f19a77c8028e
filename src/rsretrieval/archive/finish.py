"""Shards and what was there before to one sorted archive, replaced at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from rsretrieval.archive.item import write_item
from rsretrieval.archive.state import SHARDS, SOURCES, InputState, State, not_in, sources_table
from rsretrieval.embeddings import read_shard, shard_files, write_sorted
from rsretrieval.embeddings.file import KEY, NAME
from rsretrieval.embeddings.rows import schema
from rsretrieval.embeddings.shards import write_shard
from rsretrieval.files import write_csv, write_whole

OLD = "old"


def finish(folder: Path, model: dict[str, Any], now: dict[str, InputState], dropped: set[str]) -> State:
    """Sort all rows into ``embeddings.parquet``, and write what belongs to it; the shards are removed last.

    Args:
        folder: of the archive.
        model: what the file says of model and tiles.
        now: the inputs of this call.
        dropped: inputs whose rows leave the archive.

    Returns:
        What the archive then holds.

    Raises:
        OSError: naming the file, where the disk is full; called again it starts from the shards.
    """
    state = State(folder, model)
    result = {name: of for name, of in state.result(now).items() if name not in dropped}
    changed = dropped | {name for name, of in now.items() if state.has_changed(of)}
    new = _new_rows(state, result)
    if any(map(len, new)) or (changed and state.old is not None):
        _write(state, model, new, changed)
    del new  # memory-mapped
    table = sources_table(result[name] for name in sorted(result))
    write_whole(folder / SOURCES, lambda partial: pq.write_table(table, partial))
    rows = [(piece, reason) for name in sorted(result) for piece, reason in result[name].skipped]
    write_csv(folder / "skipped.csv", [("id", "reason"), *rows])
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    return State(folder, model)


def _write(state: State, model: dict[str, Any], new: list[pa.Table], changed: set[str]) -> None:
    """Replace ``embeddings.parquet`` and the item beside it."""
    old = state.folder / SHARDS / OLD
    shutil.rmtree(old, ignore_errors=True)
    form = schema(model["dimensions"], model["data_type"])
    ids = {id_ for table in new for id_ in table["id"].to_pylist()}
    for number, part in enumerate(_old_rows(state, ids, changed, form)):
        write_shard(old / f"00000-{number:06d}.arrow", part, {})
    tables = [form.empty_table(), *new, *(read_shard(file) for file in shard_files(old))]
    about = {**model, "written": str(uuid4())}
    write_sorted(state.folder / NAME, [table.replace_schema_metadata(None) for table in tables], {KEY: about})
    write_item(state.folder, about)


def _new_rows(state: State, result: dict[str, InputState]) -> list[pa.Table]:
    """Rows of the shards, each id once, of inputs as they are now."""
    tables, seen = [], set[str]()
    for shard in reversed(state.shards):
        rows, notes = state.rows_of(shard)
        stale = {name for name, note in notes.items() if name not in result or result[name].version != note.version}
        rows = not_in(rows, seen, stale, notes)
        seen |= set(rows["id"].to_pylist())
        tables.append(rows)
    return tables


def _old_rows(state: State, new_ids: set[str], changed: set[str], form: pa.Schema) -> Iterator[pa.Table]:
    """Rows that stay, with all columns."""
    if state.old is None:
        return
    for part in state.old.tables():
        rows = not_in(part, new_ids, changed, state.sources)
        missing = [name for name in form.names if name not in rows.column_names]
        for name in missing:
            rows = rows.append_column(form.field(name), pa.nulls(len(rows), form.field(name).type))
        if len(rows):
            yield rows.select(form.names).cast(form)


def notes(model: dict[str, Any], inputs: list[InputState]) -> dict[bytes, bytes]:
    """What a shard says of its rows."""
    return {b"model": json.dumps(model).encode(), b"inputs": json.dumps([asdict(of) for of in inputs]).encode()}
