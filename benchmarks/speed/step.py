"""A training step of an FGIS model without its data, against the forward and backward pass of its towers alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from ratios import Row, compare
from torch import Tensor

from rsretrieval.images import normalise
from rsretrieval.models import DualEncoder, EncoderConfig, TowerConfig
from rsretrieval.training import RetrievalModule
from rsretrieval.types import Batch, Tokens

BATCH, WORDS = 16, 20
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
"""BERT's own settings are the paper's."""


def config_of(
    folder: Path, image: str, branch: str | None, bert: dict[str, int], *, frozen: bool = False
) -> EncoderConfig:
    """A model with random weights, and like the paper's with a convolutional branch that is frozen, if any."""
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **bert}))
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a"]))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return EncoderConfig(
        image=TowerConfig("timm", image, None, frozen=frozen),
        text=TowerConfig("transformers", str(folder), None, frozen=frozen),
        convolutional_branch=TowerConfig("timm", branch, None, frozen=True) if branch else None,
    )


def batch(size: int, seed: int = 0) -> Batch:
    """Random pixels, and texts of 8 to ``WORDS`` random tokens."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(8, WORDS + 1, (size, 1), generator=random)
    mask = (torch.arange(WORDS) < lengths).long()
    tokens = {"input_ids": mask * torch.randint(5, 30522, mask.shape, generator=random), "attention_mask": mask}
    images, ids = torch.randint(0, 256, (size, 3, 224, 224), dtype=torch.uint8, generator=random), torch.arange(size)
    return Batch(images, ids, [""] * size, ids, ids, ids % 5, torch.rand(size, generator=random), tokens)


def towers_alone(model: DualEncoder, images: Tensor, tokens: Tokens) -> list[Tensor]:
    """What the networks of timm and transformers give of normalised images, channels last, and of texts."""
    tower: Any = model.image_tower.model
    branch: Any = model.convolutional_branch.model  # type: ignore[union-attr]
    images = images.contiguous(memory_format=torch.channels_last)
    maps = tower.forward_features(images)
    early, last = branch.forward_intermediates(
        images, indices=[0, len(branch.feature_info) - 1], intermediates_only=True
    )
    texts = model.text_tower.model(**tokens).last_hidden_state[:, 0]
    return [tower.forward_head(maps, pre_logits=True), maps, early, last.mean((2, 3)), texts]


def rows() -> Iterator[Row]:
    """One row for each pair of towers."""
    sizes: list[tuple[str, tuple[Any, ...]]] = [
        ("EfficientNet-Lite0 twice, MiniLM", ("tf_efficientnet_lite0", "tf_efficientnet_lite0", MINILM)),
        ("the paper's Swin-T, ResNet-50, BERT", ("swin_tiny_patch4_window7_224", "resnet50", {})),
    ]
    data = batch(BATCH)
    for towers, names in sizes:
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            module = RetrievalModule(config_of(Path(folder), *names)).train()
        normalised = normalise(data.images, module.model.config.preprocessing)

        def step(module: RetrievalModule = module) -> None:
            module.zero_grad()
            module.losses(data, module.stage.losses, 0)["loss"].backward()  # type: ignore[no-untyped-call]

        def alone(module: RetrievalModule = module, normalised: Tensor = normalised) -> None:
            module.zero_grad()
            outputs = [output for output in towers_alone(module.model, normalised, data.tokens) if output.requires_grad]
            torch.autograd.backward(outputs, [torch.ones_like(output) for output in outputs])

        yield compare(
            f"training step, FGIS, {towers}, batches of {BATCH}", "the towers' forward and backward pass",
            step, alone, must="<= 1.15", rounds=9,
        )  # fmt: skip
