"""A model by name: a folder, a checkpoint, one of the catalogue's pre-trained pairs, or one on the hub."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rsretrieval.metrics import HubnessConfig
from rsretrieval.models.card import CARD
from rsretrieval.models.catalogue import (
    PUBLISHED,
    PUBLISHED_ON,
    entry_of,
    known_models,
    pair_of,
    published,
    training_sets,
)
from rsretrieval.models.checkpoint import loading, read_checkpoint
from rsretrieval.models.config import PRETRAINED, EncoderConfig
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.exported import CONFIG, WEIGHTS, PretrainedError, fill, read_json, read_settings
from rsretrieval.models.hub import fetch
from rsretrieval.models.onnx_encoder import OnnxEncoder, is_graphs
from rsretrieval.models.pairs import open_clip_pair, transformers_pair
from rsretrieval.models.recipe import RECIPE
from rsretrieval.models.remote_code import check_remote_code
from rsretrieval.models.standalone import in_folder, towers_of
from rsretrieval.models.weights import DEFINITION, WeightsError, tensors_follow
from rsretrieval.registry import UnknownNameError
from rsretrieval.settings import build, plain

DESCRIPTIONS = ("*.json", "*.txt", "*.model", "towers/*", CARD, RECIPE)
"""Files of a model on the hub beside its weights."""


@dataclass(frozen=True)
class ModelSource:
    """A model that is not built yet.

    Attributes:
        encoder: how to build it.
        image_size: side that pictures are resized to in evaluation, in pixels.
        max_words: longest sentence, in words; of no effect where texts stay as written.
        hubness: how scores are corrected for hubs; None where the model was trained without.
        fill: puts its tensors into what was built; None where the towers' own weights are all.
        tensors_are_whole: whether they are every tensor, so that towers need no weights of their own.
        folder: that was exported; empty for other models.
        trained_logits: temperature and bias that a run trained it with last; None where no run did.
        trained_on: names of the data sets whose training splits it saw, as far as they are known.
        origin: folder that was exported, or checkpoint of a run, that it is read from; None for other models.
        graphs: the model itself, where it is graphs of ONNX.
    """

    encoder: EncoderConfig
    image_size: int
    max_words: int = 30
    hubness: dict[str, Any] | None = None
    fill: Callable[[DualEncoder], None] | None = None
    tensors_are_whole: bool = False
    folder: str = ""
    trained_logits: tuple[float, float | None] | None = None
    trained_on: tuple[str, ...] = ()
    origin: Path | None = None
    graphs: OnnxEncoder | None = None

    def build(self) -> DualEncoder:
        """The model, in evaluation mode.

        Raises:
            WeightsError: for weights that are not there or do not fit; of an exported folder it names those that it
                adds to.
        """
        if self.graphs is not None:
            return self.graphs
        try:
            with tensors_follow() if self.tensors_are_whole else nullcontext():
                model = DualEncoder(replace(self.encoder, cache_features=False))
        except (WeightsError, UnknownNameError) as error:
            if not self.folder:
                raise
            raise WeightsError(
                f"'{self.folder}' holds what was added to {' and '.join(_bases(self.encoder))}, and that cannot be "
                f"had: {error}"
            ) from error
        if self.fill is not None:
            self.fill(model)
        return model.eval()

    def settings(self) -> dict[str, Any]:
        """What the command line builds of it: settings of the model, and of the data that belong to it."""
        trained = self.encoder.preprocessing
        data = {
            "image_size": trained.image_size,
            "eval_image_size": None if self.image_size == trained.image_size else self.image_size,
            "max_words": self.max_words,
            "scale": trained.scale,
            "bands": trained.bands,
        }
        return {"model": {"encoder": plain(self.encoder), "hubness": self.hubness}, "data": data}


@dataclass(frozen=True)
class Pretrained:
    """A model and what is needed to use it as it was evaluated.

    Attributes:
        model: in evaluation mode.
        image_size: side that pictures are resized to, in pixels.
        max_words: longest sentence, in words; of no effect where texts stay as written.
        hubness: how scores are corrected for hubs; None where the model was trained without.
        source: what it was built from, without its tensors.
    """

    model: DualEncoder
    image_size: int
    max_words: int
    hubness: HubnessConfig | None
    source: ModelSource


def load_pretrained(name: str | Path, *, trust_remote_code: bool = False) -> Pretrained:
    """Load a model by name.

    Args:
        name: see :func:`find_model`.
        trust_remote_code: let its settings run Python code that comes with a model.

    Raises:
        PretrainedError: if there is no such model, or its files do not go together.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
        WeightsError: if weights are not there or do not fit.
    """
    source = find_model(name, trust_remote_code=trust_remote_code)
    hubness = build(HubnessConfig, source.hubness, f"'{name}'") if source.hubness else None
    return Pretrained(source.build(), source.image_size, source.max_words, hubness, replace(source, fill=None))


def find_model(name: str | Path, *, trust_remote_code: bool = False) -> ModelSource:
    """The model of a name, not built yet.

    Args:
        name: a folder that was exported (of graphs those of ONNX), or one of open_clip or transformers; a checkpoint of
            a run; a name of :func:`published` or of the catalogue (``rsretrieval models list``), or a file of such an
            entry; or ``OWNER/NAME`` or ``OWNER/NAME@REVISION`` on the Hugging Face hub.
        trust_remote_code: let its settings run Python code that comes with a model.

    Raises:
        PretrainedError: if there is no such model; near names are listed.
        RemoteCodeError: if its settings would run a stranger's code, and that is not allowed.
    """
    name, path = str(name), Path(name).expanduser()
    entry = None if name in published() else entry_of(name)
    if entry is not None:
        return _pair(pair_of(name), entry.trained_on)
    if path.is_file():
        return _of_checkpoint(name, trust_remote_code)
    if (PUBLISHED / name / CONFIG).is_file() and not path.is_dir():
        path = PUBLISHED / name
    if not path.is_dir():
        path = _from_hub(name)
    source = _of_folder(path, name, trust_remote_code)
    return replace(source, trained_on=source.trained_on or PUBLISHED_ON.get(name, ()))


def start_from(model: DualEncoder, source: ModelSource, name: str) -> None:
    """Put the tensors of another model into one that has its parts, and maybe more (an adapter, a bank, FGIS).

    Raises:
        PretrainedError: naming what does not fit.
    """
    if source.fill is None:
        return  # the towers have loaded their own
    other = source.build()
    tensors, wanted, parts = other.state_dict(), model.state_dict(), dict(other.named_children())
    surplus = sorted(key for key in tensors if key not in wanted or tensors[key].shape != wanted[key].shape)
    missing = sorted(key for key in wanted if key not in tensors and key.split(".")[0] in parts)
    if surplus or missing:
        raise PretrainedError(
            f"the model '{name}' does not fit the settings of the encoder: {len(surplus)} of its tensors have no place "
            f"there ({surplus[:3]}), and {len(missing)} are missing ({missing[:3]}): leave model.encoder to it, or "
            "change only what is added to it"
        )
    model.load_state_dict(tensors, strict=False)


def _bases(encoder: EncoderConfig) -> list[str]:
    """The weights that towers bring themselves, as settings name them."""
    named = [
        f"'{tower.name}'" if tower.weights == PRETRAINED else f"'{tower.weights}'"
        for tower in towers_of(encoder)
        if tower.weights
    ]
    return list(dict.fromkeys(named)) or ["its towers' definitions"]


def _pair(encoder: EncoderConfig, trained_on: tuple[str, ...] = ()) -> ModelSource:
    return ModelSource(encoder, encoder.preprocessing.image_size, trained_on=trained_on or training_sets(encoder))


def _of_folder(folder: Path, name: str, trust_remote_code: bool) -> ModelSource:
    """Of ours, open_clip's or transformers'."""
    if is_graphs(folder):
        graphs = OnnxEncoder(folder, trust_remote_code=trust_remote_code)
        own = (graphs.image_size, graphs.max_words, graphs.hubness)
        return ModelSource(graphs.config, *own, graphs.fill, trained_on=graphs.trained_on, graphs=graphs)
    if (folder / DEFINITION).is_file():
        return _pair(open_clip_pair(str(folder)))
    if not (folder / CONFIG).is_file():
        of_run = "; of a run's folder give checkpoints/best.ckpt" if (folder / "checkpoints").is_dir() else ""
        raise PretrainedError(f"'{name}' holds no model: it has neither {CONFIG} nor {DEFINITION}{of_run}")
    if "model_type" in read_json(folder / CONFIG):
        return _pair(transformers_pair(str(folder)))
    settings = read_settings(folder)
    check_remote_code(plain(settings["encoder"]), f"'{folder / CONFIG}'", trusted=trust_remote_code)
    encoder = in_folder(settings["encoder"], folder)
    own = (settings["image_size"], settings["max_words"], settings["hubness"])
    known = training_sets(encoder)
    return ModelSource(encoder, *own, fill=partial(fill, folder), folder=name, trained_on=known, origin=folder)


def _of_checkpoint(name: str, trust_remote_code: bool) -> ModelSource:
    trained = read_checkpoint(name, trust_remote_code=trust_remote_code)

    def load(model: DualEncoder) -> None:
        with loading(name):
            model.load_state_dict(trained.tensors)

    own = (trained.image_size, trained.max_words, trained.hubness)
    source = ModelSource(trained.encoder, *own, fill=load, tensors_are_whole=True, trained_logits=trained.logits)
    return replace(source, trained_on=training_sets(trained.encoder), origin=Path(name).expanduser())


def _from_hub(name: str) -> Path:
    if name.partition("@")[0].count("/") != 1 or name.startswith((".", "/", "~")):
        known = [*published(), *known_models()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise PretrainedError(
            f"there is no model '{name}': give a folder with {CONFIG} and {WEIGHTS}, a checkpoint, OWNER/NAME on the "
            f"hub, or one of {known}{hint}"
        )
    return fetch(name, [*DESCRIPTIONS])
