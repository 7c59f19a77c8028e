"""What frozen towers give, kept on disk: the same figures as without, whatever a text's or an image's company."""

import json
import logging
import sys
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rsretrieval.models import DualEncoder, TowerConfig
from rsretrieval.models.adaptation import AdapterConfig
from rsretrieval.models.feature_cache import FeatureCache, image_keys, token_keys
from rsretrieval.types import Preprocessing

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

IMAGE = TowerConfig("timm", "test_efficientnet", pooling="all_stages")
FROZEN = replace(IMAGE, frozen=True)
BRANCH = TowerConfig("timm", "test_resnet", frozen=True)
TEXTS = ["a red plane", "two ships in the harbour", "a plane"]


@pytest.fixture
def text(tiny_bert: str) -> TowerConfig:
    return TowerConfig("transformers", tiny_bert, pooling="mean")


@pytest.mark.parametrize("branch", [None, BRANCH])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_features_give_the_uncached_embeddings(
    text: TowerConfig, branch: TowerConfig | None, dtype: torch.dtype
) -> None:
    images = torch.rand(5, 3, 64, 64)

    def build(*, cached: bool) -> DualEncoder:
        torch.manual_seed(0)
        options = {"eval_views": 2, "cache_features": cached}
        return tiny.encoder(FROZEN, text, branch, **options)

    def embed(model: DualEncoder) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            return model.eval().encode_image(images)

    plain, first, second = build(cached=False), build(cached=True), build(cached=True)
    expected = embed(plain)
    # In bf16 the memory layout of a feature map decides on the last digit of a convolution above it.
    tolerance = 1e-6 if dtype is torch.float32 else 5e-3
    torch.testing.assert_close(embed(first), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(embed(second), expected, rtol=0, atol=tolerance)
    assert first._caches["image"].computed == 10  # five images in two views
    assert second._caches["image"].computed == 0  # read from what the first one left
    second.train().encode_image(images).sum().backward()
    assert second.pooled_projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["one", "two", "all padding"])
def test_cached_texts_give_the_uncached_embeddings(text: TowerConfig, kind: str, dtype: torch.dtype) -> None:
    frozen = replace(text, frozen=True, attention_mask=kind != "all padding")
    if kind == "two":
        parts = [asdict(frozen), asdict(replace(frozen, pooling="all_layers"))]
        frozen = TowerConfig("concat", "two", options={"towers": parts})

    def build(*, cached: bool) -> DualEncoder:
        torch.manual_seed(0)
        return tiny.encoder(FROZEN, frozen, None, cache_features=cached)

    def embed(model: DualEncoder, texts: list[str]) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            return model.eval().encode_text(texts)

    plain, first, second = build(cached=False), build(cached=True), build(cached=True)
    tolerance = 1e-6 if dtype is torch.float32 else 5e-3
    for texts in (TEXTS, TEXTS[::-1], TEXTS[:1], [*TEXTS, *TEXTS]):
        expected = embed(plain, texts)
        torch.testing.assert_close(embed(first, texts), expected, rtol=0, atol=tolerance)
        torch.testing.assert_close(embed(second, texts), expected, rtol=0, atol=tolerance)
    # One that attends to its padding has other features at another length.
    assert first._caches["text"].computed == (len(TEXTS) if kind != "all padding" else len(TEXTS) + 1)
    assert second._caches["text"].computed == (0 if kind != "all padding" else 1)  # it was there before that
    third = build(cached=True)
    assert embed(third, TEXTS[1:]).equal(embed(first, TEXTS[1:]))
    assert third._caches["text"].computed == 0
    third.train().encode_text(TEXTS).sum().backward()
    assert third.text_projection.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in third.text_tower.parameters())


