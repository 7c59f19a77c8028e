"""The folder of a model as graphs: one file a side, what is to know, tokenisers; checked against the model first."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from rsretrieval.files import cache_folder, write_text
from rsretrieval.images import stack
from rsretrieval.lazy import needs
from rsretrieval.models.digest import digest_of
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.graph_readme import readme
from rsretrieval.models.graphs import ENDINGS, OUTPUT, TEXTS, Form, GraphError, Side, sides_of, write_graph
from rsretrieval.models.onnx_encoder import ABOUT, BANK, is_graphs, runner
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.standalone import in_folder, standalone
from rsretrieval.models.tokenizers import tokenizer_of
from rsretrieval.settings import plain

if TYPE_CHECKING:
    from rsretrieval.models.pretrained import ModelSource

log = logging.getLogger(__name__)
LARGEST_DIFFERENCE = 1e-4
"""Of any number of an embedding, between a graph and the model."""
PACKAGES: dict[Form, tuple[str, ...]] = {
    "onnx": ("rsretrieval", "torch", "onnx", "onnxscript", "onnxruntime"),
    "torch_export": ("rsretrieval", "torch"),
}


def write_graphs(
    model: DualEncoder,
    source: ModelSource,
    folder: Path,
    form: Form,
    calibration: Sequence[NDArray[Any]] | None = None,
) -> dict[str, Any]:
    """Write a model as graphs, whole or not at all.

    Args:
        model: in evaluation mode, on the CPU.
        source: what it was built from, and how it is used.
        folder: to make.
        form: of the graphs.
        calibration: pictures as the model sees them, for graphs in eight bits; None for float32.

    Returns:
        What the folder's JSON says.

    Raises:
        GraphError: if the model cannot be exported, its graphs give other embeddings, or the folder is not empty.
        ImportError: without the extra ``onnx``, where that is the form.
    """
    _check(folder, form)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        about = _write(model, source, partial, form, calibration)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return about


def _check(folder: Path, form: Form) -> None:
    """Refuse a folder that holds something, and packages that are not there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise GraphError(f"'{folder}' is not empty: give a new folder")
    if form == "onnx":
        needs("onnxruntime", "onnx")
        needs("onnxscript", "onnx")


def export_graphs(
    source: ModelSource, folder: Path, form: Form, calibration: Callable[..., Any] | None, *, int8: bool
) -> None:
    """Write a model as graphs, and say how near they are; see :func:`rsretrieval.models.export.export`.

    Raises:
        GraphError: if it cannot be exported, or not by these options.
    """
    if int8 and form != "onnx":
        raise GraphError(f"form={form} has no graphs in eight bits: leave out int8, or give --form onnx")
    if int8 and calibration is None:
        raise GraphError("graphs in eight bits take ranges of numbers from pictures: give some by --calibrate IMAGES")
    _check(folder, form)
    model = source.build()
    about = write_graphs(model, source, folder, form, calibration and calibration(model, source.image_size))
    figures = ", ".join(f"{side} {value:.1e}" for side, value in about["largest_difference"].items())
    log.info("largest difference between embeddings of the graphs and of the model: %s", figures)
    if int8:
        figures = ", ".join(f"{side} {value:.4f}" for side, value in about["least_cosine_to_float32"].items())
        log.info("in eight bits, least cosine to the embeddings in float32: %s", figures)


def cached_graphs(source: ModelSource) -> Path:
    """The folder of a model as ONNX, written to the cache where it is not there yet.

    Raises:
        GraphError: if it cannot be exported.
    """
    model = source.build()
    state = [digest_of(model, source.image_size, source.max_words), plain(source.encoder), source.hubness]
    key = blake2b(json.dumps([*state, _versions("onnx")]).encode(), digest_size=16).hexdigest()
    folder = cache_folder() / "onnx" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not is_graphs(folder):
            log.info("the model is exported to '%s', once", folder)
            write_graphs(model, source, folder, "onnx")
    return folder


def _versions(form: Form) -> dict[str, str]:
    return {package: version(package) for package in PACKAGES[form]}


