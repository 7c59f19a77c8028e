"""Pre-trained image-text pairs by name: what is known of each, where it is, how it is loaded as it is.

``catalogue.yaml`` beside this file has one entry a model; :func:`register_model` adds one, and so does a file of one
entry whose path is given as a name. What was not seen is marked as inferred, in the entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from rsretrieval.files import sha256
from rsretrieval.registry import Registry
from rsretrieval.settings import SettingsError, build

if TYPE_CHECKING:
    from rsretrieval.models.config import EncoderConfig

CATALOGUE = Path(__file__).with_name("catalogue.yaml")
PUBLISHED = Path(__file__).parents[1] / "published"
"""Models that come with the package."""
RET3 = {"rsicd", "rsitmd", "ucm"}
"""The sets that RET-3 is made of."""
PUBLISHED_ON = {"rsicd-lite": ("rsicd",), "rsicd-tiny": ("rsicd",)}
"""Data sets that the models of the package were trained on."""
SCHEME = "model:"
"""Of a tower's weights that are a model of the catalogue's."""


@dataclass(frozen=True)
class ModelEntry:
    """One pre-trained pair.

    Attributes:
        library: that loads it.
        architecture: open_clip's name, or the path of its configuration (JSON); empty where a folder says it.
        hub: ``OWNER/NAME`` on the Hugging Face hub.
        file: in that repository, or its folder for transformers; empty for all of it.
        path: of a file or folder of this machine, instead of the hub.
        tag: of open_clip's own weights, instead of the hub.
        activation: ``gelu`` or ``quick_gelu``, where open_clip knows the architecture with either.
        context_length: longest text, in tokens, where it is not the architecture's.
        bands: that an image has.
        preprocessing: what differs from CLIP's own, see :class:`rsretrieval.types.Preprocessing`.
        precision: of the tensors in the file; they are always computed with in float32.
        layout: how the file names its tensors.
        licence: as far as one is stated.
        sha256: of the file, compared where it is known.
        trained_on: names of the data sets whose training splits it saw.
        figures: published mR in percent, by data set.
        checked: what was seen of it here, and what is inferred.
        note: what else to know.
    """

    library: Literal["open_clip", "transformers"]
    architecture: str = ""
    hub: str = ""
    file: str = ""
    path: str = ""
    tag: str = ""
    activation: Literal["gelu", "quick_gelu"] | None = None
    context_length: int | None = None
    bands: int = 3
    preprocessing: dict[str, Any] = field(default_factory=dict)
    precision: str = "float32"
    layout: str = ""
    licence: str = ""
    sha256: str | None = None
    trained_on: tuple[str, ...] = ()
    figures: dict[str, float] = field(default_factory=dict)
    checked: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "trained_on", tuple(self.trained_on))
        places = [name for name in ("hub", "path", "tag") if getattr(self, name)]
        if len(places) != 1:
            raise ValueError(f"a model is in one place, and this entry names {places or 'none'}: hub, path or tag")
        is_file = bool(self.file) or self.path.endswith((".pt", ".pth", ".bin", ".safetensors"))
        if self.library == "open_clip" and not self.architecture and (is_file or self.tag):
            raise ValueError("a file of weights for open_clip needs its architecture")
        own: dict[str, object] = {
            "sha256": self.sha256,
            "activation": self.activation,
            "context_length": self.context_length,
        }
        own |= {"preprocessing": self.preprocessing, "bands": self.bands != 3}
        if self.library == "transformers":
            self._refuse(own, "a model of transformers has its folder's own")
        if self.tag:
            self._refuse(
                {name: own[name] for name in ("sha256", "context_length", "bands")}, "open_clip's tag has its own"
            )
        if self.sha256 and not is_file:
            raise ValueError("sha256 is of one file of weights: name it by file, or as the path")

    def _refuse(self, values: Mapping[str, object], reason: str) -> None:
        given = [name for name, value in values.items() if value]
        if given:
            raise ValueError(f"{given} have no effect here: {reason}; leave them out")

    @property
    def weights(self) -> str:
        """Where it is, as a tower's settings name it."""
        if self.tag:
            return f"pretrained:{self.tag}"
        return self.path or "hub:" + "/".join(part for part in (self.hub, self.file) if part)


MODELS: Registry[ModelEntry] = Registry("pre-trained model")
"""Every model of the catalogue, by name; see :func:`known_models`."""


