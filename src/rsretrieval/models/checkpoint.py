"""The model in a training run's checkpoint, without the training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from rsretrieval.compatibility import current_model_settings
from rsretrieval.models.config import EncoderConfig, check_remote_code
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.weights import WeightsError
from rsretrieval.settings import build

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A file that is no checkpoint of a training run."""


def read_checkpoint(
    checkpoint: str, *, trust_remote_code: bool = False
) -> tuple[EncoderConfig, dict[str, Tensor], dict[str, Any] | None]:
    """The encoder's settings and tensors, and the hubness settings, of a training run's checkpoint.

    Args:
        checkpoint: the file.
        trust_remote_code: let its settings run code of a model's own.

    Raises:
        CheckpointError: if the file is no such checkpoint.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"'{checkpoint}' cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Mapping) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise CheckpointError(f"'{checkpoint}' is no checkpoint of a training run: give a .ckpt of a run's folder")
    settings = current_model_settings(content["hyper_parameters"])
    check_remote_code(settings.get("encoder"), f"'{checkpoint}'", trusted=trust_remote_code)
    encoder = build(EncoderConfig, settings.get("encoder", {}), f"'{checkpoint}'")
    start = "model."
    state = {key.removeprefix(start): value for key, value in content["state_dict"].items() if key.startswith(start)}
    return replace(encoder, cache_features=False), state, settings.get("hubness")


def starting_tensors(config: EncoderConfig) -> dict[str, Tensor]:
    """The tensors of a model as its training began; none where the weights that it began from are gone."""
    try:
        return DualEncoder(config).state_dict()
    except WeightsError as error:
        log.warning("the model's starting weights are not there, so that every tensor is written: %s", error)
        return {}
