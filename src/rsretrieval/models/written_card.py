"""A model's card that was written from a run: told from one that a person edited, and brought up to date."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rsretrieval.models.pretrained import ModelSource

MARK = "<!-- written by rsretrieval, which leaves an edited card as it is:"
"""Begins the last line of a card, before the checksum of all others."""


def is_own(card: Path) -> bool:
    """Whether a card is as it was written, not written or edited by a person."""
    text, mark, rest = card.read_text(encoding="utf-8").rpartition(MARK)
    return bool(mark) and rest.split()[:1] == [_checksum(text)]


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def signed(text: str) -> str:
    """A card with the line by which an edited one is told."""
    return f"{text}{MARK} {_checksum(text)} -->\n"


def again(text: str, source: ModelSource, name: str, licence: str | None) -> str:
    """A card that was written, for the same model by another name, with another size or licence.

    Args:
        text: of the card, without its last line.
        source: the model, as it is used now.
        name: what it is called now.
        licence: None for what it was.
    """
    import yaml

    head, _, rest = text.removeprefix("---\n").partition("---\n")
    entries = yaml.safe_load(head)
    for index in entries.get("model-index", []):
        index["name"] = name.rpartition("/")[2]
    if licence is not None:
        entries = {"library_name": entries.pop("library_name"), **entries, "license": licence}
    called = name if "/" in name else f"./{name}"
    changed = (
        (r"^# .*$", f"# {name}"),
        (r'from_pretrained\(".*"\)', f'from_pretrained("{called}")'),
        (r"brought to \d+ by \d+ pixels", f"brought to {source.image_size} by {source.image_size} pixels"),
        (r"beyond \d+ words", f"beyond {source.max_words} words"),
        *([(r"^- (Licence: .*|No licence was stated.*)$", f"- Licence: {licence}.")] if licence is not None else []),
    )
    seen = re.search(r"brought to (\d+) by", rest)
    if seen and int(seen[1]) != source.image_size and "## Figures" in rest:
        rest += f"- The figures were measured with pictures of {seen[1]} by {seen[1]} pixels.\n"
    for pattern, new in changed:
        rest = re.sub(pattern, new.replace("\\", r"\\"), rest, count=1, flags=re.MULTILINE)
    return f"---\n{yaml.safe_dump(entries, sort_keys=False)}---\n{rest}"
