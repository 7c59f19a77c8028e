"""Batch norms folded into the convolutions below them, where nothing trains: one pass over each map instead of two."""

from __future__ import annotations

import copy
from itertools import chain, pairwise
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

_FOLDED: WeakKeyDictionary[nn.Module, tuple[list[tuple[int, int]], nn.Module]] = WeakKeyDictionary()
"""Of a network the state that was folded, and the copy."""
_LOCK = Lock()


def for_inference(network: nn.Module) -> nn.Module:
    """An EfficientNet of timm as a copy without batch norms, or the network itself.

    The copy is made at the first use and again when a tensor has changed. The network itself is what there is where
    it trains, where a graph is traced (what runs it folds by itself), and of other families.
    """
    if network.training or not isinstance(network, timm.models.EfficientNet):
        return network
    if torch.is_grad_enabled() and any(parameter.requires_grad for parameter in network.parameters()):
        return network
    return folded(network)


def folded(network: nn.Module) -> nn.Module:
    """Modules of such a network, in evaluation mode and without gradients, as :func:`for_inference` gives it whole."""
    if torch.compiler.is_compiling():
        return network
    tensors = list(chain(network.parameters(), network.buffers()))
    if any(type(tensor.detach()) is not Tensor or tensor.is_inference() for tensor in tensors):
        return network  # sharded, or without a count of changes
    state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
    with _LOCK:
        if network not in _FOLDED or _FOLDED[network][0] != state:
            with torch.inference_mode(False), torch.no_grad():  # or it could not be used where gradients are taken
                folded = copy.deepcopy(network)
                _fold(folded)
                _FOLDED[network] = (state, folded.to(memory_format=torch.channels_last))
        return _FOLDED[network][1]


def _fold(network: nn.Module) -> None:
    """In place. In this family a batch norm stands right after its convolution, and none after anything else."""
    children = list(network.named_children())
    for (name, convolution), (next_name, norm) in pairwise(children):
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, BatchNormAct2d):
            rest: Any = norm
            setattr(network, name, fuse_conv_bn_eval(convolution, norm))
            setattr(network, next_name, nn.Sequential(rest.drop, rest.act))
    for name, child in network.named_children():
        if isinstance(child, Conv2dSame) and child.dilation == (1, 1):
            setattr(network, name, SamePadding(child))
        else:
            _fold(child)


class SamePadding(nn.Module):
    """TensorFlow's padding, as much as a stride needs and one more behind than before, without a copy of the map.

    A kernel with a row and a column of zeros in front sees what the kernel sees after one more of padding.
    """

    longer: Tensor

    def __init__(self, convolution: Conv2dSame) -> None:
        super().__init__()
        self.convolution = convolution
        self.register_buffer("longer", F.pad(convolution.weight.detach(), (1, 0, 1, 0)))

    def forward(self, maps: Tensor) -> Tensor:
        """``(B, C, H, W)``, as the convolution takes them."""
        sides = zip(maps.shape[-2:], self.convolution.stride, self.convolution.kernel_size, strict=True)
        missing = {max((-(-size // stride) - 1) * stride + kernel - size, 0) for size, stride, kernel in sides}
        if len(missing) > 1:
            result: Tensor = self.convolution(maps)
            return result
        before, more = divmod(missing.pop(), 2)
        own: Any = self.convolution
        kernel = self.longer if more else own.weight
        return F.conv2d(maps, kernel, own.bias, own.stride, before + more, own.dilation, own.groups)
