"""Fine-grained information supplementation (FISVL, section III-C), over any pair of backbones."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.models.config import FGIS_HEADS
from rsretrieval.models.layers import Dropout

POOLED = 16  # side of the maps that the three branches are pooled to, so that a token is a map of 256 numbers
BRANCHES = ((1, 32), (3, 32), (5, 64))  # kernel (and stride), channels
ALL = slice(None)


def _conv_block(channels: int, out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out, kernel, stride=kernel, bias=False), nn.BatchNorm2d(out), nn.ReLU(inplace=True)
    )


class SelfAttentionBlock(nn.Module):
    """Post-norm self-attention and feed-forward, each with residual and LayerNorm; ``(B, T, dim)`` in and out."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.query, self.key, self.value, self.merge = (nn.Linear(dim, dim) for _ in range(4))
        self.feed_forward = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), Dropout(dropout), nn.Linear(hidden, dim), Dropout(dropout)
        )
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend among ``(B, T, dim)`` tokens."""
        query, key, value = (
            layer(tokens).unflatten(-1, (FGIS_HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        attended = self._attend(query, key, value)
        tokens = self.norm1(tokens + self.dropout(self.merge(attended.transpose(1, 2).flatten(2))))
        out: Tensor = self.norm2(tokens + self.feed_forward(tokens))
        return out

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if not self.training or query.device.type != "cpu":
            dropout = self.dropout.p if self.training else 0.0
            return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        # On a CPU torch's own is slower once there is dropout, whose masks it draws one by one.
        weights = (query / query.shape[-1] ** 0.5 @ key.transpose(-1, -2)).softmax(-1)
        return self.dropout(weights) @ value  # type: ignore[no-any-return]


class SceneFineGrainedSensing(nn.Module):
    """SFGS: one vector of fine detail from an early convolutional map.

    Args:
        channels: of the early map.
        dim: width of the vector.
        dropout: probability.
    """

    def __init__(self, channels: int, dim: int = 512, dropout: float = 0.2) -> None:
        super().__init__()
        self.reduce = _conv_block(channels, 32, 1)
        self.branches = nn.ModuleList(_conv_block(32, out, kernel) for kernel, out in BRANCHES)
        self.project = nn.Sequential(nn.Linear(POOLED**2, dim), nn.ReLU(), Dropout(dropout))
        self.attention = SelfAttentionBlock(dim, 2 * dim, dropout)
        self.fusion = nn.Parameter(torch.empty(sum(out for _, out in BRANCHES), dim))  # W, tokens x dim
        nn.init.normal_(self.fusion)

    def forward(self, early: Tensor) -> Tensor:
        """``(B, C, H, W)``, at any resolution, to ``(B, dim)``."""
        largest = BRANCHES[-1][0]
        if min(early.shape[-2:]) < largest:  # a map smaller than the largest kernel
            early = F.interpolate(early, size=[max(side, largest) for side in early.shape[-2:]])
        reduced = self.reduce(early)
        maps = torch.cat([F.adaptive_avg_pool2d(branch(reduced), POOLED) for branch in self.branches], dim=1)
        tokens = self.attention(self.project(maps.flatten(2)))
        # The mean over the rows of Wᵀ X is the sum of X's rows weighted by the means of W's.
        return torch.einsum("t,btd->bd", self.fusion.mean(1), tokens)


class GraphReasoning(nn.Module):
    """One step of reasoning on a fully connected graph of nodes ``(B, N, dim)``.

    Args:
        dim: width of a node.
        stabilised: see :class:`FGIS`.
    """

    def __init__(self, dim: int = 512, *, stabilised: bool = False) -> None:
        super().__init__()
        self.stabilised = stabilised
        self.query, self.key, self.update = (nn.Linear(dim, dim) for _ in range(3))
        for layer in (self.query, self.key, self.update):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, nodes: Tensor, wanted: slice = ALL) -> Tensor:
        """``ReLU(L(A N))``, ``A = softmax(Q(N) K(N)ᵀ)``; where stabilised, nodes normalised and products scaled.

        Args:
            nodes: ``(B, N, dim)``.
            wanted: the nodes to give.
        """
        nodes = self._normalised(nodes)
        updated: Tensor = self.update(self._affinity(nodes, wanted) @ nodes)
        return updated.relu()

    def affinity(self, nodes: Tensor) -> Tensor:
        """How much each node takes from each, ``(B, N, N)``: rows add up to 1.

        Args:
            nodes: as :meth:`forward` takes them.
        """
        return self._affinity(self._normalised(nodes))

    def _normalised(self, nodes: Tensor) -> Tensor:
        return F.layer_norm(nodes, nodes.shape[-1:]) if self.stabilised else nodes

    def _affinity(self, nodes: Tensor, wanted: slice = ALL) -> Tensor:
        products: Tensor = self.query(nodes[:, wanted]) @ self.key(nodes).transpose(1, 2)
        return (products / nodes.shape[-1] ** 0.5 if self.stabilised else products).softmax(-1)


class FGIS(nn.Module):
    """Supplement an image's tokens with the detail that a convolutional branch sees.

    Nodes are the branch's global vector, the SFGS vector of its early map, the pooled image vector and the image's
    tokens; after the reasoning, the pooled vector's own node is added back to it.

    Args:
        early_channels: channels of the branch's early map.
        dim: width of nodes and output (512 in the paper).
        steps: graph steps (2 in the paper).
        dropout: probability, on the fused feature and inside SFGS.
        freeze_sfgs: never train the SFGS branch, as happens in the release, where it shares the frozen flag of the
            ResNet.
        stabilised: layer-normalise the nodes before each step and divide their products by √dim, as Transformers do,
            and start from zero. Not in the paper, whose unscaled products of unbounded nodes can diverge: with other
            backbones and learning rates above its own, gradients grew 10⁵-fold (``docs/results.md``).
        from_zero: start with a head of zeros, so that training begins from the image tower's own vector.
    """

    def __init__(
        self,
        early_channels: int,
        dim: int = 512,
        steps: int = 2,
        dropout: float = 0.2,
        *,
        freeze_sfgs: bool = False,
        stabilised: bool = False,
        from_zero: bool = False,
    ) -> None:
        super().__init__()
        self.sfgs = SceneFineGrainedSensing(early_channels, dim, dropout)
        self.graph = nn.ModuleList(GraphReasoning(dim, stabilised=stabilised) for _ in range(steps))
        self.head = nn.Linear(dim, dim)
        if stabilised or from_zero:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        self.dropout = Dropout(dropout)
        self.sfgs.requires_grad_(not freeze_sfgs)

    def forward(self, early: Tensor, branch: Tensor, pooled: Tensor, tokens: Tensor) -> Tensor:
        """Fuse what both backbones see.

        Args:
            early: ``(B, C, H, W)`` the convolutional branch's early map.
            branch: ``(B, dim)`` the branch's global vector, projected.
            pooled: ``(B, dim)`` the image tower's global vector, projected.
            tokens: ``(B, T, dim)`` the image tower's tokens, projected.

        Returns:
            ``(B, dim)`` L2-normalised image embeddings.
        """
        nodes = torch.cat([torch.stack([branch, self.sfgs(early), pooled], dim=1), tokens], dim=1)
        for number, step in enumerate(self.graph, 1):
            nodes = step(nodes, slice(3) if number == len(self.graph) else ALL)
        return F.normalize(pooled + self.dropout(self.head(nodes[:, 2])), dim=-1)
