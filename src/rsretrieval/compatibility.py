"""Names of older versions: what they are called now, in configurations, on the command line, in checkpoints."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

_ENCODER = {
    **{name: name for name in ("image", "text", "embed_dim", "dropout", "graph_steps", "freeze_sfgs", "eval_views")},
    **{name: name for name in ("cache_features", "chunk_size", "query_bank")},
    **{name: f"preprocessing.{name}" for name in ("image_size", "mean", "std")},
    "prior": "convolutional_branch",
    "steady": "stabilised_fgis",
    "separate_heads": "split_heads",
}
MODEL_SETTINGS = {**{old: f"encoder.{new}" for old, new in _ENCODER.items()}, "rerank": "hubness"}
"""Below ``model``: old key to new."""
CLASS_PATHS = {
    "rsretrieval.callbacks.": "rsretrieval.training.callbacks.",
    "rsretrieval.report.": "rsretrieval.training.callbacks.",
    "rsretrieval.module.RetrievalModule": "rsretrieval.training.module.RetrievalModule",
}
"""Beginnings of class paths: old to new."""
TENSORS = {"prior.": "convolutional_branch.", "prior_projection.": "branch_projection.", "bank.seen": "bank.total"}
"""Beginnings of the names of the dual encoder's tensors: old to new."""
COMPILED = "_orig_mod."
"""What ``torch.compile`` puts before the names of a model's tensors."""
_NO_MORE = re.compile(r"image_tower\.(?:towers\.\d+\.)?model\.pooler\.")
"""Tensors that no model here used, of an image tower from transformers."""
LIBRARIES = {"joint": "concat"}
POOLING: dict[str, dict[str, str | None]] = {
    "timm": {"levels": "all_stages", "cls": None},
    "transformers": {"levels": "all_layers"},
}
"""Of a tower's library: old value to new; ``cls`` was every tower's default and of no effect but on transformers."""


def current_settings(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A whole configuration by the names of this version; warns once of the old ones that it replaces.

    Args:
        settings: of a configuration file, or of a part of one.
        where: it came from, for the warning.

    Returns:
        A changed copy.
    """
    renamed: dict[str, str] = {}
    current = {key: _class_paths(value, renamed) for key, value in settings.items()}
    if isinstance(current.get("model"), Mapping) and "class_path" not in current["model"]:
        current["model"] = _model(current["model"], renamed)
    schedule = current.get("schedule")
    if isinstance(schedule, Mapping) and "Unable to serialize instance" in str(schedule.get("stages")):
        # What once was written for the default stages, and only for them: the paper's, as they still are.
        current["schedule"] = {key: value for key, value in schedule.items() if key != "stages"}
    if renamed:
        names = ", ".join(f"'{old}' is now '{new}'" for old, new in renamed.items())
        warnings.warn(f"{where} has names of an older version: {names}", FutureWarning, stacklevel=2)
    return current


def current_model_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """The settings below ``model``, as checkpoints keep them, by the names of this version; without a warning."""
    return _model(model, {})


def current_arguments(arguments: Sequence[str]) -> list[str]:
    """Options of the command line by the names of this version; warns once of each that it replaces."""
    current: list[str] = []
    for argument in arguments:
        option, equals, value = argument.partition("=")
        if option.startswith("--"):
            current.append(_option(option) + equals + _value(option, value))
        else:  # maybe the value of the option before
            current.append(_value(current[-1] if current else "", argument))
    return current


def current_tensor_names(state: MutableMapping[str, Any], prefix: str = "") -> None:
    """Rename the tensors of an older or compiled dual encoder, in place.

    Args:
        state: a state dict.
        prefix: of the dual encoder's names in it.
    """
    for old, new in {COMPILED: "", **TENSORS}.items():
        for name in [name for name in state if name.startswith(prefix + old)]:
            state[prefix + new + name.removeprefix(prefix + old)] = state.pop(name)

    for name in [name for name in state if _NO_MORE.match(name.removeprefix(prefix)) and name.startswith(prefix)]:
        del state[name]


def older_tensor_name(name: str) -> str:
    """What a tensor of the dual encoder was called before."""
    for old, new in TENSORS.items():
        if name.startswith(new):
            return old + name.removeprefix(new)
    return name


def _class_paths(value: Any, renamed: dict[str, str]) -> Any:  # noqa: ANN401 - any part of a configuration
    if isinstance(value, Mapping):
        return {key: _class_paths(part, renamed) for key, part in value.items()}
    if isinstance(value, list):
        return [_class_paths(part, renamed) for part in value]
    if isinstance(value, str):
        for old, new in CLASS_PATHS.items():
            if value.startswith(old):
                renamed[value] = new + value.removeprefix(old)
                return renamed[value]
    return value


def _model(model: Mapping[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    current: dict[str, Any] = {}
    for key, value in model.items():
        new = MODEL_SETTINGS.get(key, key)
        if new != key:
            renamed[f"model.{key}"] = f"model.{new}"
        target = current
        *groups, last = new.split(".")
        for group in groups:
            target = target.setdefault(group, {})
        if isinstance(value, Mapping) and isinstance(target.get(last), dict):
            target[last] = {**target[last], **value}
        else:
            target[last] = dict(value) if isinstance(value, Mapping) else value
    encoder = current.get("encoder")
    if isinstance(encoder, dict):
        for side in ("image", "text", "convolutional_branch"):
            if isinstance(encoder.get(side), Mapping):
                encoder[side] = _tower(encoder[side], renamed)
    return current


def _tower(tower: Mapping[str, Any], renamed: dict[str, str]) -> dict[str, Any]:
    current = dict(tower)
    library = current.get("library")
    if library in LIBRARIES:
        current["library"] = LIBRARIES[library]
        renamed[f"library: {library}"] = f"library: {LIBRARIES[library]}"
    poolings: dict[str, str | None] = POOLING.get(str(current.get("library")), {"cls": None})
    old = current.get("pooling")
    if old in poolings:
        current["pooling"] = new = poolings[old]
        if new is not None:
            renamed[f"pooling: {old}"] = f"pooling: {new}"
    options = current.get("options")
    if isinstance(options, Mapping) and isinstance(options.get("towers"), list):
        current["options"] = {**options, "towers": [_tower(part, renamed) for part in options["towers"]]}
    return current


def _option(option: str) -> str:
    match = re.fullmatch(r"--model\.(\w+)((?:\.\w+)*)", option)
    if match is None or match[1] not in MODEL_SETTINGS:
        return option
    return _renamed(option, f"--model.{MODEL_SETTINGS[match[1]]}{match[2]}")


def _value(option: str, value: str) -> str:
    """The value of an option, if it is a name that changed."""
    side = re.search(r"\.(image|text)\.(library|pooling)$", option)
    if side is not None and side[2] == "library" and value in LIBRARIES:
        return _renamed(value, LIBRARIES[value])
    if side is not None and side[2] == "pooling" and value == "levels":
        return _renamed(value, "all_stages" if side[1] == "image" else "all_layers")
    for old, new in CLASS_PATHS.items():
        if value.startswith(old):
            return _renamed(value, new + value.removeprefix(old))
    return value


def _renamed(old: str, new: str) -> str:
    warnings.warn(f"the option '{old}' of an older version is now '{new}'", FutureWarning, stacklevel=4)
    return new
