"""Losses, training step, embedding and recall on a GPU, each against its bare counterpart, in float32 and bf16.

    python benchmarks/gpu.py [--device cuda] [--batch 256]

Needs torch, timm and transformers beside this package; no data, no weights, no network. One process, a few minutes on a
GPU. Run with `--device cpu --batch 16` it is a check that the script works; its figures there say nothing. On a CUDA
device it has not been run for the figures of this repository: none was at hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent / "speed"))
from losses import pairs_of, products, stage_one
from ratios import Row, compare
from recall import embeddings
from step import BATCH, batch, config_of, towers_alone

from rsretrieval.images import normalise
from rsretrieval.losses import Objective, ObjectiveConfig
from rsretrieval.metrics import retrieval_recall
from rsretrieval.training import RetrievalModule
from rsretrieval.types import Batch

TOWERS = (
    ("EfficientNet-Lite0 twice, BERT", ("tf_efficientnet_lite0", "tf_efficientnet_lite0", {})),
    ("the paper's Swin-T, ResNet-50, BERT", ("swin_tiny_patch4_window7_224", "resnet50", {})),
)


def finished(function: Callable[[], Any], device: str) -> Callable[[], None]:
    """The function, to the end of what it asks of the device."""

    def run() -> None:
        function()
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def on(device: str, data: Batch) -> Batch:
    """The batch's tensors there."""
    moved = {name: value.to(device) for name, value in data._asdict().items() if isinstance(value, Tensor)}
    return data._replace(**moved, tokens={name: value.to(device) for name, value in data.tokens.items()})


def of_losses(device: str, sizes: tuple[int, ...]) -> Iterator[Row]:
    """Stage 1's losses against three products."""
    for size in sizes:
        leaves = pairs_of(size).map(lambda field: field.detach().to(device))
        pairs = leaves._replace(image=leaves.image.requires_grad_(), text=leaves.text.requires_grad_())
        objective = Objective(ObjectiveConfig()).to(device)
        yield compare(
            f"losses of stage 1, forward and backward, B = {size:,}", "three products B x B x d",
            finished(lambda pairs=pairs, objective=objective: stage_one(pairs, objective), device),
            finished(products(size, device=device), device), rounds=31,
        )  # fmt: skip


def of_steps(device: str, size: int) -> Iterator[Row]:
    """A training step against its towers, in both precisions."""
    data = on(device, batch(size))
    for towers, names in TOWERS:
        with tempfile.TemporaryDirectory() as folder:
            module = RetrievalModule(config_of(Path(folder), *names)).train().to(device)
        normalised = normalise(data.images, module.model.config.preprocessing)
        for precision in (torch.float32, torch.bfloat16):

            def step(module: RetrievalModule = module, precision: torch.dtype = precision) -> None:
                module.zero_grad()
                with torch.autocast(device, precision, enabled=precision != torch.float32):
                    loss = module.losses(data, module.stage.losses, 0)["loss"]
                loss.backward()  # type: ignore[no-untyped-call]

            def alone(
                module: RetrievalModule = module, precision: torch.dtype = precision, images: Tensor = normalised
            ) -> None:
                module.zero_grad()
                with torch.autocast(device, precision, enabled=precision != torch.float32):
                    outputs = [x for x in towers_alone(module.model, images, data.tokens) if x.requires_grad]
                torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

            what = f"training step, FGIS, {towers}, batches of {size}, {str(precision).removeprefix('torch.')}"
            yield compare(
                what, "the towers' forward and backward pass", finished(step, device), finished(alone, device)
            )


def of_compiled(device: str, size: int) -> Iterator[Row]:
    """Forward and backward of an image tower that `torch.compile` made, against the tower as it is."""
    for towers, names in TOWERS:
        with tempfile.TemporaryDirectory() as folder:
            config = config_of(Path(folder), *names)
            tower = RetrievalModule(config).model.image_tower.train().to(device)
        images = normalise(on(device, batch(size)).images, config.preprocessing)
        passes = [
            finished(lambda network=network, images=images: network(images).pooled.sum().backward(), device)
            for network in (torch.compile(tower), tower)
        ]
        yield compare(f"image tower compiled, {towers}, batches of {size}", "not compiled", *passes)


def of_embedding(device: str, size: int) -> Iterator[Row]:
    """`encode_image` of uint8 pictures on the device against the bare tower on normalised ones."""
    for towers, names in TOWERS:
        with tempfile.TemporaryDirectory() as folder:
            config = replace(config_of(Path(folder), *names), convolutional_branch=None)
            model = RetrievalModule(config).model.eval().to(device)
        images = on(device, batch(size)).images
        normalised = normalise(images, config.preprocessing)
        with torch.inference_mode():
            yield compare(
                f"encode_image, {towers}, batches of {size}", "the bare tower",
                finished(partial(model.encode_image, images), device),
                finished(partial(model.image_tower, normalised), device),
            )  # fmt: skip


def of_recall(device: str, images: int) -> Iterator[Row]:
    """Exact recall against one product."""
    for width in (64, 512):
        image, text, owners = (tensor.to(device) for tensor in embeddings(width, images))
        yield compare(
            f"recall, {images:,} images x {len(owners):,} captions, d = {width}", "their product",
            finished(partial(retrieval_recall, image=image, text=text, owners=owners), device),
            finished(lambda i=image, t=text: [i @ part.T for part in t.split(4096)], device), rounds=3,
        )  # fmt: skip


def main() -> None:
    """Print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=8 * BATCH)
    parser.add_argument("--images", type=int, default=10_000, help="of the split that recall is measured on")
    options = parser.parse_args()
    device, size = options.device, options.batch
    name = torch.cuda.get_device_name() if device == "cuda" else device
    sys.stdout.write(
        f"{name}, torch {torch.__version__}\n| what | against | ms | ms | ratio |\n|---|---|---|---|---|\n"
    )
    parts = [of_losses(device, (2 * size, 16 * size)), of_steps(device, size), of_embedding(device, size)]
    parts += [of_recall(device, options.images), *([of_compiled(device, size)] if device == "cuda" else [])]
    for rows in parts:
        for row in rows:
            cells = f"{1e3 * row.ours:.3f} | {1e3 * row.reference:.3f} | {row.ratio:.2f}"
            sys.stdout.write(f"| {row.what} | {row.against} | {cells} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