@pytest.mark.parametrize("kind", ["open_clip", "transformers"])
def test_both_sides_of_a_pair_are_cached(kind: str, tiny_clip: str, tmp_path: Path) -> None:
    """Also where its tokeniser pads with another number than 0, to the longest text."""
    name = tiny_clip if kind == "open_clip" else tiny.write_hf_clip(tmp_path)
    pair = TowerConfig(kind, name, frozen=True)

    def build(*, cached: bool) -> DualEncoder:
        torch.manual_seed(0)
        adapter = AdapterConfig(width=4)
        return tiny.encoder(pair, pair, None, embed_dim=None, adapter=adapter, cache_features=cached).eval()

    images = torch.randint(256, (4, 3, 64, 64), dtype=torch.uint8)
    plain, first, second = build(cached=False), build(cached=True), build(cached=True)
    tokens = plain.text_tower.tokenizer(TEXTS)
    assert ("attention_mask" in tokens) == (kind == "transformers")
    with torch.no_grad():
        torch.testing.assert_close(first.encode_image(images), plain.encode_image(images), rtol=0, atol=1e-6)
        for texts in (TEXTS, TEXTS[:1], TEXTS[::-1]):
            torch.testing.assert_close(first.encode_text(texts), plain.encode_text(texts), rtol=0, atol=1e-6)
    assert (first._caches["image"].computed, first._caches["text"].computed) == (4, len(TEXTS))
    second.train()(images, tokens)[1].sum().backward()
    assert (second._caches["image"].computed, second._caches["text"].computed) == (0, 0)
    assert second.text_adapter is not None
    assert second.text_adapter.up.weight.grad is not None


def test_another_architecture_at_the_same_path_has_other_features(tmp_path: Path) -> None:
    folders = []
    for context in (32, 16, 32):
        texts = {**tiny.CLIP["text_cfg"], "context_length": context, "no_causal_mask": True}  # type: ignore[dict-item]
        (tmp_path / "clip.json").write_text(json.dumps({**tiny.CLIP, "text_cfg": texts}))
        torch.manual_seed(0)
        pair = TowerConfig("open_clip", str(tmp_path / "clip.json"), frozen=True)
        model = tiny.encoder(pair, pair, None, embed_dim=None, cache_features=True)
        for parameter in model.parameters():
            parameter.data.zero_()
        folders.append(model._caches["image"].folder)
    assert folders[0] == folders[2] != folders[1]


def test_copies_share_what_is_cached(text: TowerConfig) -> None:
    model = tiny.encoder(FROZEN, replace(text, frozen=True), None, cache_features=True).eval()
    copy = deepcopy(model)
    with torch.no_grad():
        assert copy.encode_text(TEXTS).equal(model.encode_text(TEXTS))
    assert copy._caches["text"] is model._caches["text"]
    assert model._caches["text"].computed == len(TEXTS)


