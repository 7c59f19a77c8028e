"""Both sides of a model as graphs, for batches of any size: by torch.export, and as ONNX.

https://docs.pytorch.org/docs/stable/export.html, https://docs.pytorch.org/docs/stable/onnx_export.html
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from rsretrieval.lazy import needs
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.standalone import towers_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Form = Literal["onnx", "torch_export"]
ENDINGS: dict[Form, str] = {"onnx": ".onnx", "torch_export": ".pt2"}
OUTPUT = "embeddings"
TEXTS = (
    "a plane",
    "two ships in the harbour",
    "many green trees and several buildings are in two sides of a curved river with a red bridge over it near a road",
)
"""Of three lengths."""
LARGEST = 2**31 - 2**24
"""Bytes of tensors that one file of ONNX holds: its format ends at 2 GiB."""


class GraphError(ValueError):
    """A model that cannot be exported as graphs, or not by these options."""


@dataclass(frozen=True)
class GraphInput:
    """An input of a graph.

    Attributes:
        name: of the graph's argument.
        key: of the tokeniser's, or ``images``.
        dtype: numpy's name of it.
        shape: sizes; those that differ from call to call by name.
    """

    name: str
    key: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Side:
    """One side of a model, to be made a graph of.

    Attributes:
        name: ``image`` or ``text``.
        module: takes the tensors of :attr:`inputs`, gives ``(batch, d)`` L2-normalised float32.
        inputs: in order.
        example: of each.
    """

    name: str
    module: nn.Module
    inputs: tuple[GraphInput, ...]
    example: tuple[Tensor, ...]


class _ImageModule(nn.Module):
    """Pixels to embeddings; on a CPU all views are one pass, so that the networks are in the graph once."""

    def __init__(self, model: DualEncoder) -> None:
        super().__init__()
        self.model = _part(model, ("text_tower", "text_projection", "text_adapter"))

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.encode_image(inputs[0])


class _TextModule(nn.Module):
    """Tokens to embeddings."""

    def __init__(self, model: DualEncoder, keys: Sequence[str]) -> None:
        super().__init__()
        needed = {"text_tower", "text_projection", "text_adapter"} | ({"bank"} if model.config.refinement else set())
        others = {name for name, _ in model.named_children()} - needed
        self.model, self.keys = _part(model, others), list(keys)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model.encode_tokens(dict(zip(self.keys, inputs, strict=True)))


def _part(model: DualEncoder, without: Collection[str]) -> DualEncoder:
    """A model without some of its modules, its tensors shared."""
    part = copy.copy(model)
    part._modules = {name: None if name in without else module for name, module in model._modules.items()}
    return part


def sides_of(model: DualEncoder, image_size: int) -> list[Side]:
    """The image and the text side of a model.

    Args:
        model: in evaluation mode, on the CPU.
        image_size: side of the pictures, in pixels.

    Raises:
        GraphError: for a model that refines the mean of several prompts.
    """
    if model.config.refinement is not None and model.config.prompts:
        raise GraphError(
            "a graph takes a text in one prompt, and this model refines the mean of its texts in several: export one "
            "without prompts, or without refinement"
        )
    channels = model.config.preprocessing.channels
    shape = ("batch", channels, image_size, image_size)
    kind = torch.uint8 if channels == 3 else torch.float32
    images = torch.randint(0, 256, (3, channels, image_size, image_size), generator=torch.Generator().manual_seed(0))
    image = GraphInput("images", "images", str(kind).removeprefix("torch."), shape)
    short, tokens = (model.text_tower.tokenizer(texts) for texts in (TEXTS[:1], TEXTS))
    inputs = [_token_input(key, values, short[key].shape[1]) for key, values in tokens.items()]
    return [
        Side("image", _ImageModule(model), (image,), (images.to(kind),)),
        Side("text", _TextModule(model, list(tokens)), tuple(inputs), tuple(tokens.values())),
    ]


def _token_input(key: str, values: Tensor, shortest: int) -> GraphInput:
    """``0.input_ids``, of the first of several towers, is ``input_ids_0``; a length that is always the same stays."""
    number, _, name = key.rpartition(".")
    length: int | str = f"length_{number}".rstrip("_") if values.shape[1] != shortest else shortest
    dtype = str(values.dtype).removeprefix("torch.")
    return GraphInput(f"{name}_{number}".rstrip("_"), key, dtype, ("batch", length))


def trace(side: Side, model: DualEncoder) -> ExportedProgram:
    """A side as a program of torch.export.

    Raises:
        GraphError: naming the towers, if one of them cannot be traced.
    """
    dynamic = torch.export.Dim.DYNAMIC
    shapes = [{axis: dynamic for axis, size in enumerate(i.shape) if isinstance(size, str)} for i in side.inputs]
    try:
        with torch.no_grad():
            return torch.export.export(side.module, side.example, dynamic_shapes=(tuple(shapes),))
    except Exception as error:  # a tower's code may raise anything
        names = [f"'{tower.name}' of {tower.library}" for tower in towers_of(model.config)]
        raise GraphError(
            f"the {side.name} side of this model ({', '.join(names)}) cannot be exported by torch {torch.__version__}: "
            f"{' '.join(str(error).split())[:300]}"
        ) from error


def write_graph(side: Side, model: DualEncoder, form: Form, file: Path) -> None:
    """Write a side as one file that needs no other.

    Args:
        side: of the model.
        model: that it is of, for messages.
        form: of the file.
        file: to write.

    Raises:
        GraphError: if it cannot be traced, or is too large for ONNX.
        ImportError: without the extra ``onnx``.
    """
    if form == "torch_export":
        torch.export.save(trace(side, model), file)
        return
    needs("onnxscript", "onnx")
    size = sum(tensor.numel() * tensor.element_size() for tensor in side.module.state_dict().values())
    if size > LARGEST:
        raise GraphError(
            f"the {side.name} side has {size / 2**30:.1f} GiB of tensors, and one file of ONNX holds less than 2: give "
            "--form torch_export"
        )
    names = [value.name for value in side.inputs]
    program = torch.onnx.export(
        trace(side, model), dynamo=True, input_names=names, output_names=[OUTPUT], verbose=False
    )
    assert program is not None
    program.save(file)
