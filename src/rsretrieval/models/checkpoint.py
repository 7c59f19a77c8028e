"""The model in a training run's checkpoint, without the training."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from rsretrieval.compatibility import COMPILED, current_model_settings, current_tensor_names
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.models.weights import WeightsError, content_by_its_start
from rsretrieval.settings import SettingsError, build, flat, plain

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
        reason = content_by_its_start(file) or (str(error).splitlines() or ["it ends too early"])[0]
        raise CheckpointError(f"'{file}' cannot be read as a checkpoint: {reason}") from error
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{file}' is no checkpoint: it holds a {type(content).__name__}")
    return content


def settings_in(content: Mapping[str, Any], file: str | Path) -> dict[str, Any]:
    """The model's settings in a training run's checkpoint, by the names of this version.

    Args:
        content: of the checkpoint.
        file: it came from, for the message.

    Raises:
        CheckpointError: if it is of no training run.
    """
    settings, tensors = content.get("hyper_parameters"), content.get("state_dict")
    if not isinstance(settings, Mapping) or not isinstance(tensors, Mapping):
        raise CheckpointError(
            f"'{file}' is no checkpoint of a training run, with its settings (hyper_parameters) and tensors "
            "(state_dict): give a .ckpt of a run's folder"
        )
    return current_model_settings(settings)


def check_keywords(kind: type, settings: Collection[str], keywords: Collection[str], file: str | Path) -> None:
    """Refuse what a class would not take of a checkpoint's settings and of the caller's.

    Args:
        kind: the class.
        settings: names of those in the checkpoint.
        keywords: of the caller, beside those of Lightning's ``load_from_checkpoint``.
        file: the checkpoint's, for the message.

    Raises:
        SettingsError: naming those of the checkpoint.
        TypeError: naming those of the caller.
    """
    parameters = inspect.signature(kind).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if unknown := sorted(set(settings) - set(parameters)):
        raise SettingsError(
            f"'{file}' has the settings {unknown}, which {kind.__name__} does not know; if a newer version wrote it, "
            "upgrade"
        )
    possible = {*parameters, "map_location", "hparams_file", "strict", "weights_only"}
    if unknown := sorted(set(keywords) - possible):
        raise TypeError(f"load_from_checkpoint knows no {unknown}; possible are {sorted(possible)}")


@contextmanager
def loading(file: object) -> Iterator[None]:
    """What torch raises within, where a state dict does not fit, as an error that names the file.

    Raises:
        CheckpointError: with torch's reason.
    """
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        if "loading state_dict" not in reason:
            raise
        raise CheckpointError(f"'{file}' does not fit the model of its settings: {reason:.600}") from error


def check_shapes(content: Mapping[str, Any], network: nn.Module, config: EncoderConfig, file: object) -> None:
    """Refuse a checkpoint of tensors in other shapes than the network's.

    Args:
        content: of the checkpoint.
        network: that takes its tensors.
        config: of the dual encoder in it.
        file: the checkpoint's, for the message; None where it is not known.

    Raises:
        CheckpointError: naming the settings that differ.
    """
    states = (content.get("state_dict", {}), network.state_dict())
    tensors, wanted = ({name.replace(COMPILED, ""): value for name, value in state.items()} for state in states)
    wrong = [
        f"{name} {tuple(tensors[name].shape)} for {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if isinstance(tensor, Tensor) and name in tensors and tensors[name].shape != tensor.shape
    ]
    if not wrong:
        return
    name = "the checkpoint" if file is None else f"the checkpoint '{file}'"
    settings = current_model_settings(content.get("hyper_parameters") or {}).get("encoder", {})
    theirs, own = (flat(plain(one), "encoder.") for one in (build(EncoderConfig, settings, name), config))
    differing = [f"{name} ({theirs.get(name)}, here {own[name]})" for name in own if own[name] != theirs.get(name)]
    which = f"; settings that differ: {', '.join(differing)}" if differing else ""  # Lightning may have put ours there
    raise CheckpointError(
        f"{name} is of another model: {len(wrong)} of its tensors have another shape ({wrong[0]}){which}. Give the "
        "settings that it was trained with"
    )


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
    settings = settings_in(content, checkpoint)
    check_remote_code(settings.get("encoder"), f"'{checkpoint}'", trusted=trust_remote_code)
    encoder = build(EncoderConfig, settings.get("encoder", {}), f"'{checkpoint}'")
    start = "model."
    state = {key.removeprefix(start): value for key, value in content["state_dict"].items() if key.startswith(start)}
    current_tensor_names(state)
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
