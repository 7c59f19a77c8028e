"""The towers' options: towers side by side, pooling of every stage, views, frozen layers, chunks."""

import itertools
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from rsretrieval.images import mirrorings
from rsretrieval.losses import contrastive_loss
from rsretrieval.metrics import HubnessConfig
from rsretrieval.models import TowerConfig
from rsretrieval.models.layers import freeze, layer_numbers
from rsretrieval.models.parallel import core_images, in_chunks
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.towers.open_clip import OpenClipImageTower, OpenClipTextTower
from rsretrieval.models.towers.stages import _moments
from rsretrieval.models.towers.timm import TimmImageTower
from rsretrieval.models.towers.transformers import TransformersTextTower
from rsretrieval.training import OptimizerConfig
from rsretrieval.types import Batch, text_ids

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

LITE = TowerConfig("timm", "test_efficientnet", pooling="all_stages")
FROZEN = replace(LITE, frozen=True)
BRANCH = TowerConfig("timm", "test_resnet", frozen=True)


@pytest.fixture
def text(tiny_bert: str) -> TowerConfig:
    return TowerConfig("transformers", tiny_bert, pooling="mean")


def test_texts_through_a_tower_and_its_frozen_self(text: TowerConfig) -> None:
    parts = [asdict(text), asdict(replace(text, pooling="all_layers", frozen=True))]
    model = tiny.encoder(FROZEN, TowerConfig("concat", "two", options={"towers": parts}), None)
    trained, frozen = model.text_tower.towers
    texts = ["a red plane", "two ships in the harbour"]
    with torch.no_grad():
        found = model.eval().text_tower(model.text_tower.tokenizer(texts))
        expected = [tower(tower.tokenizer(texts)).pooled for tower in (trained, frozen)]
        torch.testing.assert_close(found.pooled, torch.cat(expected, 1))
    model.train()
    assert trained.training
    assert not frozen.training
    model.encode_text(texts).sum().backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    assert all(parameter.grad is not None for parameter in trained.parameters())


@pytest.mark.parametrize("weights", [(), (3.0, 1.0)])
def test_split_heads(text: TowerConfig, weights: tuple[float, ...]) -> None:
    parts = [asdict(text), asdict(replace(text, pooling="all_layers", frozen=True))]
    joint = TowerConfig("concat", "two", options={"towers": parts})
    module = tiny.module(FROZEN, joint, None, eval_views=2, split_heads=True, head_weights=weights)
    shares = (0.75, 0.25) if weights else (0.5, 0.5)
    model, texts = module.model.eval(), ["a red plane", "two ships in the harbour"]
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        image, words = model(images, model.text_tower.tokenizer(texts))
        assert image.shape == words.shape == (2, model.embed_dim) == (2, 64)
        assert image.norm(dim=1).allclose(torch.ones(2))
        cosines = []
        for head, tower in enumerate(model.text_tower.towers):
            mine = slice(32 * head, 32 * (head + 1))
            alone = model.text_projection.layers[head](tower(tower.tokenizer(texts)).pooled)
            torch.testing.assert_close(words[:, mine] / shares[head] ** 0.5, normalize(alone, dim=1))
            cosines.append(normalize(image[:, mine], dim=1) @ normalize(words[:, mine], dim=1).T)
        torch.testing.assert_close(image @ words.T, shares[0] * cosines[0] + shares[1] * cosines[1])
        ids = torch.arange(2)
        batch = Batch(images, ids, texts, text_ids(texts), ids, ids, torch.ones(2))
        found = module.losses(batch, {"contrastive": 1.0}, 0)["loss"]
        image, words = (part.chunk(2, dim=1) for part in module.model(images, model.text_tower.tokenizer(texts)))
        each = [
            contrastive_loss(image=normalize(i), text=normalize(t), image_ids=ids, temperature=0.07)
            for i, t in zip(image, words, strict=True)
        ]
        torch.testing.assert_close(found, torch.stack(each).mean())
    with pytest.raises(
        ValueError,
        match="split_heads needs a text tower of the library 'concat', and `convolutional_branch: null`: set",
    ):
        tiny.settings(FROZEN, joint, BRANCH, split_heads=True)
    with pytest.raises(ValueError, match="split_heads needs"):
        tiny.settings(FROZEN, text, split_heads=True)
    for wrong in ((1.0,), (1.0, 0.0)):
        with pytest.raises(ValueError, match="give a number above 0 for each of the 2 split heads"):
            tiny.settings(FROZEN, joint, split_heads=True, head_weights=wrong)
    with pytest.raises(ValueError, match="of the 0 split heads"):
        tiny.settings(FROZEN, text, head_weights=(1.0,))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_levels_are_mean_and_deviation_of_every_stage(name: str) -> None:
    tower = TimmImageTower(TowerConfig("timm", name, pooling="all_stages"), 64).eval()
    plain = TimmImageTower(TowerConfig("timm", name), 64).eval()
    plain.load_state_dict(tower.state_dict())
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        found, expected = tower(images), plain(images)
        last, stages = tower.model.forward_intermediates(images)
    torch.testing.assert_close(found.tokens, expected.tokens)
    own, levels = found.pooled.tensor_split([plain.pooled_width], dim=1)
    torch.testing.assert_close(own, expected.pooled)
    for stage in (*stages, last) if "efficientnet" in name else stages:
        flat = stage.flatten(2)
        mean = flat.mean(2)
        deviation = ((flat - mean[:, :, None]).pow(2).sum(2) / (flat.shape[2] - 1)).sqrt()
        pairs = levels.unfold(1, 2 * stage.shape[1], 1)
        wanted = torch.cat([deviation, mean], 1)
        assert (pairs - wanted[:, None]).abs().amax((0, 2)).min() < 1e-5