def test_a_texts_key_is_that_of_its_tokens() -> None:
    ids, mask = torch.tensor([[2, 5, 0, 3], [2, 5, 3, 0]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    first, second = token_keys({"input_ids": ids, "attention_mask": mask})
    assert first != second
    longer = {
        "attention_mask": torch.nn.functional.pad(mask, (0, 3)),
        "input_ids": torch.nn.functional.pad(ids, (0, 3)),
    }
    assert token_keys(longer) == [first, second]
    assert token_keys({"input_ids": ids[1:, :3], "attention_mask": mask[1:, :3]}) == [second]
    assert token_keys({"input_ids": ids}) != [first, second]
    assert token_keys({"input_ids": mask, "attention_mask": ids}) != [first, second]
    assert token_keys({"input_ids": ids, "attention_mask": torch.ones_like(mask)})[1] != second  # a word of id 0
    assert token_keys(longer, padding=True) != token_keys({"input_ids": ids, "attention_mask": mask}, padding=True)


def test_texts_of_other_towers_are_apart(text: TowerConfig) -> None:
    def folder(**options: object) -> Path:
        torch.manual_seed(0)
        model = tiny.encoder(IMAGE, replace(text, frozen=True, **options), None, cache_features=True)  # type: ignore[arg-type]
        return model._caches["text"].folder

    same = folder()
    assert folder(max_tokens=5) == same  # its tokens tell
    assert len({same, folder(pooling="cls"), folder(pooling="all_layers"), folder(attention_mask=False)}) == 4


@pytest.mark.parametrize("side", ["image", "text"])
def test_the_frozen_side_alone_is_cached(text: TowerConfig, side: str, caplog: pytest.LogCaptureFixture) -> None:
    image = replace(IMAGE, frozen=side == "image")
    with caplog.at_level(logging.INFO):
        model = tiny.encoder(image, replace(text, frozen=side == "text"), None, cache_features=True)
    assert f"cache_features keeps the features of the {side} side alone: the other one trains" in caplog.text
    assert list(model._caches) == [side]
    embeddings = model.train()(torch.rand(3, 3, 64, 64), model.text_tower.tokenizer(TEXTS))
    torch.cat(embeddings).sum().backward()
    for name, tower in (("image", model.image_tower), ("text", model.text_tower)):
        assert any(parameter.grad is not None for parameter in tower.parameters()) == (name != side)
    assert model._caches[side].computed == 3


def test_a_branch_that_trains_leaves_the_image_side_uncached(text: TowerConfig) -> None:
    branch = replace(BRANCH, frozen=False)
    assert list(tiny.encoder(FROZEN, replace(text, frozen=True), branch, cache_features=True)._caches) == ["text"]


def test_both_frozen_sides_are_cached_without_a_word(text: TowerConfig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        model = tiny.encoder(FROZEN, replace(text, frozen=True), None, cache_features=True)
    assert list(model._caches) == ["image", "text"]
    assert "cache_features" not in caplog.text


def test_nothing_that_trains_is_cached(text: TowerConfig) -> None:
    with pytest.raises(
        ValueError,
        match="cache_features needs a frozen image tower and convolutional branch, or a frozen text tower: set their",
    ):
        tiny.encoder(IMAGE, text, None, cache_features=True)


def test_images_of_other_networks_are_apart(monkeypatch: pytest.MonkeyPatch, text: TowerConfig) -> None:
    """The same tensors with another pooling, other options, another size or another library give other features."""

    def folder(image: TowerConfig = FROZEN, size: int = 64, mean: float = 0.5) -> Path:
        torch.manual_seed(0)
        preprocessing = Preprocessing(size, (mean,) * 3)
        return tiny.encoder(image, text, cache_features=True, preprocessing=preprocessing)._caches["image"].folder

    same = folder()
    assert folder(replace(FROZEN, frozen_layers=0)) == same
    others = [
        folder(replace(FROZEN, options={"global_pool": "max"})),
        folder(replace(FROZEN, name="test_efficientnet_ln")), folder(size=96), folder(mean=0.4),
    ]  # fmt: skip
    monkeypatch.setattr("rsretrieval.models.feature_cache.version", lambda library: "0")
    others.append(folder())
    assert len({same, *others}) == 1 + len(others)


def test_max_pooling_does_not_get_the_features_of_mean_pooling(text: TowerConfig) -> None:
    images = torch.rand(2, 3, 64, 64)
    embeddings = []
    for cached in (True, False):
        for pooling in ("avg", "max"):
            torch.manual_seed(0)
            image = replace(FROZEN, options={"global_pool": pooling})
            model = tiny.encoder(image, text, cache_features=cached).eval()
            with torch.no_grad():
                embeddings.append(model.encode_image(images))
    assert not embeddings[0].allclose(embeddings[1])
    torch.testing.assert_close(embeddings[:2], embeddings[2:], atol=1e-6, rtol=0)


def test_the_cache_is_that_of_the_tensors_that_a_checkpoint_brings(text: TowerConfig) -> None:
    """It is named at its first use, not when the towers were built."""
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        models.append(tiny.encoder(FROZEN, text, cache_features=True))
    models[1].load_state_dict(models[0].state_dict())
    assert models[0]._caches["image"].folder == models[1]._caches["image"].folder


def test_a_cache_that_was_cut_off_keeps_its_whole_records(tmp_path: Path) -> None:
    inputs = torch.arange(12.0).view(4, 3)
    calls = []

    def double(cache: FeatureCache, x: Tensor) -> Tensor:
        def compute(rows: list[int]) -> Tensor:
            calls.append(len(rows))
            return 2 * x[rows]

        return cache(image_keys(x), compute)

    cache = FeatureCache(tmp_path / "f", 3)
    assert double(cache, inputs[[0, 1, 0]]).equal(2 * inputs[[0, 1, 0]])
    assert double(cache, inputs).equal(2 * inputs)
    assert calls == [2, 2]
    (file,) = (tmp_path / "f").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    again = FeatureCache(tmp_path / "f", 3)
    assert double(again, inputs).equal(2 * inputs)
    assert calls == [2, 2, 1]
    assert len(list((tmp_path / "f").iterdir())) == 2
