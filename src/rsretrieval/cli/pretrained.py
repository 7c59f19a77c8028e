"""``--model.pretrained NAME``, and a name as ``--ckpt_path``: the settings of a model that is there already."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rsretrieval.cli.run_folder import NAMES

OPTION = "--model.pretrained"
CHECKPOINT = "--ckpt_path"


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
        is_model = value not in (*NAMES, "null", "hpc", "registry", "") and not Path(value).is_file()
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