@pytest.mark.parametrize(("name", "stages"), [("test_efficientnet", (2, 6)), ("test_resnet", (1, 3))])
def test_correlations_of_channels(name: str, stages: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    settings = TowerConfig("timm", name, pooling="all_stages", correlated_stages=stages)
    tower = TimmImageTower(settings, 64).eval()
    without = TimmImageTower(replace(settings, correlated_stages=()), 64).eval()
    without.load_state_dict(tower.state_dict())
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        found, plain = tower(images).pooled, without(images).pooled
        last, maps = tower.model.forward_intermediates(images)
    trained = tower(images).pooled
    assert trained.requires_grad
    torch.testing.assert_close(trained, found, atol=1e-4, rtol=1e-4)
    assert found.shape[1] == tower.pooled_width
    maps = {2: maps[1], 6: last} if "efficientnet" in name else {1: maps[0], 3: maps[2]}
    place = 0
    for stage, image in itertools.product(stages, range(3)):
        wanted = np.corrcoef(maps[stage][image].flatten(1).double().numpy())
        wanted = 3 * torch.from_numpy(np.nan_to_num(wanted)[np.triu_indices(len(wanted), 1)]).float()
        near = (found[image].unfold(0, len(wanted), 1) - wanted).abs().amax(1)
        place = int(near.argmin()) if image == 0 else place
        assert near[place] < 1e-4
        if image == 2:  # what is left without all of them is as it was
            found = torch.cat([found[:, :place], found[:, place + len(wanted) :]], dim=1)
    torch.testing.assert_close(found, plain)


def test_a_constant_channel_is_correlated_with_none() -> None:
    maps = torch.rand(2, 3, 4, 4)
    maps[:, 1] = 0.5
    _, _, found = _moments(maps, correlations=True)
    assert found[:, [0, 2]].abs().max() < 1e-6 < found[:, 1].abs().min()
    _, _, trained = _moments(maps.requires_grad_(), correlations=True)
    trained.sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_stages_to_correlate_that_are_not_there_are_refused() -> None:
    for name, count in (("test_efficientnet", 6), ("test_resnet", 5)):
        with pytest.raises(ValueError, match=rf"no stages \[0, 9\]; the network has stages 1 to {count}"):
            TimmImageTower(TowerConfig("timm", name, pooling="all_stages", correlated_stages=(0, 1, 9)), 64)
    with pytest.raises(ValueError, match="correlated_stages of 'test_resnet' are of `pooling: all_stages`: set that"):
        TowerConfig("timm", "test_resnet", correlated_stages=(1,))


def test_levels_of_a_text_are_the_means_of_words_and_layers(text: TowerConfig) -> None:
    tower = TransformersTextTower(replace(text, pooling="all_layers")).eval()
    tokens = tower.tokenizer(["a red plane", "two ships in the harbour"])
    with torch.no_grad():
        found = tower(tokens)
        states = tower.model(**tokens, output_hidden_states=True).hidden_states
    assert found.pooled.shape == (2, tower.pooled_width) == (2, 2 * tower.token_width)
    for row, length in enumerate(tokens["attention_mask"].sum(1).tolist()):
        wanted = torch.cat([state[row, :length].mean(0) for state in states])
        torch.testing.assert_close(found.pooled[row], wanted)


def test_towers_side_by_side(text: TowerConfig) -> None:
    parts = [asdict(FROZEN), asdict(TowerConfig("timm", "test_vit"))]
    config = TowerConfig("concat", "two", options={"towers": parts})
    model = tiny.encoder(config, text, BRANCH)
    first, second = model.image_tower.towers
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        found = model.eval().image_tower(images)
        torch.testing.assert_close(found.pooled, torch.cat([first(images).pooled, second(images).pooled], 1))
        torch.testing.assert_close(found.tokens, first(images).tokens)
    model.train()
    assert not first.training
    assert second.training
    assert {p.requires_grad for p in first.parameters()} == {False}
    assert {p.requires_grad for p in second.parameters()} == {True}
    with pytest.raises(ValueError, match=r"needs options\.towers"):
        tiny.settings(replace(config, options={}), text)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "test_convnext"])
