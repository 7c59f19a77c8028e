"""The use of a model on pictures and sentences, without a trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rsretrieval.data.captions import clean
from rsretrieval.images import decode, resize, stack
from rsretrieval.metrics import HubnessConfig, hub_bias
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.pretrained import load_pretrained


class Retriever:
    """Embeds pictures and sentences into one space; a dot product of embeddings is their cosine.

    Args:
        model: a trained dual encoder; it is set to evaluation mode.
        image_size: side that pictures are resized to, in pixels.
        max_words: longest sentence, in words; what is beyond is cut off.
        hubness: how :meth:`hub_bias` corrects scores; None for dual softmax.

    Example:
        >>> retriever = Retriever.from_pretrained("rsicd-lite")  # doctest: +SKIP
        >>> scores = retriever.encode_texts(["two ships"]) @ retriever.encode_images(pictures).T  # doctest: +SKIP
    """

    def __init__(
        self, model: DualEncoder, image_size: int, max_words: int = 30, hubness: HubnessConfig | None = None
    ) -> None:
        self.model, self.image_size, self.max_words = model.eval(), image_size, max_words
        self.hubness = hubness or HubnessConfig("dual_softmax")

    @classmethod
    def from_pretrained(cls, name: str, device: str = "cpu", *, trust_remote_code: bool = False) -> Retriever:
        """Load a model that was exported.

        Args:
            name: a folder; the name of a model that comes with the package (``rsicd-lite``); or ``OWNER/NAME`` on the
                Hugging Face hub.
            device: where to compute.
            trust_remote_code: let the model's settings run Python code that comes with a model.

        Raises:
            PretrainedError: if there is no such model, or its files do not go together.
            RemoteCodeError: if its settings would run such code, and that is not allowed.
            WeightsError: if a package that the model is built on is not installed; the message names it.
        """
        pretrained = load_pretrained(name, trust_remote_code=trust_remote_code)
        return cls(pretrained.model.to(device), pretrained.image_size, pretrained.max_words, pretrained.hubness)

    @torch.inference_mode()
    def encode_images(self, images: Sequence[Image.Image], batch_size: int = 64) -> Tensor:
        """Pictures of any size and mode to ``(N, d)`` float32, L2-normalised, on the CPU.

        Raises:
            BrokenImageError: for a picture that does not decode.
        """
        embeddings = [torch.zeros(0, self.model.embed_dim)]
        for start in range(0, len(images), batch_size):
            pixels = [np.asarray(decode(image)) for image in images[start : start + batch_size]]
            batch = stack([resize(image, self.image_size) for image in pixels])
            embeddings.append(self.model.encode_image(batch.to(self.model.device)).cpu())
        return torch.cat(embeddings)

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str], batch_size: int = 128) -> Tensor:
        """Sentences to ``(M, d)`` float32, L2-normalised, on the CPU; equal ones to equal vectors, so that they tie.

        Raises:
            ValueError: for a sentence without a word.
        """
        cleaned = [clean(text, self.max_words) for text in texts]
        if "" in cleaned:
            raise ValueError(f"sentence {cleaned.index('')} ({texts[cleaned.index('')]!r}) has no word: leave it out")
        rows = {text: row for row, text in enumerate(dict.fromkeys(cleaned))}
        distinct, embeddings = list(rows), [torch.zeros(0, self.model.embed_dim)]
        for start in range(0, len(distinct), batch_size):
            embeddings.append(self.model.encode_text(distinct[start : start + batch_size]).cpu())
        return torch.cat(embeddings)[[rows[text] for text in cleaned]]

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
            raise ValueError(
                "this model has no query bank: train it with model.encoder.query_bank, or use plain cosines"
            )
        banks = dict(zip(("images", "texts"), self.model.bank.queries(), strict=True))
        if queries not in banks:
            raise ValueError(f"there are no queries '{queries}'; possible are {sorted(banks)}")
        return hub_bias(banks[queries].cpu(), gallery, self.hubness)
