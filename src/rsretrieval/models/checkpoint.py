"""The model in a training run's checkpoint, without the training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from rsretrieval.compatibility import current_model_settings
from rsretrieval.models.config import EncoderConfig
from rsretrieval.settings import build


class CheckpointError(ValueError):
    """A file that is no checkpoint of a training run."""


def read_checkpoint(checkpoint: str) -> tuple[EncoderConfig, dict[str, Tensor], dict[str, Any] | None]:
    """The encoder's settings and tensors, and the hubness settings, of a training run's checkpoint.

    Raises:
        CheckpointError: if the file is no such checkpoint.
    """
    content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping) or not {"hyper_parameters", "state_dict"} <= content.keys():
        raise CheckpointError(f"'{checkpoint}' is no checkpoint of a training run: give a .ckpt of a run's folder")
    settings = current_model_settings(content["hyper_parameters"])
    encoder = build(EncoderConfig, settings.get("encoder", {}), f"'{checkpoint}'")
    start = "model."
    state = {key.removeprefix(start): value for key, value in content["state_dict"].items() if key.startswith(start)}
    return replace(encoder, cache_features=False), state, settings.get("hubness")