def test_layers_from_the_stem_to_the_top(name: str) -> None:
    tower = TimmImageTower(TowerConfig("timm", name), 64)
    numbers = layer_numbers(tower)
    assert set(numbers.values()) == set(range(max(numbers.values()) + 1))
    assert next(iter(numbers.values())) == 0
    kept = freeze(tower, layers=2)
    tower.train()
    for module in kept:
        module.eval()
    for name, parameter in tower.named_parameters():
        assert parameter.requires_grad == (numbers[name] >= 2)
    for path, module in tower.named_modules():
        own = [numbers[f"{path}.{n}" if path else n] for n, _ in module.named_parameters()]
        if own:
            assert module.training == (max(own) >= 2)
    with pytest.raises(ValueError, match="99 layers cannot be frozen of"):
        freeze(tower, layers=99)


def test_layers_of_open_clip_follow_the_way_of_the_data(tmp_path: Path) -> None:
    """Registered first are a tower's output projection and its positions, last a text's token embedding."""
    (tmp_path / "vit.json").write_text(json.dumps({**tiny.CLIP, "text_cfg": {**tiny.CLIP["text_cfg"], "layers": 2}}))
    config = TowerConfig("open_clip", str(tmp_path / "vit.json"))
    text = layer_numbers(OpenClipTextTower(config))
    expected = {
        "positional_embedding": 0, "token_embedding.weight": 0, "transformer.resblocks.0.ln_1.weight": 1,
        "transformer.resblocks.1.mlp.c_proj.weight": 2, "ln_final.weight": 3, "text_projection": 3,
    }  # fmt: skip
    assert {name: text[f"model.{name}"] for name in expected} == expected
    image = layer_numbers(OpenClipImageTower(config, 64))
    expected = {
        "class_embedding": 0, "positional_embedding": 0, "conv1.weight": 0, "ln_pre.bias": 0,
        "transformer.resblocks.0.attn.in_proj_weight": 1, "ln_post.weight": 2, "proj": 2,
    }  # fmt: skip
    assert {name: image[f"model.visual.{name}"] for name in expected} == expected
    resnet = {**tiny.CLIP["vision_cfg"], "layers": [1, 1, 1, 1], "width": 16, "head_width": 8, "patch_size": None}
    (tmp_path / "resnet.json").write_text(json.dumps({**tiny.CLIP, "vision_cfg": resnet}))
    image = layer_numbers(OpenClipImageTower(TowerConfig("open_clip", str(tmp_path / "resnet.json")), 64))
    expected = {
        "conv1.weight": 0, "bn3.bias": 0, "layer1.0.conv1.weight": 1, "layer4.0.bn3.weight": 4,
        "attnpool.positional_embedding": 5, "attnpool.c_proj.weight": 5,
    }  # fmt: skip
    assert {name: image[f"model.visual.{name}"] for name in expected} == expected


