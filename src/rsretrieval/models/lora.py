"""Low-rank additions to attention (LoRA, Hu et al., ICLR 2022) by the library peft."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import torch
from peft.tuners.lora.layer import MultiheadAttention
from torch import nn
from torch.func import functional_call

QUERIES_AND_VALUES = ("q_proj", "v_proj", "query", "value", "q_lin", "v_lin", "qkv")
"""Names of the linear layers of attention in transformers and timm."""


class LoraAttention(MultiheadAttention):
    """peft's LoRA of ``nn.MultiheadAttention``, which leaves the original matrices as they are.

    peft adds the product to the matrices before each pass and takes it away after; what is rounded then stays in them,
    step by step.
    """

    def forward(self, query: torch.Tensor, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the module's own
        """See ``nn.MultiheadAttention``; with the sum of matrix and addition in the matrix's place."""
        attention: Any = self.get_base_layer()
        name = self.active_adapters[0]
        matrices = {
            "in_proj_weight": attention.in_proj_weight + self.get_delta_weight(name),
            "out_proj.base_layer.weight": attention.out_proj.weight + attention.out_proj.get_delta_weight(name),
        }
        return functional_call(attention, matrices, (query, *args), kwargs)

    def _restore_weights(self) -> None:
        """Nothing to restore: they were never taken away."""


def inject(network: nn.Module, run: Callable[[], object], rank: int, alpha: int, dropout: float) -> list[str]:
    """Add LoRA to what a pass through a network calls of its attention.

    Args:
        network: changed in place; the rest of it stays trainable.
        run: passes an example through it.
        rank: of an addition.
        alpha: an addition counts alpha / rank.
        dropout: on the input of an addition.

    Returns:
        Names of the modules; none where the network has no attention that is known.

    Raises:
        ValueError: for dropout on the input of a module that gives no access to it.
    """
    called = _called(network, run)
    targets = [path for path, module in network.named_modules() if module in called and _is_attention(path, module)]
    if not targets:
        return []
    whole = [path for path in targets if isinstance(network.get_submodule(path), nn.MultiheadAttention)]
    if dropout and whole:
        raise ValueError(
            f"lora.dropout={dropout} has no effect on an attention that keeps queries, keys and values in one matrix, "
            f"as '{whole[0]}' does: set it to 0"
        )
    settings: Any = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=targets)
    settings._register_custom_module({nn.MultiheadAttention: LoraAttention})
    peft.inject_adapter_in_model(settings, network)
    return targets


def _called(network: nn.Module, run: Callable[[], object]) -> set[nn.Module]:
    """The modules that a pass calls: of others the weights alone are read, as by an attention pool, or nothing."""
    called: set[nn.Module] = set()
    hooks = [
        module.register_forward_pre_hook(lambda module, _: called.add(module))
        for module in network.modules()
        if isinstance(module, nn.Linear | nn.MultiheadAttention)
    ]
    training = network.training
    try:
        with torch.no_grad():
            network.eval()
            run()
    finally:
        network.train(training)
        for hook in hooks:
            hook.remove()
    return called


def _is_attention(path: str, module: nn.Module) -> bool:
    if isinstance(module, nn.MultiheadAttention):
        return bool(module._qkv_same_embed_dim)  # peft knows no other
    return path.rpartition(".")[2] in QUERIES_AND_VALUES
