"""Names and tensors of other repositories' weights to those of the libraries that load them.

What is converted is told by the keys, so that a file needs no word about where it came from. Facts about the layouts:
docs/models.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from rsretrieval.models.weights import WeightsError

State = dict[str, Tensor]
LONG_CLIP_KEPT = 20
"""Positions that Long-CLIP (Zhang et al., ECCV 2024) keeps as they were; those beyond were stretched and trained."""
MS_CLIP = "clip_base_model.model."


def long_clip(state: State) -> State:
    """Long-CLIP's two tables of positions ``(248, width)`` as one: the first 20 rows of one, the rest of the other."""
    suffix = "positional_embedding_res"
    prefix = next((key.removesuffix(suffix) for key in state if key.endswith(suffix)), None)
    if prefix is None:
        return state
    kept, stretched = state[f"{prefix}positional_embedding"], state[f"{prefix}positional_embedding_res"]
    helpers = {f"{prefix}{name}" for name in ("positional_embedding_res", "mask1", "mask2")}
    converted = {key: tensor for key, tensor in state.items() if key not in helpers}
    converted[f"{prefix}positional_embedding"] = torch.cat([kept[:LONG_CLIP_KEPT], stretched[LONG_CLIP_KEPT:]])
    return converted


def ms_clip(state: State) -> State:
    """Llama3-MS-CLIP's model alone, without its repetition under ``image_encoder`` and ``text_encoder``."""
    if not any(key.startswith(MS_CLIP) for key in state):
        return state
    return {key.removeprefix(MS_CLIP): tensor for key, tensor in state.items() if key.startswith(MS_CLIP)}


CONVERSIONS: list[Callable[[State], State]] = [ms_clip, long_clip]


def to_open_clip(state: State, model: Any) -> State:  # noqa: ANN401 - open_clip is untyped
    """A state dict of any known layout by the names and shapes of an open_clip model; others as they are.

    Args:
        state: as a file has it, without wrappers' prefixes.
        model: the network that it is for.

    Raises:
        WeightsError: for positions of longer or shorter texts than the network's: they are not stretched.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed

    for conversion in CONVERSIONS:
        state = conversion(dict(state))
    state = convert_state_dict(model, state)
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    wanted: State = model.state_dict()
    _check_positions(state, wanted)
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in wanted and state[name].numel() == 1:
            state[name] = state[name].reshape(wanted[name].shape)
    state.pop("text.transformer.embeddings.position_ids", None)  # which transformers kept once, and which are 0, 1, …
    for name in ("input_resolution", "context_length", "vocab_size"):
        state.pop(name, None)  # numbers in OpenAI's archives
    resize_pos_embed(state, model)  # of another image size
    return state


def _check_positions(state: State, wanted: State) -> None:
    for name in ("positional_embedding", "text.positional_embedding"):
        if name in state and name in wanted and len(state[name]) != len(wanted[name]):
            raise WeightsError(
                f"these weights are of texts of {len(state[name])} tokens, and the model's of {len(wanted[name])}: "
                f"give context_length={len(state[name])} (an entry's context_length, or force_context_length in the "
                "options of both towers)"
            )
