"""Settings of pre-trained image-text pairs: both towers of one model, its heads, images and texts as it saw them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from rsretrieval.models.config import EncoderConfig, TowerConfig
from rsretrieval.models.weights import DEFINITION, WeightsError
from rsretrieval.settings import build
from rsretrieval.types import Preprocessing

Activation = Literal["gelu", "quick_gelu"]
OPENAI_MEAN, OPENAI_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
log = logging.getLogger(__name__)


def open_clip_pair(
    architecture: str | Path,
    weights: str | Path | None = None,
    *,
    activation: Activation | None = None,
    context_length: int | None = None,
    bands: int = 3,
    preprocessing: Mapping[str, Any] | None = None,
) -> EncoderConfig:
    """A model of open_clip, as it is.

    Args:
        architecture: open_clip's name, its configuration as a JSON file, or a folder or ``hub:OWNER/NAME`` with
            ``open_clip_config.json`` and weights.
        weights: null (random, or those of the folder), ``pretrained:TAG``, ``hub:OWNER/NAME/FILE``, ``model:NAME`` or a
            path.
        activation: of the weights, where open_clip knows the architecture with either.
        context_length: longest text in tokens, where it is not the architecture's.
        bands: of an image, where they are not three.
        preprocessing: of :class:`rsretrieval.types.Preprocessing`, what differs from the tag's, or else from CLIP's.

    Raises:
        ValueError: for an unknown architecture or activation.
    """
    from rsretrieval.models.towers.architectures import QUICK, definition
    from rsretrieval.models.towers.architectures import architecture as known

    if activation is not None and activation not in get_args(Activation):
        raise ValueError(f"activation={activation!r} is unknown; possible are {list(get_args(Activation))} and null")
    architecture, weights = str(architecture), None if weights is None else str(weights)
    source = architecture.removeprefix("local-dir:").replace("hf-hub:", "hub:", 1)
    name, file = known(source), definition(source)
    if weights is None and file is not None and file.name == DEFINITION:
        weights = str(file.parent) if source.endswith(".json") else source  # beside it
    tag = weights.partition(":")[2] if weights and weights.startswith("pretrained:") else None
    if tag and (context_length is not None or bands != 3):
        raise ValueError(f"open_clip's weights '{tag}' have their own context and bands: leave out both")
    if activation == "gelu" and source.endswith(QUICK):
        raise ValueError(f"'{source}' has QuickGELU, and activation='gelu' is asked for: give one of both")
    if activation is None and tag and not source.endswith(QUICK):
        activation = "quick_gelu" if _tag_settings(name, tag).get("quick_gelu") else "gelu"
    options: dict[str, Any] = {}
    if activation is not None and not source.endswith(QUICK):
        # With a tag the other spelling, which open_clip itself compares with the tag's.
        options["force_quick_gelu" if tag else "quick_gelu"] = activation == "quick_gelu"
    if context_length is not None:
        options["force_context_length"] = context_length
    if bands != 3:
        options["bands"] = bands
    given = dict(preprocessing or {})
    own = {**_open_clip_preprocessing(name, tag, file, told={"mean", "std"} <= given.keys()), **given}
    return _pair(
        TowerConfig("open_clip", source, weights, options=options),
        build(Preprocessing, own, f"the preprocessing of '{architecture}'"),
    )


def _tag_settings(name: str, tag: str) -> dict[str, Any]:
    """open_clip's own settings of a tag.

    Raises:
        WeightsError: naming the tags there are.
    """
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    settings: dict[str, Any] = get_pretrained_cfg(name, tag)
    if not settings:
        raise WeightsError(
            f"open_clip has no weights '{tag}' of '{name}'; known are {open_clip.list_pretrained_tags_by_model(name)}"
        )
    return settings


def _open_clip_preprocessing(name: str, tag: str | None, file: Path | None, *, told: bool) -> dict[str, Any]:
    """How open_clip prepares pictures: by the tag, a folder's own file, or what all tags of its name agree on."""
    import open_clip

    names = ("mean", "std", "interpolation", "resize_mode")
    tags = [tag] if tag else open_clip.list_pretrained_tags_by_model(name)
    each = [_tag_settings(name, one) for one in tags]
    if file is not None:
        each = [json.loads(file.read_text(encoding="utf-8")).get("preprocess_cfg", {})]
    known = [{key: value for key, value in settings.items() if key in names} for settings in each]
    own = known[0] if known and all(settings == known[0] for settings in known) else {}
    if known and not own and file is None and not told:
        log.warning(
            "open_clip's weights of '%s' differ in how they see pictures, and these are none of them: CLIP's own mean "
            "and deviation are taken; give preprocessing where they differ", name,
        )  # fmt: skip
    size = open_clip.get_model_config(name)["vision_cfg"].get("image_size", 224)
    return {
        "image_size": size if isinstance(size, int) else size[0],
        "mean": own.get("mean", OPENAI_MEAN),
        "std": own.get("std", OPENAI_STD),
        "resize": own.get("resize_mode", "shortest"),
        "interpolation": own.get("interpolation", "bicubic"),
        "resampler": "pillow",
    }


