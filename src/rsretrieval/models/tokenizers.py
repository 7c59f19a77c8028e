"""The tokeniser of a text tower that is not built."""

from __future__ import annotations

from rsretrieval.models.config import TowerConfig
from rsretrieval.types import Tokenizer


def tokenizer_of(config: TowerConfig) -> Tokenizer:
    """What makes tokens of the texts of a tower, from its name alone.

    Args:
        config: of a text tower.

    Raises:
        ValueError: for a library whose tokenisers have no files that are known here.
        WeightsError: if there is no tokeniser at that name.
    """
    if config.library == "concat":
        from rsretrieval.models.towers.concat import ConcatTokenizer

        return ConcatTokenizer([tokenizer_of(part) for part in config.parts()])
    if config.library == "ngrams":
        from rsretrieval.models.towers.ngrams import NGramTokenizer

        return NGramTokenizer.of(config)
    if config.library == "open_clip":
        from rsretrieval.models.towers.open_clip import OpenClipTokenizer

        return OpenClipTokenizer.of(config)
    if config.library == "transformers":
        from rsretrieval.models.towers.transformers import TransformersTokenizer
        from rsretrieval.models.towers.transformers_pair import TransformersPairTokenizer, is_pair

        return (TransformersPairTokenizer if is_pair(config) else TransformersTokenizer).of(config)
    raise ValueError(
        f"the tokeniser of '{config.name}', a text tower of the library '{config.library}', cannot be written: "
        "possible are those of open_clip, transformers, ngrams and concat"
    )
