"""Tiny towers, as files and as settings."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rsretrieval.models import DualEncoder, EncoderConfig, TowerConfig
from rsretrieval.types import Preprocessing

if TYPE_CHECKING:
    from rsretrieval.training import RetrievalModule

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "plane", "two", "ships", "in", "the", "harbour"]
BERT = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
CLIP = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 64, "layers": 1, "width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}


def examples(count: int) -> int:
    """Random examples of a test; many more in ``make soak``."""
    return count * int(os.environ.get("RSRETRIEVAL_SOAK", 1))


def write_bert(folder: Path) -> str:
    """A tiny BERT's configuration and tokeniser; gives the folder."""
    (folder / "config.json").write_text(json.dumps(BERT))
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    return str(folder)


def write_hf_clip(folder: Path) -> str:
    """A tiny CLIP of transformers: random weights, image processor, a tokeniser of few words; gives the folder."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    folder = folder / "hf-clip"
    folder.mkdir()
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    words = {"vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 3, "bos_token_id": 2}
    config = CLIPConfig(
        text_config={**size, **words, "pad_token_id": 3},
        vision_config={**size, "image_size": 64, "patch_size": 16}, projection_dim=24,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    processor.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "pad_token": "[SEP]"})
    )
    return str(folder)


def settings(
    image: TowerConfig, text: TowerConfig, branch: TowerConfig | None = None, image_size: int = 64, **options: Any
) -> EncoderConfig:
    """Settings of a small encoder."""
    options = {"embed_dim": 32, "preprocessing": Preprocessing(image_size), **options}
    return EncoderConfig(image, text, branch, **options)


def encoder(
    image: TowerConfig, text: TowerConfig, branch: TowerConfig | None = None, image_size: int = 64, **options: Any
) -> DualEncoder:
    """A small encoder."""
    return DualEncoder(settings(image, text, branch, image_size, **options))


def module(
    image: TowerConfig, text: TowerConfig, branch: TowerConfig | None = None, image_size: int = 64, **options: Any
) -> "RetrievalModule":
    """A small encoder in training; settings of the module itself are told by their names."""
    from rsretrieval.training import RetrievalModule

    own = {key: options.pop(key) for key in ("objective", "optimizer", "hubness") if key in options}
    return RetrievalModule(settings(image, text, branch, image_size, **options), **own)


def small_run(folder: Path, batches: int) -> dict[str, Any]:
    """Settings of two epochs of so many batches on the embedded scenes; ``folder`` takes the text tower."""
    return {
        "trainer": {
            "accelerator": "cpu", "max_epochs": 2, "limit_train_batches": batches, "log_every_n_steps": 1,
            "enable_progress_bar": False, "enable_model_summary": False,
        },
        "data": {"source": "synthetic", "image_size": 64, "batch_size": 4, "eval_batch_size": 64, "num_workers": 0,
                 "augmentation": "none"},
        "model": {
            "encoder": {
                "image": {"library": "timm", "name": "test_resnet", "weights": None}, "convolutional_branch": None,
                "text": {"library": "transformers", "name": write_bert(folder), "weights": None}, "embed_dim": 16,
            },
        },
    }  # fmt: skip
