"""A model's folder that needs nothing from outside: towers' definitions and tokenisers beside the tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.weights import is_elsewhere
from rsretrieval.settings import plain


def local_sources(config: EncoderConfig) -> list[str]:
    """Files and folders of this machine that towers come from; those of packages and the hub are found anywhere."""
    branch = config.convolutional_branch
    towers = [*config.image.parts(), *config.text.parts(), *([] if branch is None else [branch])]
    named = [tower.weights for tower in towers if tower.weights and not is_elsewhere(tower.weights)]
    definitions = [tower.name for tower in towers if tower.library != "timm" and Path(tower.name).exists()]
    return [*named, *definitions]


def standalone(config: EncoderConfig, model: DualEncoder, folder: Path) -> EncoderConfig:
    """Settings that take nothing from outside of ``folder``, where the towers' definitions are written."""
    parts: Iterator[Any] = iter(model.towers())

    def alone(side: str, tower: TowerConfig) -> TowerConfig:
        towers = [_save_tower(part, next(parts), folder, f"{side}-{n}") for n, part in enumerate(tower.parts())]
        if tower.library != "concat":
            return towers[0]
        return replace(tower, options={**tower.options, "towers": [plain(part) for part in towers]})

    branch = config.convolutional_branch
    return replace(
        config,
        image=alone("image", config.image),
        text=alone("text", config.text),
        convolutional_branch=branch and replace(branch, weights=None),
    )


def _save_tower(config: TowerConfig, tower: Any, folder: Path, name: str) -> TowerConfig:  # noqa: ANN401
    """A tower's settings without weights, its configuration and tokeniser beside the model's own files."""
    if config.library == "transformers":
        target = folder / "towers" / name
        tower.model.config.save_pretrained(target)
        if hasattr(tower, "tokenizer"):
            tower.tokenizer.tokenizer.save_pretrained(target)
        return replace(config, name=f"./towers/{name}", weights=None)
    if config.library == "open_clip" and config.name.endswith(".json"):
        target = folder / "towers" / f"{name}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Path(config.name).read_text(encoding="utf-8"), encoding="utf-8")
        return replace(config, name=f"./towers/{name}.json", weights=None)
    return replace(config, weights=None)


def in_folder(config: EncoderConfig, folder: Path) -> EncoderConfig:
    """Settings whose towers' names below the folder (``./…``) are paths."""

    def located(tower: TowerConfig) -> TowerConfig:
        if tower.library == "concat":
            return replace(tower, options={**tower.options, "towers": [located(part) for part in tower.parts()]})
        return replace(tower, name=str(folder / tower.name)) if tower.name.startswith("./") else tower

    return replace(config, image=located(config.image), text=located(config.text))
