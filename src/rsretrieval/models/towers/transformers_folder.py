"""What transformers reads from a folder or the hub, refused in words where it cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from rsretrieval.models.config import TowerConfig, is_pretrained
from rsretrieval.models.loading import check_finite
from rsretrieval.models.weights import FORMS, WeightsError, locate, weights_to_load


@contextmanager
def reading(what: str, source: str) -> Iterator[None]:
    """Whatever transformers raises within, and there it is much, as an error that names the folder.

    Raises:
        WeightsError: with the reason.
    """
    try:
        yield
    except WeightsError:
        raise
    except OSError as error:
        raise WeightsError(f"transformers finds no {what} at '{source}' ({error}); weights may be {FORMS}") from error
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
        raise WeightsError(
            f"transformers cannot read the {what} at '{source}' ({reason}): fetch the folder anew, and whole"
        ) from error


def source_of(config: TowerConfig) -> str:
    """The folder or hub id that a model and its tokeniser come from."""
    return str(locate(config.weights)) if config.weights and not is_pretrained(config.weights) else config.name


def transformers_config(config: TowerConfig) -> Any:  # noqa: ANN401 - a class of each model's own
    """The library's configuration of a tower's model.

    Raises:
        WeightsError: if there is no model, or its configuration cannot be read.
    """
    source = source_of(config)
    with reading("model", source):
        return AutoConfig.from_pretrained(source, **config.options)


def build_transformers(config: TowerConfig) -> tuple[Any, str]:
    """The model, and the folder or hub id that it and its tokeniser came from.

    Raises:
        WeightsError: if there is no model, or its weights lack what its configuration asks for, or are not finite.
    """
    source = source_of(config)
    if not weights_to_load(config.weights):
        settings = transformers_config(config)
        with reading("model", source):
            return AutoModel.from_config(settings, dtype=torch.float32), source  # type: ignore[no-untyped-call]
    with reading("model", source):
        try:
            model, found = AutoModel.from_pretrained(
                source, dtype=torch.float32, output_loading_info=True, **config.options
            )
        except RuntimeError as error:
            raise WeightsError(f"the weights at '{source}' do not fit its config.json: {error}") from error
    missing = sorted(name for name in found["missing_keys"] if not name.startswith("pooler."))  # which is not used
    if missing:
        raise WeightsError(
            f"the weights at '{source}' lack {len(missing)} entries of its {type(model).__name__} ({missing[:3]}): "
            "fetch the folder anew, or give one whose config.json is of these weights"
        )
    check_finite(dict(model.named_parameters()), source)
    return model, source


def read_tokenizer(config: TowerConfig, **options: Any) -> Any:  # noqa: ANN401 - a class of each model's own
    """The tokeniser of a text tower.

    Args:
        config: of the tower, which need not be built.
        options: of the library's tokeniser.

    Raises:
        WeightsError: if there is none, or its words are more than the model's.
    """
    source = source_of(config)
    with reading("tokeniser", source):
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
        words = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens)
    if not words:  # transformers then makes one that takes every text for the same
        raise WeightsError(
            f"'{source}': the folder has no tokenizer files, and without them every text would get the same vector: "
            "fetch it anew, and whole"
        )
    embedded = getattr(transformers_config(config).get_text_config(), "vocab_size", None)
    if embedded is not None and tokenizer.vocab_size > embedded:
        raise WeightsError(
            f"'{source}': its tokeniser has {tokenizer.vocab_size} words, and config.json a vocab_size of {embedded}: "
            "give the tokenizer files of this model"
        )
    return tokenizer