@pytest.mark.parametrize(("setting", "message"), [
    ({"learning_rate": 0.0}, "learning_rate=0: nothing would be learned"),
    ({"learning_rate": -1.0}, "learning_rate=-1.0: give 0 or more"),
    ({"warmup": 2.0}, "warmup=2.0: give the fraction"),
])  # fmt: skip
def test_rates_that_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**setting)


def test_each_layer_learns_slower_than_the_one_above(text: TowerConfig) -> None:
    optimizer = OptimizerConfig(learning_rate=1.0, tower_factor=0.5, layer_decay=0.1)
    module = tiny.module(LITE, text, None, optimizer=optimizer)
    rates = {id(p): group["lr"] for group in module.parameter_groups() for p in group["params"]}
    assert rates[id(module.model.pooled_projection.weight)] == 1.0
    numbers = layer_numbers(module.model.image_tower)
    top = max(numbers.values())
    for name, parameter in module.model.image_tower.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.5 * 0.1 ** (top - numbers[name]))


def test_towers_side_by_side_each_count_their_own_layers(text: TowerConfig) -> None:
    parts = [asdict(replace(LITE, name=name)) for name in ("test_efficientnet", "test_vit")]
    optimizer = OptimizerConfig(learning_rate=1.0, layer_decay=0.1)
    joint = TowerConfig("concat", "two", options={"towers": parts})
    module = tiny.module(joint, text, None, optimizer=optimizer)
    rates = {id(p): group["lr"] for group in module.parameter_groups() for p in group["params"]}
    depths = []
    for tower in module.model.image_tower.towers:
        numbers = layer_numbers(tower)
        depths.append(max(numbers.values()))
        for name, parameter in tower.named_parameters():
            assert rates[id(parameter)] == pytest.approx(0.1 ** (depths[-1] - numbers[name]))
    assert depths[0] != depths[1]


@pytest.mark.parametrize(
    "device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]
)
@pytest.mark.parametrize("half", [False, True])
def test_chunks_draw_the_same_dropout_again(text: TowerConfig, device: str, half: bool) -> None:
    model = tiny.encoder(FROZEN, text, None, chunk_size=2).to(device)
    texts = ["a red plane", "two ships", "in the harbour", "the red harbour", "a plane"]
    found = []
    tokens = model.text_tower.tokenizer(texts)
    for chunks in (lambda: in_chunks(model.encode_tokens, tokens, 2, model._weight),
                   lambda: torch.cat([model.encode_text(texts[i : i + 2]) for i in (0, 2, 4)])):  # fmt: skip
        torch.manual_seed(0)
        with torch.autocast(device, torch.bfloat16, enabled=half):
            rows = chunks()
            rows[:, :7].sum().backward()
        found.append([rows.detach(), *(p.grad for p in model.text_tower.parameters() if p.grad is not None)])
        model.zero_grad()
    assert len(found[0]) > 10
    for mine, expected in zip(*found, strict=True):
        torch.testing.assert_close(mine, expected)
    assert not found[0][0].equal(model.encode_text(texts))  # there is dropout


def test_the_bank_keeps_the_last_queries() -> None:
    bank = QueryBank(4, 2)
    with pytest.raises(ValueError, match=r"query bank is empty: train with model\.encoder\.query_bank"):
        bank.queries()
    rows = torch.arange(12.0).view(6, 2)
    bank.remember(rows[:3], -rows[:3])
    assert [part.tolist() for part in bank.queries()] == [rows[:3].tolist(), (-rows[:3]).tolist()]
    bank.remember(rows[3:5], -rows[3:5])
    assert {tuple(row) for row in bank.queries()[0].tolist()} == {tuple(row) for row in rows[1:5].tolist()}
    bank.remember(torch.cat([rows, rows + 20]), torch.cat([rows, rows + 20]))  # more than it holds
    image, text = bank.queries()
    assert {tuple(row) for row in image.tolist()} == {tuple(row) for row in (rows[2:] + 20).tolist()}
    assert image.equal(text)


