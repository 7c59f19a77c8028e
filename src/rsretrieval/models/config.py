"""How an encoder is built: every setting once, with its meaning; wrong ones are refused before anything is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from rsretrieval.models.adaptation import AdapterConfig, LoraConfig
from rsretrieval.models.refinement import RefinementConfig
from rsretrieval.settings import build
from rsretrieval.types import Preprocessing

PRETRAINED = "pretrained"
PAIR_LIBRARIES = ("open_clip", "transformers")
"""Libraries that have whole image-text models."""
PAPER_WIDTH = 512
FGIS_HEADS = 8
"""Of the attention in FGIS's scene fine-grained sensing."""


@dataclass(frozen=True)
class TowerConfig:
    """One image or text tower by name.

    Attributes:
        library: a registered library of towers: ``timm`` (images), ``open_clip``, ``transformers``, ``ngrams`` (texts:
            the words and runs of words they have, which needs no weights), ``concat`` (several towers side by side,
            listed in ``options.towers``), or one of your own (``register_image_tower``).
        name: the library's name of the model; for transformers a hub id or a folder with its configuration.
        weights: null (random), ``pretrained``, ``pretrained:TAG``, ``hub:OWNER/NAME[/FILE]``, ``package:NAME`` or a
            path.
        frozen: never train it; it stays in evaluation mode.
        frozen_layers: never train its first so many layers (the stem or the embeddings are the first).
        frozen_statistics: batch norms that train learn scales and shifts, and keep their pre-trained statistics.
        pooling: how tokens become the global vector; null for the library's own way (timm: the network's pooling;
            open_clip: its projection; transformers: the first token of a text, the mean over an image). transformers
            also takes ``cls``, ``mean`` and, for texts, ``all_layers``: the means of the word embeddings and of every
            layer, end to end, since the words themselves live in the lower ones. timm also takes ``all_stages``:
            beside the network's own vector, mean and standard deviation over all positions of every stage, where
            texture lives.
        correlated_stages: of ``all_stages`` those, from 1, whose maps' correlations between channels join the vector:
            which patterns occur together. Of c channels c (c - 1) / 2.
        max_tokens: longest text, in tokens (transformers).
        attention_mask: False lets a text attend to its padding, as the authors' release does (transformers).
        lora: train low-rank additions to its attention, and freeze the rest; null for not.
        options: further arguments of the library's constructor.
    """

    library: str
    name: str
    weights: str | None = None
    frozen: bool = False
    frozen_layers: int = 0
    frozen_statistics: bool = False
    pooling: Literal["cls", "mean", "all_layers", "all_stages"] | None = None
    correlated_stages: tuple[int, ...] = ()
    max_tokens: int = 47
    attention_mask: bool = True
    lora: LoraConfig | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lora is not None and (self.frozen or self.frozen_layers):
            raise ValueError(f"lora of '{self.name}' freezes all else already: leave out frozen and frozen_layers")
        object.__setattr__(self, "name", os.fspath(self.name))  # where Python gives a path
        object.__setattr__(self, "weights", None if self.weights is None else os.fspath(self.weights))
        allowed = {"timm": {"all_stages"}, "transformers": {"cls", "mean", "all_layers"}}
        allowed |= {library: set() for library in ("open_clip", "concat", "ngrams")}
        if self.pooling is not None and self.pooling not in allowed.get(self.library, {self.pooling}):
            raise ValueError(
                f"pooling='{self.pooling}' is unknown to towers of {self.library}; possible are null and "
                f"{sorted(allowed[self.library])}"
            )
        if self.frozen_layers < 0 or self.max_tokens < 1:
            given = f"frozen_layers={self.frozen_layers}, max_tokens={self.max_tokens} of '{self.name}'"
            raise ValueError(f"{given}: give 0 or more layers, and 1 or more tokens")
        object.__setattr__(self, "correlated_stages", tuple(self.correlated_stages))
        if self.correlated_stages and self.pooling != "all_stages":
            raise ValueError(
                f"correlated_stages of '{self.name}' are of `pooling: all_stages`: set that, or leave them out"
            )

    def parts(self) -> list[TowerConfig]:
        """The towers side by side in one of the library ``concat``; of any other the tower itself.

        Raises:
            ValueError: if ``options.towers`` lists none.
        """
        if self.library != "concat":
            return [self]
        towers = [
            build(TowerConfig, part, f"options.towers[{number}] of '{self.name}'")
            for number, part in enumerate(self.options.get("towers", ()))
        ]
        if not towers:
            raise ValueError("a tower of the library 'concat' needs options.towers: a list of towers")
        return towers


