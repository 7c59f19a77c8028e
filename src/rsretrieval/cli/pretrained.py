"""``--model.pretrained NAME``, and a name as ``--ckpt_path``: the settings of a model that is there already."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning import LightningModule

from rsretrieval.cli.configs import given
from rsretrieval.cli.run_folder import NAMES, find_checkpoint
from rsretrieval.compatibility import current_model_settings
from rsretrieval.models.checkpoint import CheckpointError, load_checkpoint
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.training.module import RetrievalModule
from rsretrieval.types import Preprocessing

log = logging.getLogger(__name__)

PREPROCESSING = ("image_size", "scale", "bands")
"""Settings of the data that the model's preprocessing takes from there."""
OPTION = "--model.pretrained"
CHECKPOINT = "--ckpt_path"
OF_LIGHTNING = ("hpc", "registry")
"""What ``--ckpt_path`` may say to Lightning in place of a file."""


def named_as_checkpoint(arguments: Sequence[str]) -> list[str]:
    """Arguments whose ``--ckpt_path`` is a model's name or folder, not a file: then it is the model to evaluate.

    Args:
        arguments: of ``validate``, ``test`` or ``predict``; of ``fit`` they stay as they are, which resumes a run.
    """
    current: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        option, equals, value = argument.partition("=")
        if option != CHECKPOINT or arguments[0] == "fit":
            current.append(argument)
            continue
        value = value if equals else next(rest, "")
        is_model = value not in (*NAMES, *OF_LIGHTNING, "null", "") and not Path(value).is_file()
        current += [f"{OPTION}={value}"] if is_model else [f"{CHECKPOINT}={value}"]
    return current


def settings_of_model(name: str, *, with_data: bool) -> list[str]:
    """The configuration of a model by name, as arguments, to come before all others.

    Args:
        name: see :func:`rsretrieval.models.pretrained.find_model`.
        with_data: also the settings of the data that belong to it, such as the size of the images.

    Raises:
        PretrainedError: if there is no such model.
    """
    from rsretrieval.models.pretrained import find_model

    settings = find_model(name).settings()
    settings["model"]["pretrained"] = name
    return ["--config", json.dumps(settings if with_data else {"model": settings["model"]})]


def check_checkpoint(path: str) -> None:
    """Refuse a ``--ckpt_path`` that is no checkpoint, before anything is built.

    A folder without ``.ckpt`` files is left to Lightning: strategies that shard a model write such.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    if path in OF_LIGHTNING or "://" in path:
        return
    if not Path(path).is_dir():
        load_checkpoint(Path(path))
    elif files := sorted(Path(path).rglob("*.ckpt")):
        raise CheckpointError(f"'{path}' is a folder: give one of its checkpoints, such as '{files[0]}'")


def warn_of_untrained(module: LightningModule, settings: Namespace) -> None:
    """Say where what is evaluated has projections at random: nothing of it is trained, and no checkpoint is given.

    Args:
        module: of a command that trains nothing.
        settings: those that it was built from.
    """
    named = settings.get("init_args", settings).get("pretrained")
    if isinstance(module, RetrievalModule) and not named and not module.model.config.keeps_alignment:
        log.warning(
            "no checkpoint is given, so that this is a model whose projections have random weights: give --ckpt_path"
        )


def builds_model(arguments: Sequence[str], contents: Iterable[dict[str, Any]]) -> bool:
    """Whether the arguments or configurations say which model to build; single options alone change one."""
    return names_class("model", arguments, contents) or any("model" in content for content in contents)


def model_of_checkpoint(arguments: Sequence[str], contents: Iterable[dict[str, Any]], *, with_data: bool) -> list[str]:
    """The configuration of a checkpoint's own model, for ``--ckpt_path FILE`` alone; nothing for other arguments.

    Args:
        arguments: of the command line.
        contents: of its configurations, which may name the run's folder.
        with_data: also the settings of the data that belong to the model, such as the size of the images.

    Raises:
        CheckpointError: if the file cannot be read.
    """
    which, root = given("ckpt_path", arguments), given("trainer.default_root_dir", arguments, contents)
    if which is None:
        return []
    file = Path(which)
    if which in NAMES and root is not None:
        file = find_checkpoint(Path(root) / "checkpoints", which) or file
    if not file.is_file():
        return []
    settings = current_model_settings(load_checkpoint(file).get("hyper_parameters") or {})
    if "encoder" not in settings:
        return []  # of another module
    check_remote_code(settings["encoder"], f"'{file}'", trusted=False)
    preprocessing = {"image_size": Preprocessing.image_size, **settings["encoder"].get("preprocessing", {})}
    data = {name: preprocessing.get(name) for name in PREPROCESSING}
    return ["--config", json.dumps({"model": settings, **({"data": data} if with_data else {})})]


def names_class(part: str, arguments: Sequence[str], contents: Iterable[dict[str, Any]]) -> bool:
    """Whether the arguments or configurations give a class for ``model`` or ``data`` (LightningCLI's subclass mode)."""
    options = {argument.partition("=")[0] for argument in arguments}
    settings = [content.get(part) for content in contents]
    return bool(options & {f"--{part}", f"--{part}.class_path"}) or any(
        isinstance(value, str) or (isinstance(value, dict) and "class_path" in value) for value in settings
    )
