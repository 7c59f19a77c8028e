"""A text as a bag of its words and runs of words: nothing to load, nothing to train below the projection.

Captions of a data set are of a small language of their own, whose words and pairs of words ("green trees", "baseball
field") a linear layer learns from a few thousand of them. Each run has a place by its hash, so that no vocabulary is
kept (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from rsretrieval.models.config import TowerConfig
from rsretrieval.types import Tokens, TowerOutput

IDS = "ngram_ids"


@dataclass(frozen=True)
class NGramTokenizer:
    """Texts to the places of their runs of words.

    Attributes:
        longest: run, in words.
        buckets: places; runs that share one are the same to the tower.
    """

    longest: int = 2
    buckets: int = 8192

    def __post_init__(self) -> None:
        if self.longest < 1 or self.buckets < 1:
            raise ValueError(f"longest={self.longest}, buckets={self.buckets} of ngrams: give 1 or more of each")

    @classmethod
    def of(cls, config: TowerConfig) -> NGramTokenizer:
        """That of a tower, by its options.

        Raises:
            ValueError: for options that it does not have.
        """
        if unknown := sorted(config.options.keys() - {"longest", "buckets"}):
            raise ValueError(f"a tower of the library 'ngrams' has no options {unknown}; possible are buckets, longest")
        return cls(**config.options)

    def __call__(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """``M`` texts to ``ngram_ids`` ``(M, L)``: 1 and up, 0 where a row is filled up; case does not count."""
        rows = [self._places(text.lower().split()) for text in texts]
        return {IDS: pad_sequence([torch.tensor(row or [0]) for row in rows], batch_first=True)}

    def _places(self, words: list[str]) -> list[int]:
        runs = (
            " ".join(words[start : start + length])
            for length in range(1, self.longest + 1)
            for start in range(len(words) - length + 1)
        )
        return [crc32(run.encode()) % self.buckets + 1 for run in runs]


class NGramTextTower(nn.Module):
    """How often each run of words occurs, as a vector of length 1; a text without words is zeros."""

    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        if config.weights or config.pooling or config.lora:
            raise ValueError(
                f"'{config.name}' of the library 'ngrams' has nothing to load, pool or adapt: leave out weights, "
                "pooling and lora"
            )
        self.tokenizer = NGramTokenizer.of(config)
        self.pooled_width = self.token_width = self.tokenizer.buckets

    def forward(self, tokens: Tokens) -> TowerOutput:
        """``ngram_ids`` ``(M, L)`` to ``(M, buckets)``, which is the one token too."""
        ids = tokens[IDS]
        counts = torch.zeros(ids.shape[0], self.pooled_width + 1, device=ids.device)
        counts = counts.scatter_add(1, ids, torch.ones_like(ids, dtype=counts.dtype))
        pooled = F.normalize(counts[:, 1:], dim=1)
        return TowerOutput(pooled, pooled[:, None])
