"""A model's folder that needs nothing from outside: towers' definitions and tokenisers beside the tensors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.weights import is_elsewhere
from rsretrieval.settings import plain

NO_TEXT = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
TOWERS = "towers"
"""The folder of definitions and tokenisers, within the model's."""


def towers_of(config: EncoderConfig) -> list[TowerConfig]:
    """Every tower of a model, the convolutional branch last."""
    branch = config.convolutional_branch
    return [*config.image.parts(), *config.text.parts(), *([] if branch is None else [branch])]


def local_sources(config: EncoderConfig) -> list[str]:
    """Files and folders of this machine that towers come from; those of packages and the hub are found anywhere."""
    towers = towers_of(config)
    named = [tower.weights for tower in towers if tower.weights and not is_elsewhere(tower.weights)]
    definitions = [tower.name for tower in towers if tower.library != "timm" and Path(tower.name).exists()]
    return list(dict.fromkeys([*named, *definitions]))


def standalone(config: EncoderConfig, model: DualEncoder, folder: Path) -> EncoderConfig:
    """Settings that take nothing from outside of ``folder``, where the towers' definitions are written."""
    parts: Iterator[Any] = iter(model.towers())

    def alone(side: str, tower: TowerConfig) -> TowerConfig:
        towers = [_save_tower(part, next(parts), folder, f"{side}-{n}") for n, part in enumerate(tower.parts())]
        if tower.library != "concat":
            return towers[0]
        return replace(tower, options={**tower.options, "towers": [plain(part) for part in towers]})

    branch = config.convolutional_branch
    config = replace(config, convolutional_branch=branch and replace(branch, weights=None))
    if not config.is_pair:
        return replace(config, image=alone("image", config.image), text=alone("text", config.text))
    # Both sides stay sides of one model: of one name. The text's has the tokeniser.
    text = _save_tower(config.text, model.text_tower, folder, "pair")
    return replace(config, image=replace(config.image, name=text.name, weights=None, options=text.options), text=text)


def _save_tower(config: TowerConfig, tower: Any, folder: Path, name: str) -> TowerConfig:  # noqa: ANN401
    """A tower's settings without weights, its configuration and tokeniser beside the model's own files."""
    save: Callable[..., TowerConfig] | None = {"transformers": _save_transformers, "open_clip": _save_open_clip}.get(
        config.library
    )
    alone = config if save is None else save(config, tower, folder / TOWERS, name)
    return replace(alone, weights=None)


def _save_transformers(config: TowerConfig, tower: Any, towers: Path, name: str) -> TowerConfig:  # noqa: ANN401
    tower.model.config.save_pretrained(towers / name)
    if hasattr(tower, "tokenizer"):
        tower.tokenizer.tokenizer.save_pretrained(towers / name)
    options = {key: value for key, value in config.options.items() if key != "subfolder"}
    return replace(config, name=f"./{TOWERS}/{name}", options=options)


def _save_open_clip(config: TowerConfig, tower: Any, towers: Path, name: str) -> TowerConfig:  # noqa: ANN401
    """An architecture that open_clip knows by itself keeps its name, unless its texts need files of the hub."""
    import open_clip

    from rsretrieval.models.towers.architectures import architecture, definition

    settings: dict[str, Any] = open_clip.get_model_config(architecture(config.name))
    from_transformers = {"hf_model_name", "hf_tokenizer_name"} & settings["text_cfg"].keys()
    if definition(config.name) is None and not from_transformers:
        return config
    texts = dict(settings["text_cfg"])
    if from_transformers and not hasattr(tower, "tokenizer"):
        texts = dict(NO_TEXT)  # of an image tower alone, which lets go of its text side
    elif from_transformers:
        tower.tokenizer.tokenizer.tokenizer.save_pretrained(towers / name)
        texts["hf_tokenizer_name"] = f"./{name}"
        if "hf_model_name" in texts:
            tower.model.text.config.save_pretrained(towers / name)
            texts |= {"hf_model_name": f"./{name}", "hf_model_pretrained": False}
    towers.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**settings, "text_cfg": texts}, indent=1) + "\n"
    (towers / f"{name}.json").write_text(text, encoding="utf-8")
    return replace(config, name=f"./{TOWERS}/{name}.json")


def in_folder(config: EncoderConfig, folder: Path) -> EncoderConfig:
    """Settings whose towers' names below the folder (``./…``) are paths."""

    def located(tower: TowerConfig) -> TowerConfig:
        if tower.library == "concat":
            return replace(tower, options={**tower.options, "towers": [located(part) for part in tower.parts()]})
        return replace(tower, name=str(folder / tower.name)) if tower.name.startswith("./") else tower

    return replace(config, image=located(config.image), text=located(config.text))
