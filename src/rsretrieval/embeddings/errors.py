"""What can be wrong with an archive."""

from __future__ import annotations


class ArchiveError(ValueError):
    """An archive, an index or a query that cannot be used; the message says why and what to do."""