def test_training_fills_the_bank(text: TowerConfig) -> None:
    module = tiny.module(LITE, text, None, query_bank=8)
    ids = torch.arange(3)
    texts = ["a red plane", "two ships", "the harbour"]
    batch = Batch(torch.rand(3, 3, 64, 64), ids, texts, text_ids(texts), ids, ids, torch.ones(3))
    module.eval().losses(batch, {"contrastive": 1.0}, 0)
    assert module.model.bank is not None
    assert module.model.bank.total == 0
    module.train().losses(batch, {"contrastive": 1.0}, 0)
    assert [part.shape for part in module.model.bank.queries()] == [(3, 32)] * 2
    assert module.model.bank.queries()[0].norm(dim=1).allclose(torch.ones(3))
    older = {key: value for key, value in module.state_dict().items() if "bank" not in key}
    again = tiny.module(LITE, text, None, query_bank=8)
    again.load_state_dict(older)
    assert again.model.bank is not None
    assert again.model.bank.total == 0
    with pytest.raises(
        ValueError, match=r"hubness\.queries: bank needs a model with a bank: set model\.encoder\.query_bank"
    ):
        tiny.module(LITE, text, hubness=HubnessConfig(queries="bank"))


@pytest.mark.parametrize("separate", [False, True])
def test_chunks_have_the_gradients_of_the_whole_batch(text: TowerConfig, separate: bool) -> None:
    parts = [asdict(text), asdict(replace(text, pooling="all_layers"))]
    joint = TowerConfig("concat", "two", options={"towers": parts})
    image = TowerConfig("timm", "test_vit", pooling="all_stages")  # no batch norm
    torch.manual_seed(0)
    whole = tiny.encoder(image, joint, None, split_heads=separate)
    model = tiny.encoder(image, joint, None, split_heads=separate, chunk_size=4)
    model.load_state_dict(whole.state_dict())
    seen: list[int] = []
    model.image_tower.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    images = torch.rand(10, 3, 64, 64)
    texts = [f"{first} {second}" for first in ("two", "red", "a", "in", "the") for second in ("plane", "ships")]
    for each in (whole, model):
        for module in each.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        mine, words = each(images, each.text_tower.tokenizer(texts))
        contrastive_loss(image=mine, text=words, image_ids=torch.arange(10), temperature=0.1).backward()
    for (name, mine), expected in zip(model.named_parameters(), whole.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(mine.grad, expected.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert seen == [4, 4, 2, 2, 4, 4]  # once more each in the backward pass, the last first
    with torch.no_grad():
        model.eval()(images, model.text_tower.tokenizer(texts))
    assert sum(seen[6:]) == 10  # not in chunks, but what a core sees at a time
    assert max(seen[6:]) <= core_images(model.image_tower)
    with pytest.raises(ValueError, match="chunk_size=0: give 1 or more"):
        tiny.settings(image, text, chunk_size=0)


def test_views_are_the_eight_of_a_square(text: TowerConfig) -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    eight = {tuple(view.flatten().tolist()) for view in mirrorings(image, 8)}
    turned = {tuple(torch.rot90(i, k, (2, 3)).flatten().tolist()) for i in (image, image.flip(-1)) for k in range(4)}
    assert eight == turned
    assert len(eight) == 8
    model = tiny.encoder(LITE, text, None, eval_views=4).eval()
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        mirrored = [images, images.flip(-1), images.flip(-2), images.flip(-1, -2)]
        mean = torch.stack([model.embed_features(model.backbone_features(view)) for view in mirrored]).mean(0)
        torch.testing.assert_close(model.encode_image(images), torch.nn.functional.normalize(mean, dim=1))
        torch.testing.assert_close(model.encode_image(images.flip(-1)), model.encode_image(images))
    with pytest.raises(ValueError, match="eval_views=3 is unknown; possible are 1, 2, 4 and 8"):
        tiny.settings(LITE, text, eval_views=3)


def test_moments_of_maps_are_those_of_torch() -> None:
    torch.manual_seed(0)
    tower = TimmImageTower(TowerConfig("timm", "test_resnet", pooling="all_stages"), 64).eval()
    images = torch.rand(3, 3, 64, 64)
    with torch.no_grad():
        without = tower(images).pooled
    torch.testing.assert_close(without, tower(images).pooled.detach(), atol=1e-5, rtol=1e-5)  # std_mean, with gradients
