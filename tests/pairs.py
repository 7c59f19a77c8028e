"""Small image-text models of every kind, as files; and what their own libraries make of pictures and sentences."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor, nn

TEXT = {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VISION = {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16}
TIMM = {"timm_model_pretrained": False, "image_size": 64}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 24, "vision_cfg": VISION, "text_cfg": TEXT},
    "vit quick_gelu": {"embed_dim": 24, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": TEXT},
    "resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
        "text_cfg": TEXT,
    },
    "timm": {
        "embed_dim": 24,
        "vision_cfg": {**TIMM, "timm_model_name": "test_resnet", "timm_pool": "", "timm_proj": "linear"},
        "text_cfg": TEXT,
    },
    "pooled by attention": {
        "embed_dim": 64,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            **TIMM, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none", "image_size": 160,
        },
        "text_cfg": {
            **TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last", "norm_kwargs": {"eps": 1e-6},
        },
    },
    "coca": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**TEXT, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "attn_pooler_heads": 4},
    },
    "hf text": {
        "embed_dim": 24,
        "vision_cfg": VISION,
        "text_cfg": {
            "hf_model_name": "BERT", "hf_tokenizer_name": "BERT", "hf_pooler_type": "mean_pooler",
            "hf_proj_type": "mlp", "context_length": 20,
        },
    },
}  # fmt: skip
"""Of open_clip, by what is special about them; ``BERT`` stands for the folder of a small one."""
TEXTS = ["Two planes, parked near the Harbour .", "a red ship in the harbour", "the ships", "A plane!"]


def pictures() -> list[Image.Image]:
    """Larger and smaller than 64 pixels, and of other shapes."""
    generator = np.random.default_rng(0)
    sizes = ((105, 60), (93, 240), (64, 64), (41, 25))
    noise = [generator.integers(0, 256, (height // 3, width // 3, 3), dtype=np.uint8) for width, height in sizes]
    return [Image.fromarray(pixels).resize(size) for pixels, size in zip(noise, sizes, strict=True)]


def write_architecture(folder: Path, kind: str, bert: str = "") -> Path:
    """A configuration that open_clip knows by the file's stem from now on; with the path of a folder of BERT's."""
    file = folder / f"tiny-{kind.replace(' ', '-')}.json"
    file.write_text(json.dumps(ARCHITECTURES[kind]).replace('"BERT"', json.dumps(bert)))
    open_clip.add_model_config(file)
    return file


def random_model(name: str, **options: Any) -> Any:
    """A model of open_clip with random weights, in evaluation mode; those that open_clip leaves unset are set too."""
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained_text=False, **options).eval()
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
        elif buffer_name.endswith("running_mean"):
            buffer.normal_(std=0.1)
    for parameter_name, parameter in model.visual.named_parameters():
        if parameter_name.endswith(".weight") and parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)  # timm's ResNets begin with zeros
    if hasattr(model, "text_decoder"):
        nn.init.normal_(model.text_decoder.text_projection, std=0.1)
    return model


def write_entry(folder: Path) -> str:
    """The entry of a small CLIP with random weights, as a file that ``Retriever.from_pretrained`` takes."""
    architecture = write_architecture(folder, "vit")
    torch.save(random_model(architecture.stem).state_dict(), folder / "weights.pt")
    entry = {"library": "open_clip", "architecture": str(architecture), "path": str(folder / "weights.pt")}
    (folder / "pair.yaml").write_text(json.dumps(entry))
    return str(folder / "pair.yaml")


@torch.no_grad()
def cosines(model: Any, images: Tensor, tokens: Tensor) -> Tensor:
    """What an open_clip model gives of prepared images and tokenised texts, ``(N, M)``."""
    image = model.encode_image(images, normalize=True)
    return image @ model.encode_text(tokens, normalize=True).T  # type: ignore[no-any-return]


def open_clip_cosines(name: str, weights: str | None = None, **options: Any) -> Tensor:
    """The pictures and texts by open_clip's own model, transforms and tokeniser."""
    model, _, prepare = open_clip.create_model_and_transforms(name, weights, pretrained_text=False, **options)
    tokens = open_clip.get_tokenizer(name, options.get("force_context_length"))(TEXTS)
    return cosines(model.eval(), torch.stack([prepare(picture) for picture in pictures()]), tokens)


def write_clip_tokenizer(folder: Path, length: int) -> Any:
    """CLIP's tokeniser in transformers' form, made of the vocabulary that open_clip comes with."""
    from transformers import CLIPTokenizer

    own = SimpleTokenizer()
    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(token, token): number for token, number in own.encoder.items()}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, own.bpe_ranks)) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = length
    tokenizer.save_pretrained(folder)
    return tokenizer


def write_transformers_pair(folder: Path, kind: str, processor: Mapping[str, Any] | None = None) -> Path:
    """A small ``clip`` or ``siglip`` with random weights, its processor of images and its tokeniser."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        SiglipConfig,
        SiglipImageProcessor,
        SiglipModel,
    )

    sides = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**sides, "image_size": 64, "patch_size": 16}
    special = {"eos_token_id": 49407, "bos_token_id": 49406, "pad_token_id": 49407}
    text = {**sides, **special, "vocab_size": 49408, "max_position_embeddings": 32, "projection_size": 32}
    folder.mkdir()
    torch.manual_seed(0)
    model: Any
    if kind == "clip":
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
        size = {"size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}}
        CLIPImageProcessor(**{**size, **(processor or {})}).save_pretrained(folder)
    else:
        model = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
        SiglipImageProcessor(**{"size": {"height": 64, "width": 64}, **(processor or {})}).save_pretrained(folder)
    model.save_pretrained(folder)
    write_clip_tokenizer(folder, 32)
    return folder


@torch.no_grad()
def transformers_cosines(folder: Path, texts: Sequence[str] = TEXTS) -> Tensor:
    """The pictures and texts by transformers' own model, processor and tokeniser."""
    from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    padding = "max_length" if model.config.model_type == "siglip" else True
    tokens = AutoTokenizer.from_pretrained(folder)(list(texts), padding=padding, return_tensors="pt")
    prepared = AutoImageProcessor.from_pretrained(folder)(images=pictures(), return_tensors="pt")
    image = model.get_image_features(**prepared).pooler_output
    text = model.get_text_features(**tokens).pooler_output
    return torch.nn.functional.normalize(image, dim=-1) @ torch.nn.functional.normalize(text, dim=-1).T
