"""The files of offline W&B runs, which W&B's own process writes."""

import time
from pathlib import Path
from typing import Any

from rsretrieval.records.wandb_file import config, history, records

__all__ = ["by_step", "config", "history", "records", "run_files"]


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


def by_step(rows: list[dict[str, Any]], step: str) -> dict[tuple[int, str], Any]:
    """Step and name to value; each but the epoch once."""
    values: dict[tuple[int, str], Any] = {}
    for row in rows:
        for name, value in row.items():
            key = int(row[step]), name
            if name not in ("epoch", step):
                assert key not in values, "logged twice"
                values[key] = value
    return values
