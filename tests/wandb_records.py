"""The records of offline W&B runs: a log of LevelDB's form behind seven bytes of W&B's, each record a protobuf."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto import wandb_internal_pb2

HEADER, BLOCK = 7, 2**15
"""Bytes: of the file's beginning, which counts as the first block's, and of a block."""
WHOLE, FIRST, LAST = 1, 2, 4


def messages(file: Path) -> Iterator[bytes]:
    """What the log holds; a last record that is not whole, of a run that was killed, is left out."""
    content, place, parts = file.read_bytes(), HEADER, b""
    assert content[:4] == b":W&B"
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
    return [wandb_internal_pb2.Record.FromString(message) for message in messages(file)]


def run_files(folder: Path, patience: float = 20) -> list[Path]:
    """The files of a folder's offline runs, the first begun first; written by W&B's own process, so wait for the end.

    Args:
        folder: of the run.
        patience: seconds to wait for each run's last record; a run that was killed may never have it.
    """
    files = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"), key=lambda file: file.parent.name)
    for file in files:
        end = time.monotonic() + patience
        while time.monotonic() < end and not any(
            record.WhichOneof("record_type") == "exit" for record in records(file)
        ):
            time.sleep(0.1)
    return files


def _values(items: Any) -> dict[str, Any]:
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
