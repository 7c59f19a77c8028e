"""The paper's recipe, against the figures of its table (written here once more, by hand)."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from rsretrieval import RetrievalModule, TowerConfig
from rsretrieval.cli import main
from rsretrieval.data import transforms
from rsretrieval.data.randaugment import RAND_AUGMENT

sys.path.insert(0, str(Path(__file__).parent))
import tiny

CONFIGS = Path(__file__).parents[1] / "configs"
RSICD = {
    "learning_rate": 4e-5, "batch_size": 135, "word_deletion": 0.06, "margin": 0.95, "beta_inter": -0.002,
    "beta_intra": 0.02, "augmentation": "rsicd",
}  # fmt: skip
RSITMD = {
    "learning_rate": 6e-5, "batch_size": 128, "word_deletion": 0.03, "margin": 1.15, "beta_inter": -0.0015,
    "beta_intra": 0.02, "augmentation": "rsitmd",
}  # fmt: skip
COMMON = {
    "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.01, "warmup": 0.1, "temperature": 0.07, "max_epochs": 20,
    "image_size": 224, "max_words": 30, "max_tokens": 47, "embed_dim": 512, "dropout": 0.2, "graph_steps": 2,
    "mean": [0.4815, 0.4578, 0.4082], "std": [0.2686, 0.2613, 0.2758], "captions_per_image": None,
    "tower_factor": 1.0, "attention_mask": True, "freeze_sfgs": False, "exclude_positives": True,
    "truncate_weights": False, "global_centres": True,
}  # fmt: skip
RELEASE = {
    "attention_mask": False, "freeze_sfgs": True, "exclude_positives": False, "truncate_weights": True,
    "global_centres": False,
}  # fmt: skip


def settings(capsys: pytest.CaptureFixture[str], *configs: str) -> dict[str, Any]:
    """What the command line makes of configurations."""
    files = [argument for name in configs for argument in ("-c", str(CONFIGS / name))]
    with pytest.raises(SystemExit):
        main(["fit", *files, "--print_config"])
    found: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    model, encoder = found["model"], found["model"]["encoder"]
    flat = {**found["trainer"], **found["data"], **encoder, **encoder["preprocessing"]}
    flat |= {**model["objective"], **model["optimizer"]}
    return flat | {key: encoder["text"][key] for key in ("max_tokens", "attention_mask")} | found["schedule"]


@pytest.mark.parametrize(
    ("configs", "table"),
    [
        (["rsicd.yaml"], COMMON | RSICD),
        (["rsitmd.yaml"], COMMON | RSITMD),
        (["rsicd_release.yaml"], COMMON | RSICD | RELEASE),
    ],
)
def test_settings(
    configs: list[str], table: dict[str, Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    found = settings(capsys, *configs)
    assert {key: found[key] for key in table} == table


@pytest.fixture
def module(tiny_bert: str) -> RetrievalModule:
    branch = TowerConfig("timm", "test_resnet", frozen=True)
    return tiny.module(TowerConfig("timm", "test_vit"), TowerConfig("transformers", tiny_bert), branch)


def test_no_decay_on_biases_and_norms(module: RetrievalModule) -> None:
    decays = {id(p): group["weight_decay"] for group in module.parameter_groups() for p in group["params"]}
    trainable = [p for p in module.parameters() if p.requires_grad]
    assert len(decays) == len(trainable) == sum(len(group["params"]) for group in module.parameter_groups())
    norms = (nn.LayerNorm, nn.modules.batchnorm._BatchNorm)
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.requires_grad and (isinstance(owner, norms) or name == "bias"):
                assert decays[id(parameter)] == 0.0
            elif parameter.requires_grad and isinstance(owner, nn.Linear | nn.Conv2d | nn.Embedding):
                assert decays[id(parameter)] == 0.01


def test_warm_up_and_decay(module: RetrievalModule) -> None:
    module._trainer = SimpleNamespace(estimated_stepping_batches=200)  # type: ignore[assignment]
    made = module.configure_optimizers()
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert isinstance(optimizer, torch.optim.AdamW)
    rates = []
    for _ in range(200):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:20] == pytest.approx([4e-5 * (step + 1) / 20 for step in range(20)])
    assert rates[20:] == pytest.approx([4e-5 * (200 - step) / 180 for step in range(20, 200)])
    assert optimizer.param_groups[0]["lr"] == 0


def test_augmentation() -> None:
    common = [
        transforms.RandomResizedCrop(224, scale=(0.5, 1.0)),
        transforms.RandomFlip(axis=1, p=0.5),
        transforms.RandAugment(operations=2, magnitude=7),
    ]
    assert transforms.AUGMENTATIONS["rsitmd"](224) == common
    assert transforms.AUGMENTATIONS["rsicd"](224) == [
        *common,
        transforms.RandomBlur(p=0.5),
        transforms.RandomErasing(scale=(0.1, 0.2), p=0.5),
        transforms.GridMask(p=0.5),
    ]
    assert {operation.__name__ for operation in RAND_AUGMENT} == {
        "identity", "auto_contrast", "equalize", "brightness", "sharpness", "shear_x", "shear_y", "translate_x",
        "translate_y", "rotate",
    }  # fmt: skip