@dataclass(frozen=True)
class EncoderConfig:
    """A dual encoder: two towers into one space, the image's optionally supplemented by FGIS. Defaults are the paper's.

    Attributes:
        image: the image tower.
        text: the text tower.
        convolutional_branch: the convolutional network whose early map and global vector FGIS takes (a timm model);
            null for a dual encoder without FGIS.
        preprocessing: size and normalisation of the images; the command line takes the size from the data.
        embed_dim: width of the common space (of each head, where they are split); null for the paper's 512, or the own
            width of a pre-trained pair.
        projection: above each tower. ``linear`` starts at random; ``none`` and ``identity`` keep a pre-trained pair
            aligned, and the latter trains. Null for ``none`` where both towers are one pair and no width is given, else
            ``linear``.
        texts: ``cleaned`` to lower case without punctuation, as the paper does, or ``as_written``. Null for the latter
            where a pair stays aligned.
        prompts: templates of every text, such as ``a satellite image of {}``; several are averaged.
        adapter: small residual networks above the towers, for frozen ones; null for none.
        dropout: probability, on the projections of the convolutional and of the fused features, and inside SFGS.
        graph_steps: steps of FGIS's graph reasoning.
        freeze_sfgs: never train FGIS's scene fine-grained sensing, as happens in the authors' release.
        stabilised_fgis: layer-normalise FGIS's nodes, scale their products, and start from a head of zeros
            (:class:`rsretrieval.models.FGIS`).
        eval_views: images of which an embedding in evaluation is the mean: 1, 2 (and mirrored), 4 (both ways) or 8 (and
            turned by 90 degrees): seen from above there is no up.
        cache_features: keep on disk what each wholly frozen side (image tower and branch; text tower) gives, so that
            what is above it trains in seconds. Its inputs must have few variants: of images an augmentation like
            ``flips`` or ``none``, of texts ``data.word_deletion: 0``.
        split_heads: each text tower of ``concat`` gets a projection of its own, the image one for each, and each has
            its losses. An embedding is these heads end to end, each normalised: a cosine is the mean of theirs.
        head_weights: of each split head in that mean, in the order of the text towers; none for equal ones.
        chunk_size: encode a training batch in chunks of so many images or texts, and each again in the backward pass:
            activations take the memory of one chunk, while losses and gradients are those of the whole batch (gradient
            cache, Gao et al., 2021). Batch norms that train see chunks, twice. Null for the whole batch at once.
        gradient_checkpointing: of towers that train keep the inputs of blocks alone, and run each block again in the
            backward pass: less memory, a third more time, equal gradients. Batch norms that train see a batch twice.
        query_bank: keep so many embeddings of training images and of captions with the model, for hubness correction
            (:class:`rsretrieval.models.query_bank.QueryBank`); 0 for none.
        refinement: in evaluation refine embeddings by that bank; null for not. They are then 4 wider, for hub biases.
    """

    image: TowerConfig = TowerConfig("timm", "swin_tiny_patch4_window7_224.ms_in22k", PRETRAINED)
    text: TowerConfig = TowerConfig("transformers", "bert-base-uncased", PRETRAINED)
    convolutional_branch: TowerConfig | None = TowerConfig("timm", "resnet50.a1_in1k", PRETRAINED, frozen=True)
    preprocessing: Preprocessing = Preprocessing()  # noqa: RUF009 - frozen
    embed_dim: int | None = None
    projection: Literal["linear", "identity", "none"] | None = None
    texts: Literal["cleaned", "as_written"] | None = None
    prompts: tuple[str, ...] = ()
    adapter: AdapterConfig | None = None
    dropout: float = 0.2
    graph_steps: int = 2
    freeze_sfgs: bool = False
    stabilised_fgis: bool = False
    eval_views: int = 1
    cache_features: bool = False
    split_heads: bool = False
    head_weights: tuple[float, ...] = ()
    chunk_size: int | None = None
    gradient_checkpointing: bool = False
    query_bank: int = 0
    refinement: RefinementConfig | None = None

    @property
    def heads(self) -> tuple[float, ...]:
        """The share of each head in a cosine; together 1."""
        weights = self.head_weights or (1.0,) * (len(self.text.parts()) if self.split_heads else 1)
        return tuple(weight / sum(weights) for weight in weights)

    @property
    def embedding_heads(self) -> tuple[float, ...]:
        """The same of embeddings in evaluation: one, where they are refined as a whole."""
        return (1.0,) if self.refinement else self.heads

    @property
    def is_pair(self) -> bool:
        """Whether both towers are the sides of one image-text model."""
        image, text = ((tower.library, tower.name, tower.weights) for tower in (self.image, self.text))
        return self.image.library in PAIR_LIBRARIES and image == text

    @property
    def keeps_alignment(self) -> bool:
        """Whether a pre-trained pair's own space is the model's."""
        return (self.projection or ("none" if self.is_pair and self.embed_dim is None else "linear")) != "linear"

    @property
    def cleans_texts(self) -> bool:
        """Whether texts lose case and punctuation."""
        return (self.texts or ("as_written" if self.is_pair and self.keeps_alignment else "cleaned")) == "cleaned"

    def __post_init__(self) -> None:
        for name in ("prompts", "head_weights"):  # settings files know lists alone
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for prompt in self.prompts:
            check_prompt(prompt)
        for name, least in (("embed_dim", 1), ("graph_steps", 0), ("query_bank", 0), ("chunk_size", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name}={value}: give {least} or more")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout={self.dropout}: give a probability from 0 to below 1")
        if self.eval_views not in (1, 2, 4, 8):
            raise ValueError(f"eval_views={self.eval_views} is unknown; possible are 1, 2, 4 and 8")
        if self.refinement is not None and not self.query_bank:
            raise ValueError("refinement needs a bank to refine by: set query_bank, or leave refinement null")
        self._check_towers()

    def _check_towers(self) -> None:
        from rsretrieval.models.towers.registry import IMAGE_TOWERS, TEXT_TOWERS

        for registry, tower in ((IMAGE_TOWERS, self.image), (TEXT_TOWERS, self.text)):
            for part in {tower.library, *(part.library for part in tower.parts())}:
                registry[part]  # refuses an unknown library
        branch = self.convolutional_branch
        if branch is not None and branch.library != "timm":
            raise ValueError(f"convolutional_branch.library='{branch.library}' is unknown; possible is 'timm'")
        if branch is not None and branch.pooling is not None:
            raise ValueError(f"convolutional_branch.pooling='{branch.pooling}' has no effect: leave it null")
        if branch is not None and self.embed_dim is not None and self.embed_dim % FGIS_HEADS:
            given = f"embed_dim={self.embed_dim}: with FGIS give a multiple of {FGIS_HEADS}"
            raise ValueError(f"{given}, its heads of attention")
        if self.projection in ("identity", "none") and self.split_heads:
            raise ValueError(f"projection={self.projection!r} has no split heads: set split_heads: false")
        if self.split_heads and (branch is not None or self.text.library != "concat"):
            needs = "a text tower of the library 'concat', and `convolutional_branch: null`"
            raise ValueError(f"split_heads needs {needs}: set these, or do without")
        towers = len(self.text.parts()) if self.split_heads else 0
        if self.head_weights and (len(self.head_weights) != towers or min(self.head_weights) <= 0):
            raise ValueError(
                f"head_weights={list(self.head_weights)}: give a number above 0 for each of the {towers} split heads "
                "(see split_heads), or none"
            )


def check_prompt(prompt: str) -> None:
    """Refuse a template without exactly one place for the text.

    Raises:
        ValueError: saying what it needs.
    """
    if prompt.count("{}") != 1:
        raise ValueError(f"the prompt {prompt!r} needs one '{{}}', the place of the text: 'a satellite image of {{}}'")


def is_pretrained(weights: str | None) -> bool:
    """Whether the library is to fetch its own weights."""
    return weights is not None and weights.partition(":")[0] == PRETRAINED
