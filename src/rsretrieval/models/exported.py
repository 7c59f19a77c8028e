"""The folder of a model that was exported.

It holds ``config.json`` (how to build the model), ``model.safetensors`` (every tensor that building it does not give;
frozen networks from installed packages are not stored again, unless it is standalone) and, published, a ``README.md``.
:func:`rsretrieval.models.export.export` writes one.
"""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rsretrieval.compatibility import current_model_settings, current_tensor_names, older_tensor_name
from rsretrieval.files import write_text, write_whole
from rsretrieval.models.checkpoint import changed_tensors, starting_tensors
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.feature_cache import fingerprint
from rsretrieval.models.packing import pack, unpack
from rsretrieval.models.standalone import TOWERS, local_sources
from rsretrieval.models.standalone import standalone as standalone_settings
from rsretrieval.settings import SettingsError, build, plain

if TYPE_CHECKING:
    from rsretrieval.models.pretrained import ModelSource

log = logging.getLogger(__name__)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
MODEL_KEYS = {"encoder", "hubness"}
KEYS = MODEL_KEYS | {"image_size", "max_words"}
"""Entries of the first."""


class PretrainedError(ValueError):
    """A name of no model, or a folder that holds no model, or not the model that it says."""


def write_folder(
    model: DualEncoder, source: ModelSource, folder: Path, *, int8: bool = False, standalone: bool = False
) -> None:
    """Write a model as a folder.

    Args:
        model: with its settings; a query bank may have been put into it.
        source: what it was built from, and how it is used.
        folder: to write to.
        int8: see :func:`rsretrieval.models.export.export`.
        standalone: see :func:`rsretrieval.models.export.export`.
    """
    config = model.config
    in_place = source.origin is not None and source.origin.resolve() == folder.resolve()
    if (folder / CONFIG).is_file() and not in_place:
        shutil.rmtree(folder / TOWERS, ignore_errors=True)  # of another model
    if local := local_sources(config):
        log.info("%s is of this machine alone, so that every tensor is written", ", ".join(local))
    stored = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
    starting = {} if standalone or local else starting_tensors(config)
    if starting:
        stored = changed_tensors(stored, starting)
    else:
        config = standalone_settings(config, model, folder)
    metadata = {"rest": fingerprint({key: value for key, value in starting.items() if key not in stored})}
    packed = pack(stored, int8=int8)
    write_whole(folder / WEIGHTS, lambda partial: save_file(packed, partial, metadata=metadata))
    settings = {
        "encoder": plain(config),
        "hubness": source.hubness,
        "image_size": source.image_size,
        "max_words": source.max_words,
    }
    write_text(folder / CONFIG, json.dumps(settings, indent=1) + "\n")


def fill(folder: Path, model: DualEncoder) -> None:
    """Put the tensors that a folder stores into a model whose towers have their own.

    Raises:
        PretrainedError: if both together are not the model that was exported.
    """
    stored = unpack(load_file(folder / WEIGHTS))
    current_tensor_names(stored)
    state = model.state_dict()
    missing = {key: tensor for key, tensor in state.items() if key not in stored}
    older = {older_tensor_name(key): tensor for key, tensor in missing.items()}
    surplus = sorted(set(stored) - set(state))
    with safe_open(folder / WEIGHTS, "pt") as file:
        expected = (file.metadata() or {}).get("rest")
    if surplus or expected not in (fingerprint(missing), fingerprint(older)):
        raise PretrainedError(
            f"'{folder}': the {len(stored)} tensors stored there and the {len(missing)} that installed packages "
            f"give are not the model that was published (unknown: {surplus[:3]}): install the packages that its "
            "README.md names, or fetch the folder anew"
        )
    model.load_state_dict(stored, strict=False)


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON.

    Raises:
        PretrainedError: naming the file.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise PretrainedError(f"'{file}' is no JSON ({error}): fetch or export the folder anew") from error
    if not isinstance(content, dict):
        raise PretrainedError(f"'{file}' is no model's configuration: it holds a {type(content).__name__}")
    return content


def read_settings(folder: Path) -> dict[str, Any]:
    """``encoder`` (built), ``hubness``, ``image_size`` and ``max_words``, of this version's form or an older one."""
    file = folder / CONFIG
    settings = read_json(file)
    older = settings.pop("model", {})  # as of 0.1.0's first exports: everything that the module was built with
    if unknown := sorted(settings.keys() - KEYS):
        raise SettingsError(
            f"'{file}' has the entries {unknown}, unknown to this version: if a newer one wrote it, upgrade"
        )
    model = current_model_settings({**older, **{key: settings[key] for key in MODEL_KEYS & settings.keys()}})
    try:
        return {
            "encoder": build(EncoderConfig, model["encoder"], f"'{file}'"),
            "hubness": model.get("hubness"),
            "image_size": settings["image_size"],
            "max_words": settings["max_words"],
        }
    except KeyError as error:
        raise SettingsError(f"'{file}' has no entry {error}: it is no model that rsretrieval exported") from error
