"""Templates of texts (Radford et al., ICML 2021): one text as several, whose embeddings are averaged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from rsretrieval.models.config import check_prompt
from rsretrieval.models.projections import unit_heads
from rsretrieval.types import Tokenizer, Tokens


@dataclass(frozen=True)
class PromptedTokenizer:
    """A tokeniser of texts in templates.

    Attributes:
        tokenizer: of plain texts.
        prompts: templates with one ``{}`` each; at least one.
    """

    tokenizer: Tokenizer
    prompts: tuple[str, ...]

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """``M`` texts to tensors ``(M, P, L)``, one row a template."""
        tokens = self.tokenizer([prompt.replace("{}", text) for text in texts for prompt in self.prompts])
        return {name: values.reshape(len(texts), len(self.prompts), -1) for name, values in tokens.items()}


def over_prompts(tokens: Tokens, encode: Callable[[Tokens], Tensor], heads: Sequence[float]) -> Tensor:
    """Tokenised texts to their embeddings ``(M, d)``; of texts in several templates the normalised mean.

    Args:
        tokens: each ``(M, L)``, or ``(M, P, L)`` of texts in ``P`` templates.
        encode: tokens ``(N, L)`` to embeddings ``(N, d)``.
        heads: see :func:`rsretrieval.models.projections.unit_heads`.
    """
    shape = next(iter(tokens.values())).shape
    if len(shape) == 2:
        return encode(tokens)
    each = encode({key: value.flatten(0, 1) for key, value in tokens.items()})
    return unit_heads(each.reshape(*shape[:2], -1).mean(1), heads)


def prompted(tokenizer: Tokenizer, prompts: Sequence[str]) -> Tokenizer:
    """A tokeniser of texts in templates; without any, as it is.

    Raises:
        ValueError: for a template without one place for the text.
    """
    for prompt in prompts:
        check_prompt(prompt)
    return PromptedTokenizer(tokenizer, tuple(prompts)) if prompts else tokenizer
