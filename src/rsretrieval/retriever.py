"""The use of a model on pictures and sentences, without a trainer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rsretrieval.data.captions import cleaned_sentences, cleaned_templates
from rsretrieval.data.progress import bar
from rsretrieval.images import Rendering, Square, band_square, decode, several, stack
from rsretrieval.metrics import HubnessConfig, hub_bias
from rsretrieval.models.distinct import encode_distinct
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.inputs import check_batch_size, on_device
from rsretrieval.models.pairs import open_clip_pair, transformers_pair
from rsretrieval.models.pretrained import load_pretrained
from rsretrieval.models.sharing import Shareable


class Retriever(Shareable):
    """Embeds pictures and sentences into one space; a dot product of embeddings is their cosine.

    Args:
        model: a trained dual encoder; it is set to evaluation mode.
        image_size: side that pictures are resized to, in pixels.
        max_words: longest sentence, in words; what is beyond is cut off. Of no effect for a model that takes texts as
            they are written, as pre-trained pairs do.
        hubness: how :meth:`hub_bias` corrects scores; None for dual softmax.
        scale: how pictures that are not 8-bit become 8-bit, such as ``percentile 2 98`` (see
            :class:`rsretrieval.images.Scale`); None for what the model was trained with, and if that is nothing such
            pictures are refused.
        bands: which bands become red, green and blue, such as ``4 3 2``; None for what the model was trained with.

    Raises:
        ValueError: if scale or bands are not understood.

    Example:
        >>> retriever = Retriever.from_pretrained("rsicd-lite")  # doctest: +SKIP
        >>> scores = retriever.encode_texts(["two ships"]) @ retriever.encode_images(pictures).T  # doctest: +SKIP
    """

    def __init__(
        self,
        model: DualEncoder,
        image_size: int,
        max_words: int = 30,
        hubness: HubnessConfig | None = None,
        scale: str | None = None,
        bands: str | None = None,
    ) -> None:
        self.model, self.image_size, self.max_words = model.eval(), image_size, max_words
        self.hubness = hubness or HubnessConfig("dual_softmax")
        trained = model.config.preprocessing
        self.square = Square.of(trained, image_size)
        self.rendering = Rendering.parse(
            trained.scale if scale is None else scale, trained.bands if bands is None else bands
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str = "cpu",
        *,
        scale: str | None = None,
        bands: str | None = None,
        trust_remote_code: bool = False,
    ) -> Retriever:
        """Load a model by name.

        Args:
            name: a folder (exported, of open_clip or of transformers); a run's checkpoint; a model that comes with the
                package (``rsicd-lite``); one of ``rsretrieval models list``; or ``OWNER/NAME`` on the hub
                (``OWNER/NAME@REVISION`` for another branch, tag or commit than the newest of ``main``).
            device: where to compute.
            scale: see :class:`Retriever`.
            bands: see :class:`Retriever`.
            trust_remote_code: let the model's settings run Python code that comes with a model.

        Raises:
            PretrainedError: if there is no such model, or its files do not go together.
            RemoteCodeError: if its settings would run such code, and that is not allowed.
            ValueError: if there is no such device.
            WeightsError: if a package that the model is built on is not installed; the message names it.
        """
        pretrained = load_pretrained(name, trust_remote_code=trust_remote_code)
        own = (pretrained.image_size, pretrained.max_words, pretrained.hubness)
        retriever = cls(on_device(pretrained.model, device), *own, scale, bands)
        retriever.source = pretrained.source
        return retriever

    @classmethod
    def from_open_clip(
        cls,
        architecture: str | Path,
        weights: str | Path | None = None,
        device: str = "cpu",
        *,
        activation: Literal["gelu", "quick_gelu"] | None = None,
        context_length: int | None = None,
        preprocessing: Mapping[str, Any] | None = None,
    ) -> Retriever:
        """A model of open_clip as it is: cosines are those of open_clip's own pipeline.

        Args:
            architecture: open_clip's name, its configuration as a JSON file, or a folder or ``hub:OWNER/NAME`` with
                ``open_clip_config.json``.
            weights: a file, ``hub:OWNER/NAME/FILE`` or ``pretrained:TAG``; None for those of the folder.
            device: where to compute.
            activation: of weights from a file, where open_clip knows the architecture with either.
            context_length: longest text in tokens, where it is not the architecture's.
            preprocessing: of :class:`rsretrieval.types.Preprocessing`, where it is not the architecture's.

        Raises:
            ValueError: for an unknown architecture.
            WeightsError: if weights are not there or do not fit, or their activation is not stated.
        """
        config = open_clip_pair(
            architecture, weights, activation=activation, context_length=context_length, preprocessing=preprocessing
        )
        if config.image.weights is None:
            raise ValueError(f"'{architecture}' without weights is a model at random: give a file, hub:… or a tag")
        return cls(on_device(DualEncoder(config), device), config.preprocessing.image_size)

    @classmethod
    def from_transformers(cls, source: str | Path, device: str = "cpu") -> Retriever:
        """A CLIP or SigLIP of transformers as it is: cosines are those of its own processor and model.

        Args:
            source: a folder, or a hub id.
            device: where to compute.

        Raises:
            WeightsError: if there is no such model, or it prepares images in a way that is not read.
        """
        config = transformers_pair(source)
        return cls(on_device(DualEncoder(config), device), config.preprocessing.image_size)

    @torch.inference_mode()
    def encode_images(self, images: Iterable[Any], batch_size: int = 64, *, progress: bool | None = None) -> Tensor:
        """Pictures of any size to ``(N, d)`` float32, L2-normalised, on the CPU; equal ones to equal vectors.

        Args:
            images: a list, or anything else that gives one after the other: pictures, paths, encoded bytes, arrays or
                tensors ``(H, W)`` or ``(H, W, bands)``.
            batch_size: pictures that are encoded at once.
            progress: show a bar with the pictures a second; None for one on a terminal after a few seconds.

        Raises:
            TypeError: for a single picture.
            ValueError: for a batch size that is no whole number, or below 1.
            BrokenImageError: for a picture that does not decode, or needs a scale or bands; the message says which.
        """
        shown = bar(progress, several(images), unit=" pictures")
        width = self.model.embed_dim
        return encode_distinct(shown, self.square_of, self.encode_squares, batch_size=batch_size, width=width)

    def square_of(self, image: object, rendering: Rendering | None = None) -> NDArray[Any]:
        """A picture as the model sees it: ``(S, S, 3)`` of 8 bits, or ``(S, S, bands)`` float32 of a model of more.

        Args:
            image: as :meth:`encode_images` takes it.
            rendering: of this picture, if not the retriever's own.

        Raises:
            BrokenImageError: if it does not decode, or needs a scale or bands.
        """
        if self.channels != 3:
            return band_square(image, self.square.size, self.channels)
        return self.square(np.asarray(decode(image, rendering or self.rendering)))

    @property
    def channels(self) -> int:
        """Of a picture: 3, or the bands of a multispectral model."""
        return self.model.config.preprocessing.channels

    @torch.inference_mode()
    def encode_squares(self, squares: Sequence[NDArray[Any]]) -> Tensor:
        """What :meth:`square_of` gives of several pictures to ``(N, d)`` float32, L2-normalised, on the CPU."""
        if not len(squares):
            return torch.zeros(0, self.model.embed_dim)
        return self.model.encode_image(stack(squares).to(self.model.device)).cpu()

    @torch.inference_mode()
    def encode_texts(
        self,
        texts: Iterable[str],
        batch_size: int = 128,
        *,
        templates: Sequence[str] | None = None,
        progress: bool | None = None,
    ) -> Tensor:
        """Sentences to ``(M, d)`` float32, L2-normalised, on the CPU; equal ones to equal vectors, so that they tie.

        Args:
            texts: a list of sentences.
            batch_size: of them that are encoded at once.
            templates: of every text, such as ``a satellite image of {}``; several are averaged. None for those that the
                model was made with, or else the text alone.
            progress: show a bar with the texts a second; None for one on a terminal after a few seconds.

        Raises:
            TypeError: for a single sentence, or what is none.
            ValueError: for a sentence without a word, or a batch size below 1.
        """
        batch_size = check_batch_size(batch_size)
        seen, cleaned = cleaned_sentences(texts, self.max_words)
        if self.model.config.cleans_texts:
            seen, templates = cleaned, templates and cleaned_templates(templates)
        distinct = sorted(dict.fromkeys(seen), key=len)  # those of like length together, which need little padding
        rows, embeddings = {text: row for row, text in enumerate(distinct)}, [torch.zeros(0, self.model.embed_dim)]
        with bar(progress, total=len(distinct), unit=" texts") as shown:
            for start in range(0, len(distinct), batch_size):
                batch = distinct[start : start + batch_size]
                embeddings.append(self.model.encode_text(batch, templates).cpu())
                shown.update(len(batch))
        return torch.cat(embeddings)[[rows[text] for text in seen]]

    def hub_bias(self, gallery: Tensor, queries: Literal["texts", "images"] = "texts") -> Tensor:
        """What to take from the scores of each item of an archive, so that those near to everything give way.

        Args:
            gallery: ``(N, d)`` embeddings of the items.
            queries: what the archive will be searched by.

        Returns:
            ``(N,)``, from the queries that the model keeps, of its training or by ``rsretrieval bank``.

        Raises:
            ValueError: if it keeps none, or none of that kind, or has the correction in its embeddings already.
        """
        if (refinement := self.model.config.refinement) and refinement.hubs:
            raise ValueError(
                "this model's embeddings have the correction for hubs in them (model.encoder.refinement): take plain "
                "cosines"
            )
        if self.model.bank is None:
            raise ValueError(
                "this model has no query bank: train it with model.encoder.query_bank, give it one by `rsretrieval "
                "bank`, or use plain cosines"
            )
        return hub_bias(self.model.bank.of(queries).cpu(), gallery, self.hubness)
