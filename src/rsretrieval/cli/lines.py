"""Text files that an option names, one sentence a line."""

from __future__ import annotations

import logging
from pathlib import Path

log = logging.getLogger(__name__)


def lines_with_words(file: Path, option: str, what: str, refusal: type[ValueError]) -> list[str]:
    """The lines that have a word; how many have none is said.

    Args:
        file: in UTF-8.
        option: that names it, for messages.
        what: a line is.
        refusal: the error to raise.

    Raises:
        ValueError: of that kind, naming the file, if it cannot be read or has no such line.
    """
    from rsretrieval.data.captions import clean

    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, ValueError) as error:
        raise refusal(f"{option}: '{file}' cannot be read ({error}): give a text file, one {what} a line") from error
    worded = [line for line in lines if clean(line)]
    if not worded:
        raise refusal(f"{option}: '{file}' holds no {what} with a word in it: give one a line")
    if wordless := len([line for line in lines if line]) - len(worded):
        log.warning("%s: lines of '%s' without a word are left out: %d", option, file, wordless)
    return worded
