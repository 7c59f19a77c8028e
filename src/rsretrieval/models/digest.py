"""Which model it is: one text for all that decides what a picture and a sentence become."""

from __future__ import annotations

import json
from hashlib import blake2b

import torch

from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.onnx_encoder import OnnxEncoder
from rsretrieval.settings import plain

NOT_OF_EMBEDDINGS = ("bank.", "logits.")
"""Beginnings of the tensors that embeddings do not depend on; on the bank they do where it refines them."""


def digest_of(model: DualEncoder, image_size: int, max_words: int) -> str:
    """32 hexadecimal digits of the weights, in the precision that they are in, and of the preprocessing.

    Args:
        model: the model; graphs of one have its digest with them.
        image_size: side that pictures are resized to, in pixels.
        max_words: longest sentence, of a model that cleans its texts.
    """
    if isinstance(model, OnnxEncoder):
        return model.digest
    config = model.config
    settings = {
        "preprocessing": plain(config.preprocessing),
        "image_size": image_size,
        "views": config.eval_views,
        "prompts": list(config.prompts),
        "max_words": max_words if config.cleans_texts else None,
    }
    if config.refinement is not None:
        settings["refinement"] = plain(config.refinement)
    skipped = NOT_OF_EMBEDDINGS if config.refinement is None else ("logits.",)
    digest = blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16)
    for name, tensor in sorted(model.state_dict().items()):
        if not name.startswith(skipped):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            values = tensor.detach().cpu().contiguous()
            digest.update(values.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
