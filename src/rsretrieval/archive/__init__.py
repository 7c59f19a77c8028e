"""From a model to a searchable archive: images embedded, indexed, and searched by sentences and pictures."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.archive.embedding import embed
    from rsretrieval.archive.index import build_index
    from rsretrieval.archive.options import Options
    from rsretrieval.archive.search.archive import Archive
    from rsretrieval.archive.search.results import Results
    from rsretrieval.embeddings import ArchiveError

__all__ = ["Archive", "ArchiveError", "Options", "Results", "build_index", "embed"]

__getattr__ = lazy(
    __name__,
    {
        "Archive": "rsretrieval.archive.search.archive",
        "ArchiveError": "rsretrieval.embeddings",
        "Options": "rsretrieval.archive.options",
        "Results": "rsretrieval.archive.search.results",
        "build_index": "rsretrieval.archive.index",
        "embed": "rsretrieval.archive.embedding",
    },
)