def _write(
    model: DualEncoder, source: ModelSource, folder: Path, form: Form, calibration: Sequence[NDArray[Any]] | None
) -> dict[str, Any]:
    tokenizer_of(model.config.text)  # refuses what has no files
    encoder = standalone(model.config, model, folder)
    sides = sides_of(model, source.image_size)
    files = {side.name: folder / f"{side.name}{ENDINGS[form]}" for side in sides}
    for side in sides:
        write_graph(side, model, form, files[side.name])
    differences = _differences(model, sides, files, tokenizer_of(in_folder(encoder, folder).text))
    about = {
        "form": form,
        "numbers": "float32" if calibration is None else "int8",
        "digest": digest_of(model, source.image_size, source.max_words),
        "embed_dim": model.embed_dim,
        "inputs": {side.name: [plain(value) for value in side.inputs] for side in sides},
        "outputs": [{"name": OUTPUT, "dtype": "float32", "shape": ["batch", model.embed_dim]}],
        "image_size": source.image_size,
        "max_words": source.max_words,
        "cleans_texts": model.config.cleans_texts,
        "hubness": source.hubness,
        "trained_on": list(source.trained_on),
        "largest_difference": differences,
        "versions": _versions(form),
        "encoder": plain(encoder),
    }
    if calibration is not None:
        about |= _in_eight_bits(sides, files, calibration, str(about["digest"]))
    if model.bank is not None:
        bank = model.bank
        if bank.refinement is not None:  # in the graphs: beside them are queries as the graphs give them
            image, text = bank.queries()
            bank = QueryBank.holding(text, image)
        save_file(bank.state_dict(), folder / BANK)
    write_text(folder / "README.md", readme(about, in_folder(encoder, folder)))
    write_text(folder / ABOUT, json.dumps(about, indent=1) + "\n")
    return about


def _in_eight_bits(
    sides: Sequence[Side], files: dict[str, Path], squares: Sequence[NDArray[Any]], model: str
) -> dict[str, Any]:
    """Put graphs in eight bits in the place of those in float32, of a model's digest; what the JSON says of them."""
    from rsretrieval.models.quantisation import quantise_images, quantise_texts

    images = stack(squares)
    before = _embeddings(sides, files, images)
    quantise_images(files["image"], images)
    quantise_texts(files["text"])
    after = _embeddings(sides, files, images)
    cosines = {name: float((before[name] * after[name]).sum(1).min()) for name in before}
    graphs = b"".join(file.read_bytes() for file in files.values())
    digest = blake2b(model.encode() + graphs, digest_size=16).hexdigest()
    return {"digest": digest, "calibrated_on": len(images), "least_cosine_to_float32": cosines}


def _embeddings(sides: Sequence[Side], files: dict[str, Path], images: Tensor) -> dict[str, Tensor]:
    """Of the pictures, and of the texts that a model is traced with."""
    run = _runners(sides, files)
    each = [run["image"]([image[None]]) for image in images]
    return {"image": torch.cat(each), "text": run["text"](sides[1].example)}


def _runners(sides: Sequence[Side], files: dict[str, Path]) -> dict[str, Callable[[Sequence[Tensor]], Tensor]]:
    def of(side: Side) -> Callable[[Sequence[Tensor]], Tensor]:
        file = files[side.name]
        if file.suffix == ENDINGS["onnx"]:
            return runner(file, [value.name for value in side.inputs])
        program = torch.export.load(file).module()
        return lambda inputs: program(*inputs)

    return {side.name: of(side) for side in sides}


@torch.no_grad()
def _differences(
    model: DualEncoder,
    sides: Sequence[Side],
    files: dict[str, Path],
    tokenizer: Any,  # noqa: ANN401
) -> dict[str, float]:
    """Largest absolute difference between what the graphs give and what the model does, of each side.

    Raises:
        GraphError: if it is too large, or the tokeniser that was written gives other tokens.
    """
    image, text = _runners(sides, files).values()
    images = sides[0].example[0]
    differences = {"image": 0.0, "text": 0.0}
    for batch in (images[:1], images):
        distance = (image([batch]) - model.encode_image(batch)).abs().max()
        differences["image"] = max(differences["image"], float(distance))
    for texts in (TEXTS[:1], TEXTS[1:2], TEXTS):
        tokens, own = tokenizer(texts), model.text_tower.tokenizer(texts)
        if tokens.keys() != own.keys() or any(not torch.equal(tokens[key], own[key]) for key in own):
            raise GraphError(
                f"the tokeniser of '{model.config.text.name}' does not load as it was: it cannot be written"
            )
        distance = (text([tokens[value.key] for value in sides[1].inputs]) - model.encode_tokens(own)).abs().max()
        differences["text"] = max(differences["text"], float(distance))
    if not max(differences.values()) <= LARGEST_DIFFERENCE:
        raise GraphError(
            f"the graphs do not give the model's embeddings: the largest differences are {differences}, where "
            f"{LARGEST_DIFFERENCE} is allowed; nothing was written"
        )
    return differences
