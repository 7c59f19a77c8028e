"""Gradient checkpointing: on where it is asked for, with the gradients of a network without it, dropout and all."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from rsretrieval.models import DualEncoder, TowerConfig
from rsretrieval.models.adaptation import LoraConfig

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

TEXTS = ["a red plane", "two ships in the harbour", "the red harbour", "a plane"]
VIT = TowerConfig("timm", "test_vit", options={"proj_drop_rate": 0.2})
NET = TowerConfig("timm", "test_resnet")


@pytest.fixture
def towers(tmp_path: Path, tiny_bert: str, tiny_clip: str) -> dict[str, TowerConfig]:
    (tmp_path / "hf-vit").mkdir()
    vit = {"image_size": 64, "patch_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vit |= {"model_type": "vit", "intermediate_size": 16, "hidden_dropout_prob": 0.2}
    (tmp_path / "hf-vit" / "config.json").write_text(json.dumps(vit))
    bert = TowerConfig("transformers", tiny_bert, pooling="all_layers")
    return {
        "vit": VIT, "net": NET, "bert": bert, "clip": TowerConfig("open_clip", tiny_clip),
        "stages": TowerConfig("timm", "test_efficientnet", pooling="all_stages"),
        "hf-vit": TowerConfig("transformers", str(tmp_path / "hf-vit")),
        "hf-clip": TowerConfig("transformers", tiny.write_hf_clip(tmp_path)),
        "lora": TowerConfig("transformers", tiny_bert, lora=LoraConfig(rank=2)),
        "frozen": replace(NET, frozen=True),
        "two": TowerConfig("concat", "two", options={"towers": [asdict(bert), asdict(replace(bert, frozen=True))]}),
    }  # fmt: skip


def trained(model: DualEncoder, blocks: dict[str, str]) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    """Gradients by parameter, and how often each block ran, by side."""
    runs = dict.fromkeys(blocks, 0)

    def count(side: str) -> None:
        runs[side] += 1

    for side, block in blocks.items():
        tower: nn.Module = getattr(model, side)
        tower.get_submodule(block).register_forward_pre_hook(lambda *_, side=side: count(side))
    torch.manual_seed(1)
    images = torch.rand(4, 3, 64, 64)
    image, text = model(images, model.text_tower.tokenizer(TEXTS))
    (image @ text.T).exp().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}, runs


@pytest.mark.parametrize(
    ("names", "blocks", "again"),
    [
        (("vit", "bert", None), {"image_tower": "model.blocks.0", "text_tower": "model.encoder.layer.0.attention"}, 2),
        (("clip", "clip", None), {"image_tower": "model.visual.transformer.resblocks.0",
                                  "text_tower": "model.transformer.resblocks.0"}, 2),
        (("hf-clip", "hf-clip", None), {"image_tower": "model.vision_model.encoder.layers.0.self_attn",
                                        "text_tower": "model.text_model.encoder.layers.0.self_attn"}, 2),
        (("stages", "lora", None), {"image_tower": "model.blocks.1.0",
                                    "text_tower": "model.encoder.layer.0.attention"}, 2),
        (("hf-vit", "bert", "net"), {"convolutional_branch": "model.layer2.0"}, 2),
        (("net", "two", "frozen"), {"text_tower": "towers.0.model.encoder.layer.0.attention"}, 2),
        (("net", "two", "frozen"), {"text_tower": "towers.1.model.encoder.layer.0.attention",
                                    "convolutional_branch": "model.layer2.0"}, 1),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else "",
)  # fmt: skip
def test_equal_gradients_and_blocks_that_run_again(
    names: tuple[str, str, str | None], blocks: dict[str, str], again: int, towers: dict[str, TowerConfig]
) -> None:
    """A frozen tower's blocks run once."""
    image, text, branch = (None if name is None else towers[name] for name in names)
    found = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = tiny.encoder(image, text, branch, gradient_checkpointing=checkpointing)
        found.append(trained(model, blocks))
    (plain, once), (checkpointed, twice) = found
    assert set(once.values()) == {1}
    assert set(twice.values()) == {again}
    assert len(plain) > 10
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-6, msg=name)


def test_within_chunks_too(towers: dict[str, TowerConfig]) -> None:
    found = []
    for options in ({}, {"chunk_size": 2, "gradient_checkpointing": True}):
        torch.manual_seed(0)
        model = tiny.encoder(replace(VIT, options={}), towers["bert"], None, **options)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        found.append(trained(model, {"image_tower": "model.blocks.0"}))
    (plain, once), (checkpointed, times) = found
    assert (once, times) == ({"image_tower": 1}, {"image_tower": 6})  # two chunks: forward, again, and its block again
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_a_tower_that_cannot_is_refused_by_name(tmp_path: Path, towers: dict[str, TowerConfig]) -> None:
    vision = {**tiny.CLIP["vision_cfg"], "layers": [1, 1, 1, 1], "width": 16, "head_width": 8, "patch_size": None}
    (tmp_path / "resnet.json").write_text(json.dumps({**tiny.CLIP, "vision_cfg": vision}))
    image = TowerConfig("open_clip", str(tmp_path / "resnet.json"))
    with pytest.raises(ValueError, match=r"the tower '.*resnet\.json' \(open_clip\) has no such mode: set gradient_ch"):
        tiny.encoder(image, towers["bert"], None, gradient_checkpointing=True)
    tiny.encoder(replace(image, frozen=True), towers["bert"], None, gradient_checkpointing=True)  # needs none
