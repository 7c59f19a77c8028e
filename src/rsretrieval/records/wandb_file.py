"""The records of a W&B run's file, as it lies in the folder of an offline run.

A log of LevelDB's form behind seven bytes of W&B's own, each record a protobuf. wandb 0.31 has a reader of it no more
in Python.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

HEADER, BLOCK = 7, 2**15
"""Bytes: of the file's beginning, which counts as the first block's, and of a block."""
WHOLE, FIRST, LAST = 1, 2, 4


class WandbFileError(ValueError):
    """A file that is none of W&B's."""


def messages(file: Path) -> Iterator[bytes]:
    """What the log holds; a last record that is not whole, of a run that was killed, is left out.

    Raises:
        WandbFileError: if the file is of another kind.
    """
    content, place, parts = file.read_bytes(), HEADER, b""
    if content[:4] != b":W&B":
        raise WandbFileError(f"'{file}' is no file of a W&B run: it does not begin by ':W&B'")
    while place + 7 <= len(content):
        if BLOCK - place % BLOCK < 7:  # too short for the head of a record: filled with zeros
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        chunk = content[place + 7 : place + 7 + length]
        if kind == 0 or len(chunk) < length:
            return
        parts = chunk if kind in (WHOLE, FIRST) else parts + chunk
        place += 7 + length
        if kind in (WHOLE, LAST):
            yield parts


def records(file: Path) -> list[Any]:
    """The records of a run's file, in order."""
    from wandb.proto import wandb_internal_pb2

    record: Any = vars(wandb_internal_pb2)["Record"]  # made at import, unknown to type checkers
    return [record.FromString(message) for message in messages(file)]


def _values(items: Iterable[Any]) -> dict[str, Any]:
    return {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that were logged, without W&B's own columns."""
    rows = (_values(record.history.item) for record in records(file) if record.WhichOneof("record_type") == "history")
    return [{name: value for name, value in row.items() if not name.startswith("_")} for row in rows]


def config(file: Path) -> dict[str, Any]:
    """The configuration after all updates."""
    settings: dict[str, Any] = {}
    for record in records(file):
        kind = record.WhichOneof("record_type")
        if kind in ("run", "config"):
            settings |= _values((record.run.config if kind == "run" else record.config).update)
    return {name: value for name, value in settings.items() if name != "_wandb"}
