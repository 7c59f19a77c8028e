"""Shards and what was there before to one sorted archive, replaced at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rsretrieval.archive.item import write_item
from rsretrieval.archive.rewrite import rewrite
from rsretrieval.archive.state import SHARDS, SOURCES, InputState, State, not_in, sources_table
from rsretrieval.files import write_csv, write_whole


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
        write_item(folder, rewrite(folder, model, _old_rows(state, new, changed), new))
    del new  # memory-mapped
    table = sources_table(result[name] for name in sorted(result))
    write_whole(folder / SOURCES, lambda partial: pq.write_table(table, partial))
    rows = [(piece, reason) for name in sorted(result) for piece, reason in result[name].skipped]
    write_csv(folder / "skipped.csv", [("id", "reason"), *rows])
    shutil.rmtree(folder / SHARDS, ignore_errors=True)
    return State(folder, model)


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


def _old_rows(state: State, new: list[pa.Table], changed: set[str]) -> Iterator[pa.Table]:
    """Rows that stay."""
    ids = {id_ for table in new for id_ in table["id"].to_pylist()}
    for part in state.old.tables() if state.old is not None else ():
        yield not_in(part, ids, changed, state.sources)
