"""What is fetched or computed once and kept on disk: the folder, and features of frozen networks by their input."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEY = 16  # bytes


def cache_folder() -> Path:
    """``$RSRETRIEVAL_CACHE``, or ``~/.cache/rsretrieval``."""
    return Path(os.environ.get("RSRETRIEVAL_CACHE", "~/.cache/rsretrieval")).expanduser()


class FeatureCache:
    """Remembers what a frozen network gives for an input, by the input's bytes.

    Equal inputs give the features that were computed first, whichever run, epoch or order they came in; so images must
    come in few variants (no random crops) for it to be of use. Every process appends to a file of its own, and reads
    what was there when it started: runs may share a folder, and one that is killed loses at most the last record.

    Args:
        folder: of one network with its settings.
        width: of its features.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.computed = folder, 0
        self._record = np.dtype([("key", np.uint8, KEY), ("features", np.float32, width)])
        self._rows: dict[bytes, tuple[Path, int]] = {}
        self._maps: dict[Path, Any] = {}
        self._own = folder / f"{uuid.uuid4().hex}.features"
        for file in sorted(folder.glob("*.features")):
            self._read(file)

    def __deepcopy__(self, memo: object) -> FeatureCache:
        """Copies of a network share what is known."""
        return self

    def __call__(self, inputs: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
        """Features of each input.

        Args:
            inputs: ``(B, ...)``.
            compute: the network, ``(b, ...)`` to ``(b, width)``.

        Returns:
            ``(B, width)`` float32 on the inputs' device, without gradients.
        """
        keys = [blake2b(row.numpy(), digest_size=KEY).digest() for row in inputs.detach().cpu().contiguous()]
        missing = {key: number for number, key in enumerate(keys) if key not in self._rows}
        if missing:
            with torch.no_grad():
                self._append(list(missing), compute(inputs[list(missing.values())]))
        rows = np.stack([self._maps[file]["features"][row] for file, row in map(self._rows.__getitem__, keys)])
        return torch.from_numpy(rows).to(inputs.device)

    def _read(self, file: Path) -> None:
        """Learn the whole records of a file."""
        count = file.stat().st_size // self._record.itemsize
        if not count:
            return
        known = len(self._maps.get(file, ()))
        self._maps[file] = np.memmap(file, self._record, "r", shape=(count,))
        keys = self._maps[file]["key"][known:].tobytes()
        self._rows.update((keys[KEY * n : KEY * (n + 1)], (file, known + n)) for n in range(count - known))

    def _append(self, keys: list[bytes], features: Tensor) -> None:
        records = np.empty(len(keys), self._record)
        records["key"] = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, KEY)
        records["features"] = features.float().cpu().numpy()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._own.open("ab") as file:
            records.tofile(file)
        self.computed += len(keys)
        self._read(self._own)


def fingerprint(state: Mapping[str, Tensor], *settings: object) -> str:
    """A name for tensors, by their names and contents, and for whatever else matters beside them."""
    digest = blake2b(repr(settings).encode(), digest_size=KEY)
    for name, tensor in state.items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
