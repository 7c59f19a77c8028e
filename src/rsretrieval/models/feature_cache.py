"""Features of frozen networks, computed once and kept on disk by their input."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import cached_property, partial
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from rsretrieval.files import cache_folder
from rsretrieval.models.config import TowerConfig
from rsretrieval.types import Preprocessing, Tokens

KEY = 16  # bytes
_LATER = {"resize", "interpolation", "resampler", "lora", "correlated_stages"}
Inputs = TypeVar("Inputs", Tensor, Tokens)


class FeatureCache:
    """Remembers what a frozen network gives for an input, by a key.

    Equal inputs give the features that were computed first, whichever run, epoch or order they came in; so inputs must
    come in few variants (no random crops, no deleted words) for it to be of use. Every process appends to a file of its
    own, and reads what was there when it started: runs may share a folder, and one that is killed loses at most the
    last record.

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

    def __call__(self, keys: Sequence[bytes], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Features of the rows of a batch.

        Args:
            keys: of each row, ``KEY`` bytes; equal for equal inputs.
            compute: the network, numbers of rows to their features ``(b, width)``.

        Returns:
            ``(B, width)`` float32 on the CPU, without gradients.
        """
        missing = {key: number for number, key in enumerate(keys) if key not in self._rows}
        if missing:
            with torch.no_grad():
                self._append(list(missing), compute(list(missing.values())))
        rows = np.stack([self._maps[file]["features"][row] for file, row in map(self._rows.__getitem__, keys)])
        return torch.from_numpy(rows)

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


def image_keys(images: Tensor) -> list[bytes]:
    """A key for each image, of its pixels."""
    return [blake2b(row.numpy(), digest_size=KEY).digest() for row in images.detach().cpu().contiguous()]


def token_keys(tokens: Tokens, *, padding: bool = False) -> list[bytes]:
    """A key for each tokenised text.

    Args:
        tokens: any tensors ``(M, L)`` by name.
        padding: whether what pads a row tells it from others; without, a text has one key in every batch. Padding is
            zeros at a row's end, and whatever an attention mask leaves out.
    """
    columns = {name: values.detach().cpu().numpy() for name, values in sorted(tokens.items())}
    if not padding:  # of another number than 0, as CLIP's tokeniser of transformers pads
        masks = {name: columns.get(name.removesuffix("input_ids") + "attention_mask") for name in columns}
        columns = {name: column if masks[name] is None else column * masks[name] for name, column in columns.items()}
    digests = [blake2b(digest_size=KEY) for _ in next(iter(columns.values()))]
    for name, column in columns.items():
        for digest, values in zip(digests, column, strict=True):
            row = values if padding else np.trim_zeros(values, "b")
            digest.update(repr((name, str(row.dtype), row.shape)).encode())
            digest.update(row.tobytes())
    return [digest.digest() for digest in digests]


def take_rows(inputs: Inputs, rows: slice | list[int]) -> Inputs:
    """Some of a batch's images or tokenised texts."""
    return {key: value[rows] for key, value in inputs.items()} if isinstance(inputs, Mapping) else inputs[rows]


class SideCache:
    """What one frozen side of a dual encoder gives: a :class:`FeatureCache` for each precision.

    Args:
        name: gives that of its folder; asked at the first use, when a checkpoint's tensors are in.
        shapes: of each part of a row's features.
        keys: a batch to the keys of its rows.
    """

    def __init__(
        self, name: Callable[[], str], shapes: Sequence[Sequence[int]], keys: Callable[[Any], list[bytes]]
    ) -> None:
        self._name, self._shapes, self._keys = name, shapes, keys
        self._caches: dict[torch.dtype, FeatureCache] = {}

    def __deepcopy__(self, memo: object) -> SideCache:
        """Copies of a network share what is known."""
        return self

    @cached_property
    def folder(self) -> Path:
        """Where the features are kept."""
        return cache_folder() / "features" / self._name()

    @property
    def computed(self) -> int:
        """How many rows were not there yet."""
        return sum(cache.computed for cache in self._caches.values())

    def __call__(self, inputs: Inputs, compute: Callable[[Inputs], Sequence[Tensor]]) -> list[Tensor]:
        """The parts of a batch's features, float32 on its device, without gradients.

        Args:
            inputs: images, or tokenised texts.
            compute: the network, such inputs to the parts of their features.
        """
        device = (next(iter(inputs.values())) if isinstance(inputs, Mapping) else inputs).device
        autocast = torch.is_autocast_enabled(device.type)
        precision = torch.get_autocast_dtype(device.type) if autocast else torch.float32
        widths = [int(np.prod(shape)) for shape in self._shapes]
        if precision not in self._caches:
            self._caches[precision] = FeatureCache(self.folder / str(precision), sum(widths))

        def flat(rows: list[int]) -> Tensor:
            return torch.cat([part.float().flatten(1) for part in compute(take_rows(inputs, rows))], dim=1)

        parts = torch.split(self._caches[precision](self._keys(inputs), flat).to(device), widths, dim=1)
        return [part.reshape(-1, *shape) for part, shape in zip(parts, self._shapes, strict=True)]


def trains(*modules: nn.Module) -> bool:
    """Whether any parameter does."""
    return any(parameter.requires_grad for module in modules for parameter in module.parameters())


def image_cache(
    modules: Sequence[nn.Module],
    configs: Sequence[TowerConfig],
    preprocessing: Preprocessing,
    shapes: Sequence[Sequence[int]],
) -> SideCache:
    """The cache of frozen networks that see the same images.

    Args:
        modules: the networks.
        configs: their settings.
        preprocessing: of the images.
        shapes: see :class:`SideCache`.
    """
    settings = [_told(preprocessing), *(part for config in configs for part in _tower_settings(config))]
    return SideCache(lambda: _name(modules, settings), shapes, image_keys)


def text_cache(tower: Any, config: TowerConfig) -> SideCache:  # noqa: ANN401 - a TextTower, and an nn.Module
    """The cache of a frozen text tower's global vectors."""
    settings = _tower_settings(config)
    # Where padding is attended to, a text has other features in other company.
    padding = not all(part["attention_mask"] for part in settings)
    keys = partial(token_keys, padding=padding)
    return SideCache(lambda: _name([tower], settings), [(tower.pooled_width,)], keys)


def _name(modules: Sequence[nn.Module], settings: object) -> str:
    """Of whatever features depend on beside their input: tensors, settings, and the libraries that compute them."""
    versions = [(library, version(library)) for library in ("torch", "timm", "open_clip_torch", "transformers")]
    return fingerprint(nn.ModuleList(modules).state_dict(), versions, settings)


def _tower_settings(config: TowerConfig) -> list[dict[str, Any]]:
    """A tower's settings as plain values, of each where several are side by side.

    Without where its tensors came from, which of them train, and where texts are cut, which its tokens tell.
    """
    if config.library == "concat":
        return [settings for part in config.parts() for settings in _tower_settings(part)]
    elsewhere = ("weights", "frozen", "frozen_layers", "frozen_statistics", "max_tokens")
    settings = {name: value for name, value in _told(config).items() if name not in elsewhere}
    if config.library == "open_clip":
        from rsretrieval.models.towers.architectures import architecture

        settings["name"] = architecture(config.name)  # of a file's content, not its path
    return [settings]


def _told(settings: Any) -> dict[str, Any]:  # noqa: ANN401 - a dataclass
    """Settings as plain values, without those that came after the first caches and are at their defaults."""
    defaults = {field.name: field.default for field in fields(settings)}
    values = asdict(settings)
    return {name: value for name, value in values.items() if name not in _LATER or value != defaults[name]}
