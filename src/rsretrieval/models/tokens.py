"""A vector for each cell of an image: its dot product with a text says how much the cell has to do with it.

Two kinds of towers have such vectors. Where an image's vector is the mean of its tokens under a linear layer, each
token's share of the cosine is exact. The vision transformer of a CLIP has none, since only its class token was trained
to meet texts; its last block is run so that tokens keep to what is like them (Li et al., "SegEarth-OV: Towards
Training-Free Open-Vocabulary Segmentation for Remote Sensing Images", CVPR 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn

from rsretrieval.images import mirrorings, normalise
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.parallel import CPU_BATCH
from rsretrieval.types import TowerOutput

CLASS_SHARE = 0.3
"""How much of the image's own vector is taken from each token's, of a CLIP: what they all have alike (SegEarth-OV)."""
SAME = 1e-3
"""Relative difference up to which a vector is the mean of tokens."""


class TokensError(ValueError):
    """A model whose tokens do not tell where in an image something is."""


@torch.inference_mode()
def cell_vectors(model: DualEncoder, images: Tensor) -> Tensor:
    """Vectors of the cells of images, the mean over all views.

    Args:
        model: in evaluation mode.
        images: ``(B, C, H, W)`` uint8, or float in [0, 1].

    Returns:
        ``(B, T, d)`` float32, row by row of a square grid of T cells. Of a tower whose vector is the mean of its tokens
        the mean over an image's cells is the image's embedding, to rounding, so that dot products with a text are
        shares of its cosine. Of a CLIP they are L2-normalised vectors of tokens, less 0.3 of the image's own.

    Raises:
        TokensError: for a model that is of neither kind.
    """
    parts = [_of_views(model, part) for part in torch.split(images, CPU_BATCH)]
    return torch.cat(parts).float()


def _of_views(model: DualEncoder, images: Tensor) -> Tensor:
    config = model.config
    if config.convolutional_branch is not None or config.adapter is not None:
        raise _neither("FGIS or an adapter stands above its tower")
    if config.refinement is not None:
        raise _neither("its vectors are refined by what it remembers")
    last = _last_block(model.image_tower)
    views = mirrorings(images, config.eval_views)
    cells = [_attention_values(model, last, view) if last else _shares(model, view) for view in views]
    count = cells[0].shape[1]
    side = round(count**0.5)
    if side * side != count:
        raise _neither(f"its {count} tokens are no square grid")
    places = mirrorings(torch.arange(count, device=images.device).reshape(side, side), config.eval_views)
    mean = torch.stack([of[:, at.flatten().argsort()] for of, at in zip(cells, places, strict=True)]).mean(0)
    return mean if last else _scaled(model, mean)


def _neither(reason: str) -> TokensError:
    return TokensError(
        f"this model has no vectors of cells ({reason}): its image's vector must be the mean of the tower's tokens "
        "under a linear layer, or the tower the vision transformer of a CLIP; take --method tiles"
    )


def _through_tower(model: DualEncoder, images: Tensor) -> TowerOutput:
    precision = next(model.parameters()).dtype
    output: TowerOutput = model.image_tower(normalise(images, model.config.preprocessing).to(precision))
    return output


def _shares(model: DualEncoder, images: Tensor) -> Tensor:
    """Of each token its part ``(B, T, d)`` of the embedding, of which they are the mean."""
    output = _through_tower(model, images)
    if output.tokens is None or output.tokens.shape[-1] != output.pooled.shape[-1]:
        raise _neither("the vector of its tower is none of its tokens' kind")
    mean = output.tokens.mean(1)
    if (mean - output.pooled).norm() > SAME * output.pooled.norm():
        raise _neither("the vector of its tower is not their mean")
    return _scaled(model, model.pooled_projection(output.tokens))


def _scaled(model: DualEncoder, cells: Tensor) -> Tensor:
    """Cells ``(B, T, d)`` by the length of their mean, head by head, as embeddings are normalised."""
    heads = cells.float().reshape(*cells.shape[:2], len(model.heads), -1)
    lengths = heads.mean(1, keepdim=True).norm(dim=-1, keepdim=True).clamp(min=1e-12)
    shares = torch.tensor(model.heads, device=heads.device)[:, None]
    return heads.div(lengths).mul(shares.sqrt()).flatten(2)


class _LastBlock(NamedTuple):
    """The last block of a vision transformer, in its parts."""

    block: nn.Module
    norm: Callable[[Tensor], Tensor]
    queries_keys_values: Callable[[Tensor], tuple[Tensor, ...]]
    heads: int
    merge: Callable[[Tensor], Tensor]
    finish: Callable[[Tensor], Tensor]


def _last_block(tower: Any) -> _LastBlock | None:  # noqa: ANN401 - of any library
    """Of a CLIP of open_clip or transformers with a class token; None for another tower."""
    model: Any = getattr(tower, "model", None)
    visual: Any = getattr(model, "visual", None)
    if getattr(visual, "pool_type", None) == "tok" and getattr(visual, "attn_pool", None) is None:
        block, projection = visual.transformer.resblocks[-1], visual.proj
        attention: Any = getattr(block, "attn", None)
        if not isinstance(attention, nn.MultiheadAttention) or not visual.transformer.batch_first:
            return None
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        return _LastBlock(
            block, block.ln_1, lambda x: F.linear(x, weight, bias).chunk(3, -1), attention.num_heads,
            lambda x: block.ls_1(attention.out_proj(x)),
            lambda x: visual.ln_post(x) if projection is None else visual.ln_post(x) @ projection,
        )  # fmt: skip
    if getattr(getattr(model, "config", None), "model_type", None) == "clip":
        vision, own = model.vision_model, model.vision_model.encoder.layers[-1]
        attention = own.self_attn
        layers = (attention.q_proj, attention.k_proj, attention.v_proj)
        return _LastBlock(
            own, own.layer_norm1, lambda x: tuple(layer(x) for layer in layers), attention.num_heads,
            attention.out_proj, lambda x: model.visual_projection(vision.post_layernorm(x)),
        )  # fmt: skip
    return None


def _attention_values(model: DualEncoder, last: _LastBlock, images: Tensor) -> Tensor:
    """L2-normalised vectors of tokens ``(B, T, d)``, less a share of the image's own.

    Of the last block remains its attention: each of queries, keys and values attends to itself, and the three together
    weigh the values. There is no residual and no feed-forward.
    """
    with _input_of(last.block) as seen:
        pooled = _through_tower(model, images).pooled
    each = last.queries_keys_values(last.norm(seen[0]))
    parts = [part.reshape(*part.shape[:2], last.heads, -1).transpose(1, 2) for part in each]
    scale = parts[0].shape[-1] ** -0.5
    weights = sum((part @ part.transpose(-1, -2) * scale).softmax(-1) for part in parts)
    tokens = last.finish(last.merge((weights @ parts[2]).transpose(1, 2).flatten(2)))[:, 1:]
    cells, whole = (F.normalize(model.pooled_projection(vectors).float(), dim=-1) for vectors in (tokens, pooled))
    return cells - CLASS_SHARE * whole[:, None]


@contextmanager
def _input_of(block: nn.Module) -> Iterator[list[Tensor]]:
    """What goes into a block while it runs."""
    seen: list[Tensor] = []
    handle = block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()
