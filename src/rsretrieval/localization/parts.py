"""What was computed of a scene's windows, kept beside it in parts, so that a killed process goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rsretrieval.files import write_text, write_whole

ABOUT = "about.json"
Rows = NDArray[np.int64]
"""Numbers of windows."""


class Parts:
    """Arrays of windows by their numbers, in files under ``SCENE.localize/KEY``.

    Args:
        scene: the file that the windows are of.
        about: all that decides what is kept; another content is another folder.
    """

    def __init__(self, scene: Path, about: Mapping[str, Any]) -> None:
        text = json.dumps(about, indent=1, sort_keys=True) + "\n"
        key = blake2b(text.encode(), digest_size=6).hexdigest()
        self.folder = scene.with_name(f"{scene.name}.localize") / key
        if not (self.folder / ABOUT).is_file():
            write_text(self.folder / ABOUT, text)

    def __iter__(self) -> Iterator[tuple[Rows, NDArray[Any]]]:
        """Numbers ``(n,)`` and what was kept ``(n, …)``, part by part."""
        for file in sorted(self.folder.glob("*.npz")):
            with np.load(file) as kept:
                yield kept["rows"], kept["vectors"]

    def rows(self) -> Rows:
        """Numbers of all windows that are kept."""
        found = [np.zeros(0, np.int64)]
        for file in self.folder.glob("*.npz"):
            with np.load(file) as kept:
                found.append(kept["rows"])
        return np.concatenate(found)

    def add(self, rows: Rows, vectors: NDArray[Any]) -> None:
        """Keep what is not kept yet."""

        def write(partial: Path) -> None:
            with partial.open("wb") as content:
                np.savez(content, rows=rows, vectors=vectors)

        name = blake2b(rows.tobytes(), digest_size=6).hexdigest()  # another process may keep others at the same time
        write_whole(self.folder / f"{rows[0]:08d}-{name}.npz", write)
