"""LoRA and adapters on towers of every library: they start as the original, and nothing else trains."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from rsretrieval.models import DualEncoder, TowerConfig
from rsretrieval.models.adaptation import Adapter, AdapterConfig, LoraConfig
from rsretrieval.training.optimizer import OptimizerConfig, parameter_groups

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

LORA = LoraConfig(rank=2, alpha=4)
TEXTS = ["a red plane", "two ships in the harbour"]
RESNET = TowerConfig("timm", "test_resnet", frozen=True)


def towers(kind: str, bert: str, clip: str, folder: Path) -> tuple[TowerConfig, TowerConfig]:
    """Image and text tower of one kind."""
    if kind == "open_clip":
        return TowerConfig("open_clip", clip), TowerConfig("open_clip", clip)
    if kind == "transformers pair":
        pair = TowerConfig("transformers", tiny.write_hf_clip(folder))
        return pair, pair
    text = TowerConfig("transformers", bert, pooling="mean")
    if kind == "timm":
        return TowerConfig("timm", "test_vit", options={"patch_size": 16}), text
    parts = [asdict(replace(text, lora=LORA)), asdict(replace(text, frozen=True, pooling="all_layers"))]
    return RESNET, TowerConfig("concat", "two", options={"towers": parts})


def build(image: TowerConfig, text: TowerConfig, **options: object) -> DualEncoder:
    torch.manual_seed(0)
    pair = image.library != "timm"
    return tiny.encoder(image, text, None, embed_dim=None if pair else 32, **options)  # type: ignore[arg-type]


def embed(model: DualEncoder) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, 64, 64, generator=generator)
    with torch.no_grad():
        return torch.cat([model.eval().encode_image(images), model.encode_text(TEXTS)])


def step(model: DualEncoder, count: int = 3) -> None:
    """Train a little, on a loss that every embedding takes part in."""
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-2)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    for _ in range(count):
        optimizer.zero_grad()
        image, text = model(images, model.text_tower.tokenizer(TEXTS))
        torch.nn.functional.cross_entropy(image @ text.T * 10, torch.arange(2)).backward()
        assert all(parameter.grad is not None for parameter in trainable)  # DDP takes it for a fault
        optimizer.step()


@pytest.mark.parametrize("kind", ["open_clip", "timm", "transformers pair", "concat"])
def test_lora_starts_as_the_original_and_trains_alone(
    kind: str, tiny_bert: str, tiny_clip: str, tmp_path: Path
) -> None:
    image, text = towers(kind, tiny_bert, tiny_clip, tmp_path)
    parts = [{**part, "lora": None} for part in text.options.get("towers", ())]
    original = build(image, replace(text, options={"towers": parts}) if parts else text)
    projection = "linear" if image.library == "timm" else None
    plain = original.state_dict()
    if kind != "concat":
        image, text = replace(image, lora=LORA), replace(text, lora=LORA)
    model = build(image, text, projection=projection)
    fresh = model.state_dict()
    model.load_state_dict({name: plain.get(without_lora(name), tensor) for name, tensor in fresh.items()})
    torch.testing.assert_close(embed(model), embed(original), rtol=0, atol=2e-6)
    added = {name for name, parameter in model.named_parameters() if parameter.requires_grad and "tower" in name}
    assert added
    assert all("lora_" in name for name in added)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    step(model)
    changed = {name for name, tensor in model.state_dict().items() if not tensor.equal(before[name])}
    assert {name for name in changed if "tower" in name} == added  # not by the last digit either
    assert not embed(model).allclose(embed(original), atol=1e-3)
    again = build(image, text, projection=projection)
    again.load_state_dict(model.state_dict())
    assert embed(again).equal(embed(model))


def without_lora(name: str) -> str:
    """The name that a tensor had before; of an addition none."""
    return "" if "lora_" in name else name.replace("base_layer.", "")


def test_an_attention_of_one_matrix_by_hand(tiny_clip: str) -> None:
    """The matrix that it computes with is ``W + alpha / rank B A``."""
    pair = TowerConfig("open_clip", tiny_clip, lora=LORA)
    model = build(pair, pair)
    attention = model.image_tower.model.visual.transformer.resblocks[0].attn
    outer = attention.base_layer.out_proj
    for layer in (attention, outer):
        nn.init.normal_(layer.lora_B["default"].weight)
    plain = nn.MultiheadAttention(64, attention.num_heads, batch_first=attention.batch_first)
    for name, layer in (("in_proj", attention), ("out_proj", outer)):
        product = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        matrix = attention.base_layer.in_proj_weight if name == "in_proj" else outer.base_layer.weight
        target = plain.in_proj_weight if name == "in_proj" else plain.out_proj.weight
        target.data = matrix.data + 4 / 2 * product.data
    plain.in_proj_bias, plain.out_proj.bias = attention.base_layer.in_proj_bias, outer.base_layer.bias
    inputs = torch.rand(2, 5, 64)
    torch.testing.assert_close(attention(inputs, inputs, inputs)[0], plain(inputs, inputs, inputs)[0])


@pytest.mark.parametrize(
    ("tower", "message"),
    [
        (TowerConfig("timm", "test_resnet", lora=LORA), "'test_resnet' has no attention that LoRA could be added to"),
        (TowerConfig("open_clip", "RESNET", lora=LORA), r"has no attention that LoRA could be added to"),  # but a pool
        (
            TowerConfig("open_clip", "CLIP", lora=LoraConfig(dropout=0.1)),
            r"lora\.dropout=0\.1 has no effect on an atten",
        ),
    ],
)
def test_what_lora_cannot_be_added_to(
    tower: TowerConfig, message: str, tiny_bert: str, tiny_clip: str, tmp_path: Path
) -> None:
    resnet = {**tiny.CLIP, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 64}}
    (tmp_path / "resnet.json").write_text(json.dumps(resnet))
    names = {"RESNET": str(tmp_path / "resnet.json"), "CLIP": tiny_clip}
    tower = replace(tower, name=names.get(tower.name, tower.name))
    with pytest.raises(ValueError, match=message):
        tiny.encoder(tower, TowerConfig("transformers", tiny_bert), None)


def test_lora_is_refused_where_a_branch_has_no_attention(tiny_bert: str) -> None:
    pytest.importorskip("peft")
    branch, text = replace(RESNET, frozen=False, lora=LORA), TowerConfig("transformers", tiny_bert)
    with pytest.raises(ValueError, match=r"has no attention that LoRA could be added to"):
        tiny.encoder(TowerConfig("timm", "test_vit"), text, branch)


def test_dropout_of_linear_layers(tiny_bert: str) -> None:
    text = TowerConfig("transformers", tiny_bert, pooling="mean", lora=LoraConfig(2, 4, dropout=0.9))
    model = tiny.encoder(RESNET, text, None)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    assert model.eval().encode_text(TEXTS).equal(model.encode_text(TEXTS))
    assert not model.train().encode_text(TEXTS).equal(model.encode_text(TEXTS))


def test_without_peft_the_extra_is_named(tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lora needs the package peft: pip install 'rsretrieval\[lora\]'"):
        tiny.encoder(RESNET, TowerConfig("transformers", tiny_bert, lora=LORA), None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LoraConfig(rank=0), r"lora: rank=0, alpha=16, dropout=0\.0: give a rank of 1 or more"),
        (lambda: LoraConfig(dropout=1.0), "give a rank of 1 or more, an alpha above 0, and a probability below 1"),
        (lambda: AdapterConfig(width=0), r"adapter: width=0, dropout=0\.0: give 1 or more, and a probability below 1"),
        (lambda: TowerConfig("timm", "vit", frozen=True, lora=LORA), "lora of 'vit' freezes all else already"),
    ],
)
def test_wrong_settings(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_what_does_not_train_stays_in_evaluation_mode(tiny_bert: str) -> None:
    text = TowerConfig("transformers", tiny_bert, lora=LORA)
    model = tiny.encoder(RESNET, text, None).train()
    assert not model.text_tower.model.embeddings.training
    assert model.text_tower.model.encoder.layer[0].attention.self.query.training


def test_layers_with_lora_learn_slower_below(tiny_clip: str, tmp_path: Path) -> None:
    deep = {**tiny.CLIP, "vision_cfg": {**tiny.CLIP["vision_cfg"], "layers": 3}}  # type: ignore[dict-item]
    (tmp_path / "deep.json").write_text(json.dumps(deep))
    pair = TowerConfig("open_clip", str(tmp_path / "deep.json"), lora=LORA)
    model = build(pair, pair)
    config = OptimizerConfig(learning_rate=1.0, layer_decay=0.5)
    rates = {id(p): group["lr"] for group in parameter_groups(model, model.towers(), config) for p in group["params"]}
    blocks = model.image_tower.model.visual.transformer.resblocks
    of_blocks = [{rates[id(p)] for p in block.parameters() if p.requires_grad} for block in blocks]
    assert of_blocks == [{2.0**-3}, {2.0**-2}, {2.0**-1}]  # what comes after the blocks is a layer too
    assert len(rates) == sum(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("text", [False, True])
def test_an_adapter_starts_as_the_identity_and_adds_by_length(text: bool) -> None:
    torch.manual_seed(0)
    adapter = Adapter(6, AdapterConfig(width=3))
    vectors = torch.randn(4, 6)
    assert adapter(vectors).equal(vectors)
    nn.init.normal_(adapter.up.weight)
    down, up = adapter.down, adapter.up
    for vector, got in zip(vectors, adapter(vectors), strict=True):
        length = vector.pow(2).sum().sqrt()
        hidden = torch.nn.functional.gelu(down.weight @ (vector / length) + down.bias)
        torch.testing.assert_close(got, vector + length * (up.weight @ hidden + up.bias))
    frozen = TowerConfig("timm", "test_resnet", frozen=True), TowerConfig("open_clip", "text-small", frozen=True)
    model = tiny.encoder(*frozen, None, adapter=AdapterConfig(width=3, text=text))
    assert (model.text_adapter is not None) == text
    assert model.image_adapter is not None


def test_adapters_of_512_are_a_quarter_of_a_million() -> None:
    count = 2 * sum(parameter.numel() for parameter in Adapter(512, AdapterConfig()).parameters())
    assert count == 2 * (512 * 128 + 128 + 128 * 512 + 512) == 263_424


def test_a_pair_with_adapters_starts_as_the_pair(tiny_clip: str) -> None:
    pair = TowerConfig("open_clip", tiny_clip, frozen=True)
    plain, adapted = build(pair, pair), build(pair, pair, adapter=AdapterConfig(width=8))
    missing = adapted.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert {name.partition(".")[0] for name in missing} == {"image_adapter", "text_adapter"}
    assert embed(adapted).equal(embed(plain))
    assert {name.partition(".")[0] for name, p in adapted.named_parameters() if p.requires_grad} == {
        "image_adapter", "text_adapter",
    }  # fmt: skip
    step(adapted)
    assert not embed(adapted).allclose(embed(plain), atol=1e-3)
