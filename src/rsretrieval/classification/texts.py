"""Classes as texts: their names in words, and templates around them."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from rsretrieval.data.captions import clean
from rsretrieval.data.datasets.base import DataError

log = logging.getLogger(__name__)

TEMPLATES = tuple(
    f"{kind} of {article}{{}}."
    for article in ("", "a ", "the ")
    for kind in (
        "satellite imagery",
        "aerial imagery",
        "satellite photo",
        "aerial photo",
        "satellite view",
        "aerial view",
    )
)
"""After those that CLIP's authors took for RESISC45 (Radford et al., ICML 2021)."""
_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def in_words(label: str) -> str:
    """A class's name as words.

    Example:
        >>> in_words("baseball_diamond"), in_words("DenseResidential")
        ('baseball diamond', 'dense residential')
    """
    return " ".join(_CAPITAL.sub(" ", label).replace("_", " ").split()).lower()


def class_texts(labels: Sequence[str], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """Class to text, for every class of the labels, and those of ``names`` beside them, in alphabetical order.

    Args:
        labels: of images.
        names: class to text, for those whose name says too little; for others :func:`in_words`.

    Raises:
        DataError: if two classes have one text, or a class none.
    """
    names = names or {}
    classes = sorted({*labels, *names})
    if without := sorted(set(names) - set(labels)):
        log.info("of --names these have no image, and may be predicted all the same: %s", without)
    texts = {label: names.get(label, in_words(label)) for label in classes}
    empty = [label for label, text in texts.items() if not clean(text)]
    if empty:
        raise DataError(f"the classes {empty[:5]} have no word in their names: give texts for them by --names")
    same: dict[str, list[str]] = {}
    for label, text in texts.items():
        same.setdefault(clean(text), []).append(label)
    if twice := [labels for labels in same.values() if len(labels) > 1]:
        raise DataError(
            f"the classes {twice[0]} have the same text '{texts[twice[0][0]]}', so that no model tells them apart: "
            "give them different ones by --names"
        )
    return texts


def read_names(file: str) -> dict[str, str]:
    """Class to text, from a JSON.

    Raises:
        DataError: naming the file, if it is not there or is no such JSON.
    """
    try:
        names = json.loads(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"--names: '{file}' cannot be read ({error}): give a JSON of classes to texts") from error
    if not isinstance(names, dict) or not all(isinstance(text, str) for text in names.values()):
        raise DataError(f"--names: '{file}' is no JSON object of classes to texts: give such a file")
    return names


def read_templates(templates: Sequence[str] | str | None) -> list[str]:
    """Templates from a list, one template, or a text file with one a line; :data:`TEMPLATES` for None.

    Raises:
        DataError: for a file that is not there or holds none.
        ValueError: for a template without one place for the text.
    """
    from rsretrieval.models.config import check_prompt

    if templates is None:
        return list(TEMPLATES)
    if isinstance(templates, str) and "{}" not in templates:
        try:
            lines = Path(templates).expanduser().read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise DataError(
                f"--templates: '{templates}' is neither a template with '{{}}' nor a file that can be read ({error})"
            ) from error
        templates = [line.strip() for line in lines if line.strip()]
        if not templates:
            raise DataError("--templates: the file holds no template: give one a line, or leave out --templates")
    chosen = [templates] if isinstance(templates, str) else list(templates)
    for template in chosen:
        check_prompt(template)
    return chosen