def transformers_pair(source: str | Path, weights: str | None = "pretrained", subfolder: str = "") -> EncoderConfig:
    """A CLIP or SigLIP of transformers, as it is.

    Args:
        source: a folder or hub id.
        weights: null for random ones.
        subfolder: of the source.

    Raises:
        WeightsError: if there is no such model, or its images are prepared in a way that is not read.
    """
    from transformers import AutoImageProcessor

    from rsretrieval.models.towers.transformers_folder import reading

    source, processor = str(source), AutoImageProcessor
    with reading("image processor", source):
        settings = processor.from_pretrained(source, subfolder=subfolder).to_dict()  # type: ignore[no-untyped-call]
    own = _transformers_preprocessing(settings, source)
    options = {"subfolder": subfolder} if subfolder else {}
    return _pair(
        TowerConfig("transformers", source, weights, options=options), build(Preprocessing, own, f"'{source}'")
    )


def _transformers_preprocessing(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    size, crop = settings.get("size") or {}, settings.get("crop_size") or {}
    cuts = bool(settings.get("do_center_crop"))
    side = size.get("shortest_edge") or size.get("height")
    squares = size.get("height") == size.get("width") == side
    shortest = cuts and size.get("shortest_edge") and crop.get("height") == crop.get("width") == side
    filters = {2: "bilinear", 3: "bicubic"}
    known = settings.get("do_resize") and (shortest or (squares and (not cuts or crop.get("height") == side)))
    if not known or settings.get("resample") not in filters:
        raise WeightsError(
            f"'{source}' prepares images in a way that is not read (size {dict(size)}, crop {dict(crop)}, filter "
            f"{settings.get('resample')}): possible are a square, or the shortest side and the square in its middle, "
            f"by {sorted(filters.values())}"
        )
    return {
        "image_size": side,
        **_statistics(settings, source),
        "resize": "shortest" if shortest else "squash",
        "interpolation": filters[settings["resample"]],
        "resampler": "torchvision",
    }


def _statistics(settings: Mapping[str, Any], source: str) -> dict[str, list[float]]:
    """Mean and deviation for values in [0, 1], of a processor that has its own unit, or does not normalise."""
    mean: Any = [0.0] * 3
    std: Any = [1.0] * 3
    if settings.get("do_normalize"):
        mean, std = settings.get("image_mean"), settings.get("image_std")
    unit = 255 * settings["rescale_factor"] if settings.get("do_rescale") else 255
    for key, values in (("image_mean", mean), ("image_std", std)):
        if not isinstance(values, list | tuple) or not all(isinstance(value, int | float) for value in values):
            raise WeightsError(f"preprocessor_config.json of '{source}': {key} is {values!r}; give a number a channel")
    return {"mean": [value / unit for value in mean], "std": [value / unit for value in std]}


def _pair(tower: TowerConfig, preprocessing: Preprocessing) -> EncoderConfig:
    return EncoderConfig(tower, tower, None, preprocessing)
