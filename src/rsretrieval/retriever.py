"""A trained model as a folder, and its use on pictures and sentences without a trainer.

A folder holds ``config.json`` (how to build the model), ``model.safetensors`` (every tensor that building it does not
give; frozen networks from installed packages are not stored again) and, published, a ``README.md``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rsretrieval.cache import fingerprint
from rsretrieval.data.captions import clean
from rsretrieval.data.stream import stack
from rsretrieval.data.transforms import evaluation
from rsretrieval.metrics.rerank import RerankConfig, hub_bias
from rsretrieval.models import DualEncoder
from rsretrieval.module import RetrievalModule

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PUBLISHED = Path(__file__).parents[2] / "models"
"""Models that come with the repository, where it is installed from a clone."""


class PretrainedError(ValueError):
    """A folder that holds no model, or not the model that it says."""


class Retriever:
    """Embeds pictures and sentences into one space; a dot product of embeddings is their cosine.

    Args:
        model: a trained dual encoder; it is set to evaluation mode.
        image_size: side that pictures are brought to, in pixels.
        max_words: longest sentence, in words.
        rerank: how :meth:`hub_bias` corrects scores; the model's own settings, where it was trained with some.
    """

    def __init__(
        self, model: DualEncoder, image_size: int, max_words: int = 30, rerank: RerankConfig | None = None
    ) -> None:
        self.model, self.image_size, self.max_words = model.eval(), image_size, max_words
        self.rerank = rerank or RerankConfig("dual_softmax")
        self._transform = evaluation(image_size)

    @classmethod
    def from_pretrained(cls, name: str, device: str = "cpu") -> Retriever:
        """Load a folder.

        Args:
            name: a folder; the name of a model that comes with the repository (``rsicd-lite``); or ``OWNER/NAME`` on
                the Hugging Face hub.
            device: where to compute.

        Raises:
            PretrainedError: if there is no such model, or its files do not go together.
        """
        folder = _folder(name)
        settings = json.loads((folder / CONFIG).read_text())
        module = RetrievalModule(**{**settings["model"], "cache_features": False})
        model = module.model
        stored = _unpacked(load_file(folder / WEIGHTS))
        missing = {key: tensor for key, tensor in model.state_dict().items() if key not in stored}
        surplus = sorted(set(stored) - set(model.state_dict()))
        with safe_open(folder / WEIGHTS, "pt") as file:
            expected = file.metadata()["rest"]
        if surplus or fingerprint(missing) != expected:
            raise PretrainedError(
                f"'{folder}': the {len(stored)} tensors stored there and the {len(missing)} that installed packages "
                f"give are not the model that was published (unknown: {surplus[:3]}): install the packages that its "
                "README.md names, or fetch the folder anew"
            )
        model.load_state_dict(stored, strict=False)
        return cls(model.to(device), settings["image_size"], settings["max_words"], module.rerank)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image], batch_size: int = 64) -> Tensor:
        """Pictures of any size and mode to ``(N, d)`` float32, L2-normalised, on the CPU."""
        device = self.model.pooled_projection.weight.device
        found = [torch.zeros(0, self.model.embed_dim)]
        for start in range(0, len(images), batch_size):
            arrays = [self._transform(image.convert("RGB")) for image in images[start : start + batch_size]]
            found.append(self.model.encode_image(stack(arrays).to(device)).cpu())
        return torch.cat(found)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Sentences to ``(M, d)`` float32, L2-normalised, on the CPU; equal ones to equal vectors, so that they tie.

        Raises:
            ValueError: for a sentence without a word.
        """
        cleaned = [clean(text, self.max_words) for text in texts]
        if "" in cleaned:
            raise ValueError(f"sentence {cleaned.index('')} ({texts[cleaned.index('')]!r}) has no word: leave it out")
        distinct = {text: number for number, text in enumerate(dict.fromkeys(cleaned))}
        every, found = list(distinct), [torch.zeros(0, self.model.embed_dim)]
        for start in range(0, len(every), batch_size):
            found.append(self.model.encode_text(every[start : start + batch_size]).cpu())
        return torch.cat(found)[[distinct[text] for text in cleaned]]

    def hub_bias(self, gallery: Tensor, queries: Literal["texts", "images"] = "texts") -> Tensor:
        """What to take from the scores of each item of an archive, so that those near to everything give way.

        Args:
            gallery: ``(N, d)`` embeddings of the items.
            queries: what the archive will be searched by.

        Returns:
            ``(N,)``, from the queries that the model keeps from its training.

        Raises:
            ValueError: if it keeps none, or for other queries.
        """
        if self.model.bank is None:
            raise ValueError("this model has no query bank: train it with model.query_bank, or use plain cosines")
        known = dict(zip(("images", "texts"), self.model.bank.queries(), strict=True))
        if queries not in known:
            raise ValueError(f"there are no queries '{queries}'; possible are {sorted(known)}")
        return hub_bias(known[queries].cpu(), gallery, self.rerank)


