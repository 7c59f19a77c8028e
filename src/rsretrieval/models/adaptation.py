"""Small parts that adapt frozen networks: residual adapters above them, low-rank additions within (LoRA)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rsretrieval.models.layers import freeze

if TYPE_CHECKING:
    from rsretrieval.models.config import TowerConfig


@dataclass(frozen=True)
class AdapterConfig:
    """A residual network of two layers above each side (after CLIP-Adapter, Gao et al., IJCV 2024).

    Attributes:
        width: of the layer between; 128 for both sides of a space of 512 are 0.26 M parameters.
        dropout: probability, on what is added.
        text: also above the text side.
    """

    width: int = 128
    dropout: float = 0.0
    text: bool = True

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"adapter: width={self.width}, dropout={self.dropout}: give 1 or more, and a probability below 1"
            )


@dataclass(frozen=True)
class LoraConfig:
    """Low-rank additions to the matrices of attention (Hu et al., ICLR 2022), by the library peft (extra ``lora``).

    Attributes:
        rank: of each addition.
        alpha: an addition counts alpha / rank.
        dropout: probability, on the input of an addition.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1:
            raise ValueError(
                f"lora: rank={self.rank}, alpha={self.alpha}, dropout={self.dropout}: give a rank of 1 or more, an "
                "alpha above 0, and a probability below 1"
            )


class Adapter(nn.Module):
    """``x + up(gelu(down(x)))`` for vectors ``(B, dim)``; the identity until it is trained."""

    def __init__(self, dim: int, config: AdapterConfig) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(dim, config.width), nn.Linear(config.width, dim)
        self.dropout = nn.Dropout(config.dropout)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, vectors: Tensor) -> Tensor:
        """The vectors, and what is learned beside them, in units of their length."""
        length = vectors.norm(dim=-1, keepdim=True)
        change = self.up(torch.nn.functional.gelu(self.down(vectors / length.clamp(min=1e-6))))
        out: Tensor = vectors + length * self.dropout(change)
        return out


def adapt(tower: nn.Module, config: TowerConfig, run: Callable[[], object]) -> list[nn.Module]:
    """Freeze of a tower what its settings say, or all but the low-rank additions that they ask for, in place.

    Args:
        tower: of any library.
        config: its settings.
        run: passes an example through it.

    Returns:
        The modules to keep in evaluation mode.

    Raises:
        ImportError: for LoRA without peft, naming the extra.
        ValueError: if it has no attention that is known, or fewer layers than are to be frozen.
    """
    if config.lora is None:
        return freeze(tower, frozen=config.frozen, layers=config.frozen_layers, statistics=config.frozen_statistics)
    add_lora(tower, config.lora, config.name, run)
    return freeze(tower)


def add_lora(network: nn.Module, config: LoraConfig, name: str, run: Callable[[], object]) -> None:
    """Add LoRA to the attention of a network, and freeze the rest, in place.

    open_clip's and torch's ``nn.MultiheadAttention`` keep queries, keys and values in one bare parameter, so that the
    module itself is the target, with its output; elsewhere the linear layers of queries and values are.

    Args:
        network: of open_clip, timm or transformers.
        config: rank and scale.
        name: of the network, for messages.
        run: passes an example through it: an attention that this does not call gets nothing.

    Raises:
        ImportError: without peft, naming the extra.
        ValueError: if the network has no attention that is known.
    """
    try:
        import peft  # noqa: F401
    except ImportError as error:
        raise ImportError("lora needs the package peft: pip install 'rsretrieval[lora]'") from error
    from rsretrieval.models.lora import inject

    if not inject(network, run, config.rank, config.alpha, config.dropout):
        raise ValueError(f"'{name}' has no attention that LoRA could be added to: leave lora null, and train it whole")
    for key, parameter in network.named_parameters():
        parameter.requires_grad_("lora_" in key)
