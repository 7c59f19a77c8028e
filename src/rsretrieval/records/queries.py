"""The file of how each query of a split went: where it lies, and what it is of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KEY = b"rsretrieval"
"""Of the file's metadata: a JSON of what the queries are of."""


def query_file(folder: Path, split: str) -> Path:
    """Where a run keeps the queries of a split."""
    return folder / f"queries-{split}.parquet"


def account_of(metadata: Mapping[bytes, bytes] | None) -> dict[str, Any] | None:
    """What the queries of a file are of, by the metadata of its schema; None for another file.

    ``split``, the protocol (``queries``), ranks (``ks``), which model it was (``of``), and in newer files the
    source and path of the data (``data``).
    """
    written = (metadata or {}).get(KEY)
    return None if written is None else json.loads(written)
