"""Templates of texts (Radford et al., ICML 2021): one text as several, whose embeddings are averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rsretrieval.models.config import check_prompt
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


def prompted(tokenizer: Tokenizer, prompts: Sequence[str]) -> Tokenizer:
    """A tokeniser of texts in templates; without any, as it is.

    Raises:
        ValueError: for a template without one place for the text.
    """
    for prompt in prompts:
        check_prompt(prompt)
    return PromptedTokenizer(tokenizer, tuple(prompts)) if prompts else tokenizer
