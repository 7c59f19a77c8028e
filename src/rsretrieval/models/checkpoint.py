"""The model in a training run's checkpoint, without the training."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from rsretrieval.compatibility import current_model_settings
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.models.weights import WeightsError
from rsretrieval.settings import build

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A file that is no checkpoint of a training run."""


def load_checkpoint(file: Path) -> Mapping[str, Any]:
    """What a checkpoint's file holds, its tensors read where they are used.

    Raises:
        CheckpointError: if there is no such file, or it is no checkpoint.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"'{file}' cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{file}' is no checkpoint: it holds a {type(content).__name__}")
    return content


@dataclass(frozen=True)
class TrainedModel:
    """What a training run's checkpoint holds of its model.

    Attributes:
        encoder: its settings; no features are cached.
        tensors: of the dual encoder, by name.
        hubness: settings of the correction for hubs; None where it was trained without.
        image_size: side of the images in evaluation, in pixels.
        max_words: longest caption, in words.
        logits: temperature and bias that it was trained with last, the bias None where none is learned.
    """

    encoder: EncoderConfig
    tensors: dict[str, Tensor]
    hubness: dict[str, Any] | None
    image_size: int
    max_words: int
    logits: tuple[float, float | None] | None = None


def read_checkpoint(checkpoint: str, *, trust_remote_code: bool = False) -> TrainedModel:
    """The model in a training run's checkpoint.

    Args:
        checkpoint: the file.
        trust_remote_code: let its settings run code of a model's own.

    Raises:
        CheckpointError: if the file is no such checkpoint.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    content = load_checkpoint(Path(checkpoint))
    if not {"hyper_parameters", "state_dict"} <= content.keys():
        raise CheckpointError(f"'{checkpoint}' is no checkpoint of a training run: give a .ckpt of a run's folder")
    settings = current_model_settings(content["hyper_parameters"])
    check_remote_code(settings.get("encoder"), f"'{checkpoint}'", trusted=trust_remote_code)
    encoder = build(EncoderConfig, settings.get("encoder", {}), f"'{checkpoint}'")
    start = "model."
    state = {key.removeprefix(start): value for key, value in content["state_dict"].items() if key.startswith(start)}
    data = content.get("RetrievalDataModule", {})  # older versions wrote nothing of what follows
    return TrainedModel(
        replace(encoder, cache_features=False),
        state,
        settings.get("hubness"),
        data.get("eval_image_size", encoder.preprocessing.image_size),
        data.get("max_words", 30),
        _logits(content["state_dict"]),
    )


def _logits(state: Mapping[str, Tensor]) -> tuple[float, float | None] | None:
    temperature, bias = state.get("objective.temperature"), state.get("objective.bias")
    return None if temperature is None else (float(temperature), None if bias is None else float(bias))


def starting_tensors(config: EncoderConfig) -> dict[str, Tensor]:
    """The tensors of a model as its training began; none where the weights that it began from are gone."""
    try:
        return DualEncoder(config).state_dict()
    except WeightsError as error:
        log.warning("the model's starting weights are not there, so that every tensor is written: %s", error)
        return {}


def changed_tensors(tensors: Mapping[str, Tensor], starting: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that half precision can tell from what they were when the training began."""
    return {
        name: tensor for name, tensor in tensors.items() if not tensor.allclose(starting[name], rtol=2**-11, atol=0.0)
    }
