"""Graphs of ONNX in eight bits, by onnxruntime.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rsretrieval.lazy import needs

OPERATIONS = ("Gemm", "MatMul")
MAPS = ("Conv", "Clip", "Relu")
"""What is computed in eight bits. Clipping is, so that a convolution's range is that of what is left of it; additions,
moments, norms and softmax stay in float32, and so do convolutions of the pixels themselves and products with a bank."""
AT_ONCE = 1
"""Pictures whose maps are held at a time, all of them: gigabytes, of more."""


@contextmanager
def _prepared(file: Path) -> Iterator[tuple[Any, Path]]:
    """A graph made ready, and the module to quantise it; no line is logged for each tensor that stays in float32."""
    needs("onnx", "onnx")
    quantization = needs("onnxruntime.quantization", "onnx")
    prepared, root = file.with_suffix(".prepared.onnx"), logging.getLogger()
    root.addFilter(_is_of_others)
    try:
        quantization.shape_inference.quant_pre_process(str(file), str(prepared), skip_symbolic_shape=True)
        yield quantization, prepared
    finally:
        root.removeFilter(_is_of_others)
        prepared.unlink(missing_ok=True)


def _is_of_others(record: logging.LogRecord) -> bool:
    return f"{os.sep}onnxruntime{os.sep}" not in record.pathname


def quantise_images(file: Path, images: Tensor) -> None:
    """An image graph in eight bits, weights by channel and maps by ranges that pictures have, in place.

    Args:
        file: of the graph.
        images: ``(N, C, S, S)`` as the graph takes them.
    """
    with _prepared(file) as (quantization, prepared):
        quantization.quantize_static(
            str(prepared),
            str(file),
            _reader(quantization, images),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=[*MAPS, *OPERATIONS],
            nodes_to_exclude=[*_of_pixels(prepared, images.shape[1]), *_of_bank(prepared)],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )


def quantise_texts(file: Path) -> None:
    """A text graph in eight bits, weights by channel and maps by the range that each call's have, in place."""
    with _prepared(file) as (quantization, prepared):
        quantization.quantize_dynamic(
            str(prepared),
            str(file),
            op_types_to_quantize=["Gather", *OPERATIONS],  # Gather: the table of words
            nodes_to_exclude=_of_bank(prepared),
            per_channel=True,
            weight_type=quantization.QuantType.QInt8,
        )


def _of_pixels(file: Path, channels: int) -> list[str]:
    """Names of the first convolutions."""
    graph = needs("onnx", "onnx").load(file).graph
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    shapes = [(node.name, weights.get(node.input[1], ())) for node in graph.node if node.op_type == "Conv"]
    grouped = [node.name for node in graph.node for part in node.attribute if part.name == "group" and part.i > 1]
    return [name for name, shape in shapes if list(shape[1:2]) == [channels] and name not in grouped]


def _of_bank(file: Path) -> list[str]:
    """Names of the products with a bank, by which embeddings are refined: cosines over a small temperature."""
    graph = needs("onnx", "onnx").load(file).graph
    sizes = {tensor.name: sorted(tensor.dims) for tensor in graph.initializer}
    of_bank = [size for name, size in sizes.items() if name.startswith("model.bank.")]
    return [node.name for node in graph.node if any(sizes.get(name) in of_bank for name in node.input)]


def _reader(quantization: Any, images: Tensor) -> Any:  # noqa: ANN401 - of onnxruntime
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
        """Batches of the pictures, one after the other."""

        def __init__(self) -> None:
            self.batches: Iterator[Tensor] = iter(torch.split(images, AT_ONCE))

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.contiguous().numpy()}

    return Reader()