def register_model(name: str, **settings: Any) -> ModelEntry:  # noqa: ANN401 - of the entry
    """Add a model under a name, for ``--model.pretrained NAME`` and ``Retriever.from_pretrained(NAME)``.

    Args:
        name: new.
        settings: of :class:`ModelEntry`.

    Raises:
        SettingsError: naming the setting that is unknown or wrong.
        ValueError: if the name is taken.

    Example:
        >>> register_model("my-clip", library="open_clip", architecture="ViT-B-32-quickgelu", path="my.pt").weights
        'my.pt'
    """
    known_models()
    entry = build(ModelEntry, settings, f"the model '{name}'")
    return MODELS.register(name)(entry)


@cache
def _read_catalogue() -> None:
    for name, settings in yaml.safe_load(CATALOGUE.read_text(encoding="utf-8")).items():
        MODELS.register(name)(ModelEntry(**settings))


def known_models() -> Mapping[str, ModelEntry]:
    """Every model that is known by name."""
    _read_catalogue()
    return MODELS


def published() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in PUBLISHED.glob("*/config.json"))


def entry_of(name: str) -> ModelEntry | None:
    """The entry of a name, or of a YAML or JSON file of one; None for anything else.

    Raises:
        SettingsError: naming the file, if it holds no entry.
    """
    if name in known_models():
        return MODELS[name]
    path = Path(name).expanduser()
    if path.suffix not in (".yaml", ".yml", ".json") or not path.is_file():
        return None
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"'{name}' is no YAML: {error}") from error
    if not isinstance(settings, dict) or "library" not in settings:
        raise SettingsError(f"'{name}' describes no model: it needs library, and hub, path or tag")
    return build(ModelEntry, settings, f"'{name}'")


def pair_of(name: str) -> EncoderConfig:
    """Settings of a model of the catalogue, its weights by name.

    Raises:
        UnknownNameError: naming near ones.
    """
    from rsretrieval.models.pairs import open_clip_pair, transformers_pair

    entry = entry_of(name) or MODELS[name]
    if entry.library == "transformers":
        return transformers_pair(entry.path or entry.hub, subfolder=entry.file)
    return open_clip_pair(
        entry.architecture or entry.path or f"hub:{entry.hub}",
        entry.weights if entry.tag else f"{SCHEME}{name}",
        activation=entry.activation,
        context_length=entry.context_length,
        bands=entry.bands,
        preprocessing=entry.preprocessing,
    )


def training_sets(config: EncoderConfig) -> tuple[str, ...]:
    """Data sets whose training splits a pair saw before it came here, as far as the catalogue knows it."""
    tower = config.image
    if (tower.weights or "").startswith(SCHEME):
        named = entry_of(str(tower.weights).removeprefix(SCHEME))
        return named.trained_on if named else ()
    for entry in known_models().values():
        of_transformers = tower.library == entry.library == "transformers" and tower.name in (entry.hub, entry.path)
        of_tag = entry.tag and (tower.name, tower.weights) == (entry.architecture, entry.weights)
        if of_transformers or of_tag:
            return entry.trained_on
    return ()


def seen_in_training(trained_on: Sequence[str], data: str) -> str | None:
    """The data set in a source's name or path, or a part of it, whose training split a model saw; None if none did.

    Args:
        trained_on: names of data sets.
        data: a source's name and path.
    """
    words = set(re.findall(r"[a-z0-9]+", data.lower()))
    if "ret3" in words:
        words |= RET3
    return next((name for name in trained_on if set(re.findall(r"[a-z0-9]+", name.lower())) <= words), None)


def locate_model(name: str) -> Path:
    """The file or folder of a model of the catalogue, fetched from the hub where it must be.

    Raises:
        UnknownNameError: naming near ones.
        WeightsError: if it is not the file that the catalogue knows.
    """
    from rsretrieval.models.weights import WeightsError, locate

    entry = entry_of(name) or MODELS[name]
    path = locate(entry.weights)
    if entry.sha256 and path.is_file() and (digest := sha256(path)) != entry.sha256:
        raise WeightsError(
            f"'{path}' is not the file of '{name}': its SHA-256 is {digest}, and {entry.sha256} is known; remove it, "
            "so that it is fetched again, or correct the entry"
        )
    return path
