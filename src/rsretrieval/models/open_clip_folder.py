"""A pair as a folder of open_clip's own, for whoever has that library alone."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

from rsretrieval.files import write_text, write_whole
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder

log = logging.getLogger(__name__)


def open_clip_state(model: DualEncoder, trained: tuple[float, float | None] | None = None) -> dict[str, Any]:
    """Tensors of a pair by open_clip's names.

    Args:
        model: whose towers are both sides of one open_clip model, with nothing above them.
        trained: temperature and bias that a run trained last, its bias None where it learned none; None for those that
            the model came with.

    Raises:
        ValueError: saying what keeps it from being an open_clip model.
    """
    check_is_open_clip(model.config)
    state = {**model.text_tower.model.state_dict(), **model.image_tower.model.state_dict()}
    assert model.logits is not None
    temperature, learned = trained or (None, None)
    scale = model.logits.scale if temperature is None else model.logits.scale.new_tensor(1 / temperature)
    own = model.logits.bias if learned is None else model.logits.bias.new_tensor(learned)
    bias = {"logit_bias": own} if float(model.logits.bias) else {}
    return {**state, "logit_scale": scale.log(), **bias}


def check_is_open_clip(config: EncoderConfig) -> None:
    """Refuse an encoder that has more than an open_clip model has.

    Raises:
        ValueError: naming what it has.
    """
    if not config.is_pair or config.image.library != "open_clip":
        raise ValueError(
            "only a model whose towers are both sides of one open_clip model can be written as one; this one has "
            f"'{config.image.name}' of {config.image.library} and '{config.text.name}' of {config.text.library}"
        )
    added = {
        "a projection": config.projection == "identity" or not config.keeps_alignment,
        "FGIS": config.convolutional_branch is not None,
        "an adapter": config.adapter is not None,
        "LoRA": config.image.lora is not None or config.text.lora is not None,
        "prompts": bool(config.prompts),
        "refinement": config.refinement is not None,
        "cleaning of texts": config.cleans_texts,
        "images of other bands than RGB": config.preprocessing.channels != 3,
    }
    if any(added.values()):
        names = [name for name, there in added.items() if there]
        raise ValueError(f"open_clip has no place for {' and '.join(names)} with a model: export it in our own form")


def write_open_clip(model: DualEncoder, folder: Path, trained: tuple[float, float | None] | None = None) -> None:
    """Write ``open_clip_config.json`` and ``open_clip_model.safetensors``, as ``local-dir:`` and ``hf-hub:`` read them.

    Args:
        model: see :func:`open_clip_state`.
        folder: to write to.
        trained: see :func:`open_clip_state`.

    Raises:
        ValueError: see :func:`open_clip_state`.
        OSError: naming the file that cannot be written.
    """
    from safetensors.torch import save_file

    state = {name: tensor.detach().cpu().contiguous() for name, tensor in open_clip_state(model, trained).items()}
    if model.bank is not None:
        log.info("the query bank stays behind: open_clip has no place for it")
    settings = {"model_cfg": _architecture(model), "preprocess_cfg": _preprocessing(model.config)}
    tokenizer: Any = getattr(model.text_tower.tokenizer.tokenizer, "tokenizer", None)  # of the hub's kind
    if hasattr(tokenizer, "save_pretrained"):
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save_pretrained(folder)
    write_whole(folder / "open_clip_model.safetensors", lambda partial: save_file(state, partial))
    write_text(folder / "open_clip_config.json", json.dumps(settings, indent=1) + "\n")


def _architecture(model: DualEncoder) -> dict[str, Any]:
    import open_clip

    from rsretrieval.models.towers.architectures import architecture

    config = model.config
    settings: dict[str, Any] = open_clip.get_model_config(architecture(config.image.name))
    options = config.image.options
    if "multimodal_cfg" in settings:
        raise ValueError("a CoCa is embedded without its text decoder, which open_clip asks for: it cannot be written")
    quick = options.get("quick_gelu", options.get("force_quick_gelu"))
    if quick is not None:
        settings["quick_gelu"] = quick
    if "force_context_length" in options:
        settings["text_cfg"]["context_length"] = options["force_context_length"]
    settings["vision_cfg"]["image_size"] = config.preprocessing.image_size
    if model.logits is not None and float(model.logits.bias) and "init_logit_bias" not in settings:
        settings.update(init_logit_bias=float(model.logits.bias), init_logit_scale=math.log(10))
    return settings


def _preprocessing(config: EncoderConfig) -> dict[str, Any]:
    own = config.preprocessing
    return {
        "size": own.image_size,
        "mean": list(own.mean),
        "std": list(own.std),
        "interpolation": own.interpolation,
        "resize_mode": own.resize,
    }
