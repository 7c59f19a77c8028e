"""Secrets kept out of what is written: logs, configurations, loggers."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SHORTEST = 8
"""Characters that a variable's value has at least to be taken for a secret; a shorter one may be a word of the text."""

_VARIABLE = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY)$", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s'\"]+(?=@)")
_PARAMETER = re.compile(
    r"(?<=[?&])([\w.-]*(?:token|secret|password|signature|credential|key)|sig)=[^&#\s'\"]+", re.IGNORECASE
)


def redacted(text: str) -> str:
    """A text with :data:`HIDDEN` in the place of secrets.

    Secrets are the values of environment variables whose names end as those of secrets do (``HF_TOKEN``,
    ``AWS_SECRET_ACCESS_KEY``), who asks in a URL (``https://USER:PASSWORD@…``), and parameters of a URL by such names.

    Example:
        >>> redacted("read from https://me:0123@example.org/a?X-Amz-Signature=89ab&part=2")
        'read from https://***@example.org/a?X-Amz-Signature=***&part=2'
    """
    values = {value for name, value in os.environ.items() if _VARIABLE.search(name) and len(value) >= SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return _PARAMETER.sub(rf"\1={HIDDEN}", _USER.sub(HIDDEN, text))


def error_line(error: BaseException) -> str:
    """An error as the command line says it, without secrets."""
    return redacted(f"rsretrieval: {type(error).__name__}: {error}")


def redacted_values(values: Any) -> Any:  # noqa: ANN401 - plain values of any shape
    """Plain values, each text in them by :func:`redacted`.

    Example:
        >>> redacted_values({"paths": ["s3://key:secret@bucket"], "size": 4})
        {'paths': ['s3://***@bucket'], 'size': 4}
    """
    if isinstance(values, str):
        return redacted(values)
    if isinstance(values, Mapping):
        return {name: redacted_values(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [redacted_values(value) for value in values]
    return values