def _folder(name: str) -> Path:
    for folder in (Path(name).expanduser(), PUBLISHED / name):
        if (folder / CONFIG).is_file():
            return folder
    there = sorted(path.parent.name for path in PUBLISHED.glob(f"*/{CONFIG}"))
    if name.count("/") != 1:
        raise PretrainedError(
            f"there is no model '{name}': give a folder with {CONFIG} and {WEIGHTS}, one of {there}, or OWNER/NAME on "
            "the hub"
        )
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS]))
    except Exception as error:
        raise PretrainedError(
            f"the hub's model '{name}' cannot be fetched ({error}): mend the name or the connection, or give a folder"
        ) from error


SCALE = "|scale"  # after a tensor's name, where it is kept as integers


def _packed(tensors: Mapping[str, Tensor], *, int8: bool) -> dict[str, Tensor]:
    """Tensors in half precision; matrices as integers of eight bits and a scale for each row, where asked for."""
    packed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if int8 and tensor.ndim >= 2 and tensor.is_floating_point():
            scale = tensor.abs().amax(dim=tuple(range(1, tensor.ndim)), keepdim=True).clamp_min(1e-12) / 127
            packed[name], packed[name + SCALE] = (tensor / scale).round().to(torch.int8), scale
        else:
            packed[name] = tensor.half() if tensor.is_floating_point() else tensor
    return {name: tensor.contiguous() for name, tensor in packed.items()}


def _unpacked(packed: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What :func:`_packed` was given, as far as it was kept."""
    return {
        name: tensor.float() * packed[name + SCALE] if name + SCALE in packed else tensor.float()
        for name, tensor in packed.items()
        if not name.endswith(SCALE)
    }


def export(checkpoint: str, to: str, image_size: int | None = None, max_words: int = 30, *, int8: bool = False) -> None:
    """Write a checkpoint as a folder for :meth:`Retriever.from_pretrained`, in half precision.

    Args:
        checkpoint: of a training run.
        to: the folder to write to.
        image_size: side of the images in evaluation, in pixels; null for the model's.
        max_words: longest sentence, in words.
        int8: keep matrices in eight bits and a scale for each row, in half the space.
    """
    module = RetrievalModule.load_from_checkpoint(checkpoint, map_location="cpu", cache_features=False)
    hyper: dict[str, Any] = dict(module.hparams)
    built = RetrievalModule(**hyper).model.state_dict()
    changed = {
        key: value
        for key, value in module.model.state_dict().items()
        if not value.allclose(built[key], rtol=2**-11, atol=0.0)  # what half precision can tell apart
    }
    rest = fingerprint({key: value for key, value in built.items() if key not in changed})
    folder = Path(to).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_packed(changed, int8=int8), folder / WEIGHTS, metadata={"rest": rest})
    settings = {"model": hyper, "image_size": image_size or module.model.image_size, "max_words": max_words}
    (folder / CONFIG).write_text(json.dumps(settings, indent=1) + "\n")
