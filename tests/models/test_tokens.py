"""Vectors of cells: exact shares of a cosine where a vector is the mean of tokens; of CLIPs against loops."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from pairs import random_model, write_architecture, write_transformers_pair
from torch import Tensor

from rsretrieval import Retriever
from rsretrieval.models.adaptation import AdapterConfig
from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.tokens import TokensError, cell_vectors
from rsretrieval.types import Preprocessing

TEXT = TowerConfig("open_clip", "text-small")
MEAN = EncoderConfig(TowerConfig("timm", "test_efficientnet"), TEXT, None, Preprocessing(96), embed_dim=16)
IMAGES = torch.randint(0, 256, (10, 3, 96, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def model_of(config: EncoderConfig) -> DualEncoder:
    torch.manual_seed(0)
    return DualEncoder(config).eval()


@pytest.mark.parametrize("views", [1, 2, 4, 8])
@pytest.mark.parametrize("heads", [1, 2])
def test_cells_share_the_embedding(views: int, heads: int) -> None:
    texts = TEXT if heads == 1 else TowerConfig("concat", "two", options={"towers": [TEXT.__dict__, TEXT.__dict__]})
    model = model_of(
        replace(MEAN, eval_views=views, text=texts, split_heads=heads > 1, head_weights=(2, 1)[: heads * 2 - 2])
    )
    cells = cell_vectors(model, IMAGES)
    with torch.no_grad():
        whole = model.encode_image(IMAGES)
    assert cells.shape == (10, 9, 16 * heads)
    torch.testing.assert_close(cells.mean(1), whole, atol=1e-5, rtol=0)
    assert (cells[:, 0] - cells[:, 5]).norm() > 0.1  # they differ


@pytest.mark.parametrize("config", [MEAN, replace(MEAN, image=TowerConfig("timm", "test_resnet"))])
@pytest.mark.parametrize("dims", [(-1,), (-2,), (-1, -2)])
def test_cells_lie_where_they_are_seen(config: EncoderConfig, dims: tuple[int, ...]) -> None:
    model = model_of(replace(config, eval_views=4))
    side = round(cell_vectors(model, IMAGES[:1]).shape[1] ** 0.5)

    def grid(images: Tensor) -> Tensor:
        return cell_vectors(model, images).reshape(len(images), side, side, -1).movedim(-1, 1)

    torch.testing.assert_close(grid(IMAGES[:2].flip(dims)), grid(IMAGES[:2]).flip(dims), atol=1e-5, rtol=0)
    bright = IMAGES[:1].clone()
    bright[..., :32, 64:] = 255  # in the upper right
    change = (grid(bright) - grid(IMAGES[:1])).norm(dim=1)[0]
    row, column = divmod(int(change.argmax()), side)
    assert row < side / 2 <= column + 0.5


def by_loops(x: Tensor, qkv: list[tuple[Tensor, Tensor]], out: tuple[Tensor, Tensor], heads: int) -> Tensor:
    """Σ over q, k and v of softmax(x xᵀ / √d) v, head by head, token by token."""
    projected = [F.linear(x, *layer) for layer in qkv]
    width = x.shape[-1] // heads
    result = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        values = projected[2][:, part]
        for each in projected:
            of_head = each[:, part]
            for token in range(len(x)):
                weights = torch.softmax(of_head @ of_head[token] / width**0.5, 0)
                result[token, part] += weights @ values
    return F.linear(result, *out)


def open_clip_reference(model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    visual = model.visual
    x = visual._embeds(image)
    x = visual.transformer.resblocks[0](x)[0]  # of two blocks
    attention = visual.transformer.resblocks[1].attn
    qkv = list(zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True))
    out = (attention.out_proj.weight, attention.out_proj.bias)
    x = by_loops(visual.transformer.resblocks[1].ln_1(x), qkv, out, attention.num_heads)
    return visual.ln_post(x) @ visual.proj, model.encode_image(image)[0]


def transformers_reference(model: Any, image: Tensor) -> tuple[Tensor, Tensor]:
    vision = model.vision_model
    x = vision.encoder.layers[0](vision.pre_layrnorm(vision.embeddings(image)), attention_mask=None)[0]
    last = vision.encoder.layers[1]
    own = last.self_attn
    qkv = [(layer.weight, layer.bias) for layer in (own.q_proj, own.k_proj, own.v_proj)]
    x = by_loops(last.layer_norm1(x), qkv, (own.out_proj.weight, own.out_proj.bias), own.num_heads)
    return model.visual_projection(vision.post_layernorm(x)), model.get_image_features(image).pooler_output[0]


@pytest.mark.parametrize("library", ["open_clip", "transformers"])
@torch.no_grad()
def test_a_clip_has_vectors_of_its_tokens_by_their_values(library: str, tmp_path: Path) -> None:
    if library == "open_clip":
        architecture = write_architecture(tmp_path, "vit")
        torch.save(random_model(architecture.stem).state_dict(), tmp_path / "weights.pt")
        retriever = Retriever.from_open_clip(str(architecture), str(tmp_path / "weights.pt"))
        reference = open_clip_reference
    else:
        retriever = Retriever.from_transformers(str(write_transformers_pair(tmp_path / "clip", "clip")))
        reference = transformers_reference
    images = IMAGES[:2, :, :64, :64]
    cells = cell_vectors(retriever.model, images)
    assert cells.shape == (2, 16, 24)
    settings = retriever.model.config.preprocessing
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.mean, settings.std))
    for image, found in zip(images, cells, strict=True):
        tokens, whole = reference(retriever.model.image_tower.model, ((image / 255 - mean) / std)[None])
        wanted = F.normalize(tokens[1:], dim=-1) - 0.3 * F.normalize(whole, dim=-1)
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (replace(MEAN, convolutional_branch=TowerConfig("timm", "test_resnet")), "FGIS or an adapter"),
        (replace(MEAN, adapter=AdapterConfig()), "FGIS or an adapter"),
        (replace(MEAN, image=replace(MEAN.image, pooling="all_stages")), "none of its tokens' kind"),
        (replace(MEAN, image=TowerConfig("timm", "test_convnext")), "not their mean"),
        (replace(MEAN, image=TowerConfig("timm", "test_vit"), preprocessing=Preprocessing(160)), "not their mean"),
    ],
)
def test_others_are_refused_by_name(config: EncoderConfig, reason: str) -> None:
    images = torch.zeros(1, 3, *[config.preprocessing.image_size] * 2, dtype=torch.uint8)
    with pytest.raises(TokensError, match=rf"no vectors of cells \(.*{reason}.*take --method tiles"):
        cell_vectors(model_of(config), images)


def test_a_model_pooled_by_attention_is_refused(tmp_path: Path) -> None:
    retriever = Retriever.from_transformers(str(write_transformers_pair(tmp_path / "siglip", "siglip")))
    with pytest.raises(TokensError, match="not their mean"):
        cell_vectors(retriever.model, IMAGES[:1, :, :64, :64])
