"""A trained model as a folder, loaded by path, by name or from the hub.

A folder holds ``config.json`` (how to build the model), ``model.safetensors`` (every tensor that building it does not
give; frozen networks from installed packages are not stored again, unless it is standalone) and, published, a
``README.md``. :func:`rsretrieval.models.export.export` writes one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import safe_open
from safetensors.torch import load_file

from rsretrieval.compatibility import current_model_settings, current_tensor_names, older_tensor_name
from rsretrieval.metrics import HubnessConfig
from rsretrieval.models.config import EncoderConfig, check_remote_code
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.feature_cache import fingerprint
from rsretrieval.models.packing import unpack
from rsretrieval.models.standalone import in_folder
from rsretrieval.settings import SettingsError, build, plain

CONFIG, WEIGHTS = "config.json", "model.safetensors"
KEYS = {"encoder", "hubness", "image_size", "max_words"}
"""Entries of the first."""
PUBLISHED = Path(__file__).parents[1] / "published"
"""Models that come with the package."""


class PretrainedError(ValueError):
    """A folder that holds no model, or not the model that it says."""


@dataclass(frozen=True)
class Pretrained:
    """A model and what is needed to use it as it was evaluated.

    Attributes:
        model: in evaluation mode.
        image_size: side that pictures are resized to, in pixels.
        max_words: longest sentence, in words.
        hubness: how scores are corrected for hubs; None where the model was trained without.
    """

    model: DualEncoder
    image_size: int
    max_words: int
    hubness: HubnessConfig | None


def published() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PUBLISHED.glob(f"*/{CONFIG}"))


def load_pretrained(name: str, *, trust_remote_code: bool = False) -> Pretrained:
    """Load a folder.

    Args:
        name: a folder; a name of :func:`published`; or ``OWNER/NAME`` on the Hugging Face hub.
        trust_remote_code: let its settings run Python code that comes with a model.

    Raises:
        PretrainedError: if there is no such model, or its files do not go together.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
        WeightsError: if a package that its towers come from is not installed.
    """
    folder = _locate(name)
    settings = _read_settings(folder)
    check_remote_code(plain(settings["encoder"]), f"'{folder / CONFIG}'", trusted=trust_remote_code)
    model = DualEncoder(replace(in_folder(settings["encoder"], folder), cache_features=False))
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
    hubness = settings["hubness"]
    return Pretrained(
        model.eval(),
        settings["image_size"],
        settings["max_words"],
        hubness and build(HubnessConfig, hubness, f"'{folder / CONFIG}'"),
    )


def _locate(name: str) -> Path:
    for folder in (Path(name).expanduser(), PUBLISHED / name):
        if (folder / CONFIG).is_file():
            return folder
    if name.count("/") != 1:
        raise PretrainedError(
            f"there is no model '{name}': give a folder with {CONFIG} and {WEIGHTS}, one of {published()}, or "
            "OWNER/NAME on the hub"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, "towers/*"]))
    except Exception as error:
        raise PretrainedError(
            f"the hub's model '{name}' cannot be fetched ({error}): check the name or the connection, or give a folder"
        ) from error


def _read_settings(folder: Path) -> dict[str, Any]:
    """``encoder`` (built), ``hubness``, ``image_size`` and ``max_words``, of this version's form or an older one."""
    file = folder / CONFIG
    settings: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if "model" in settings:  # as of 0.1.0's first exports: everything that the module was built with
        older = current_model_settings(settings.pop("model"))
        settings |= {name: older[name] for name in ("encoder", "hubness") if name in older}
    if unknown := sorted(settings.keys() - KEYS):
        raise SettingsError(
            f"'{file}' has the entries {unknown}, unknown to this version: if a newer one wrote it, upgrade"
        )
    try:
        encoder = build(EncoderConfig, settings["encoder"], f"'{file}'")
        return {
            "encoder": encoder,
            "hubness": settings.get("hubness"),
            "image_size": settings["image_size"],
            "max_words": settings["max_words"],
        }
    except KeyError as error:
        raise SettingsError(f"'{file}' has no entry {error}: it is no model that rsretrieval exported") from error
