"""Architectures of open_clip: its own by name, and those that a file defines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import open_clip

from rsretrieval.files import cache_folder, write_text
from rsretrieval.models.weights import DEFINITION, WeightsError, locate

ARCHITECTURES = Path(__file__).parent / "architectures"
"""Configurations of our own, by name beside open_clip's."""
QUICK = "-quickgelu"


def architecture(name: str) -> str:
    """open_clip's name of an architecture; one of a configuration of its own is added to open_clip's.

    ``text-small`` is ours: a text encoder to train from nothing, with open_clip's embedded tokeniser.

    Args:
        name: open_clip's; the path of a configuration (JSON); or a folder or ``hub:OWNER/NAME`` with
            ``open_clip_config.json``.

    Raises:
        ValueError: naming what there is.
    """
    if (file := definition(name)) is not None:
        return _added(file)
    open_clip.add_model_config(ARCHITECTURES)
    if name not in open_clip.list_models():
        raise ValueError(f"open_clip has no model '{name}'; possible are {open_clip.list_models()}")
    return name


def definition(name: str) -> Path | None:
    """The file that defines an architecture which is not open_clip's own; None for one of its own.

    Raises:
        ValueError: if a folder has none.
    """
    if name.endswith(".json"):
        return Path(name).expanduser()
    if not name.startswith("hub:") and not Path(name).expanduser().is_dir():
        return None
    folder = locate(name)
    if not (folder / DEFINITION).is_file():
        raise ValueError(f"'{name}' is no model of open_clip's: it has no {DEFINITION}")
    return folder / DEFINITION


def read_definition(file: Path) -> dict[str, Any]:
    """The content of a configuration, its texts' tokeniser found beside it.

    Raises:
        ValueError: naming the file.
    """
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        settings: dict[str, Any] = content.get("model_cfg", content)
        missing = [key for key in ("embed_dim", "vision_cfg", "text_cfg") if key not in settings]
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"'{file}' cannot be read as open_clip's configuration of a model: {error}") from error
    if missing:
        raise ValueError(f"'{file}' is no configuration of an open_clip model: it has no {missing}")
    texts = settings["text_cfg"]
    if "model_cfg" in content and (file.parent / "tokenizer_config.json").is_file():
        texts["hf_tokenizer_name"] = str(file.parent)
    for key in ("hf_model_name", "hf_tokenizer_name"):
        if str(texts.get(key, "")).startswith("./"):
            texts[key] = str(file.parent / texts[key])
    return settings


def _added(file: Path) -> str:
    """Tell open_clip of a configuration, under a name of its content: files of one name do not mix."""
    text = json.dumps(read_definition(file))
    # open_clip takes SigLIP's tokeniser by the name of an architecture, and never by that of a folder.
    stem = "folder" if file.name == DEFINITION else file.stem
    name = f"{stem}-{blake2b(text.encode(), digest_size=6).hexdigest()}"
    if name not in open_clip.list_models():
        copy = cache_folder() / "architectures" / f"{name}.json"
        write_text(copy, text)
        open_clip.add_model_config(copy)
    return name


def check_activation(name: str, options: Mapping[str, Any]) -> None:
    """Refuse weights from a file where open_clip knows the architecture with either activation, and none is stated.

    open_clip itself warns for its own tags only; with the wrong one a model is worse, and nothing says so.

    Raises:
        WeightsError: saying how to state it.
    """
    stated = name.endswith(QUICK) or {"force_quick_gelu", "quick_gelu"} & options.keys()
    if not stated and name + QUICK in open_clip.list_models():
        raise WeightsError(
            f"the activation of these weights is not stated: '{name}' is trained with GELU or with QuickGELU (as are "
            "OpenAI's weights and most that descend from them), and the wrong one is silently worse. Give "
            f"'{name}{QUICK}' as the name, or options: {{quick_gelu: false}} for GELU (Retriever.from_open_clip: "
            "activation='gelu' or 'quick_gelu')"
        )
