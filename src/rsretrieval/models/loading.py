"""Loading a state dict into a network without silent misses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping

from torch import Tensor, nn

from rsretrieval.models.weights import WeightsError, read_state_dict

log = logging.getLogger(__name__)


def unwrapped(state: dict[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """A state dict without the prefixes that wrappers put before every name.

    Args:
        state: names as saved, as under ``DistributedDataParallel`` (``module.``) or ``torch.compile`` (``_orig_mod.``).
        wanted: names of the network; where more of these agree as saved, nothing is removed.

    Example:
        >>> import torch
        >>> list(unwrapped({"module._orig_mod.weight": torch.ones(1)}, ["weight", "bias"]))
        ['weight']
    """
    best, agreeing = state, len(set(state) & set(wanted))
    while len(heads := {name.partition(".")[0] for name in state}) == 1 and all("." in name for name in state):
        state = {name.removeprefix(f"{next(iter(heads))}."): value for name, value in state.items()}
        if (count := len(set(state) & set(wanted))) > agreeing:
            best, agreeing = state, count
    return best


def load_into(
    model: nn.Module,
    weights: str,
    *,
    optional: tuple[str, ...] = (),
    convert: Callable[[dict[str, Tensor], nn.Module], dict[str, Tensor]] | None = None,
) -> None:
    """Load a state dict by name, or, where no name agrees, by position if every shape agrees in order.

    Loading by position serves weights of another implementation of the same network (EfficientNet-Lite0's package), and
    is logged.

    Args:
        model: the network, changed in place.
        weights: see :func:`read_state_dict`.
        optional: prefixes of entries that the file may lack, hold beyond the model's, or hold in another shape
            (the classifier, which retrieval does not use).
        convert: a state dict without wrappers' prefixes, and the network, to one of the network's names and shapes.

    Raises:
        WeightsError: naming what is missing, left over or of another shape, or no finite real numbers.
    """
    wanted = model.state_dict()
    state = unwrapped(read_state_dict(weights), wanted)
    if convert is not None:
        state = convert(state, model)
    if not set(state) & set(wanted):
        shapes = [[tensor.shape for tensor in tensors.values()] for tensors in (state, wanted)]
        if shapes[0] == shapes[1]:
            log.info(
                "'%s' has other names than %s: loaded by position, as all shapes agree", weights, type(model).__name__
            )
            state = dict(zip(wanted, state.values(), strict=True))
    fitting = {k: v for k, v in state.items() if k in wanted and v.shape == wanted[k].shape}

    def needed(keys: set[str]) -> list[str]:
        return sorted(key for key in keys if not key.startswith(optional)) if optional else sorted(keys)

    shape = [
        f"{key} {tuple(state[key].shape)} for {tuple(wanted[key].shape)}"
        for key in needed(set(state) & set(wanted) - set(fitting))
    ]
    missing, surplus = needed(set(wanted) - set(state)), needed(set(state) - set(wanted))
    if missing or surplus or shape:
        raise WeightsError(
            f"the weights '{weights}' do not fit {type(model).__name__}: {len(fitting)} of its {len(wanted)} entries "
            f"agree; missing {len(missing)} {missing[:3]}, left over {len(surplus)} {surplus[:3]}, of another shape "
            f"{len(shape)} {shape[:3]}: give weights of this architecture, or the architecture of these weights"
        )
    raw = sorted(name for name in fitting if wanted[name].is_floating_point() and not fitting[name].is_floating_point())
    if raw:
        raise WeightsError(
            f"the weights '{weights}' hold {fitting[raw[0]].dtype} in {len(raw)} entries ({raw[:3]}) where the network "
            "has real numbers, as quantised weights do without their scales: get them in half or single precision"
        )
    check_finite(fitting, weights)
    model.load_state_dict(fitting, strict=False)


def check_finite(tensors: Mapping[str, Tensor], weights: str) -> None:
    """Refuse tensors that hold NaN or infinity.

    Args:
        tensors: by name; those on ``meta`` have shapes alone.
        weights: where they come from, for the message.

    Raises:
        WeightsError: naming them.
    """
    broken = sorted(name for name, tensor in tensors.items() if not tensor.is_meta and not tensor.isfinite().all())
    if broken:
        raise WeightsError(
            f"the weights '{weights}' hold NaN or infinity in {len(broken)} entries ({broken[:3]}), as numbers become "
            "that half precision cannot hold: get them in single precision"
        )
