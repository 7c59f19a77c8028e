"""Tables of embeddings on disk: rows as they come, one sorted file at the end, and how it is read."""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.embeddings.errors import ArchiveError
    from rsretrieval.embeddings.file import EmbeddingsFile
    from rsretrieval.embeddings.geoparquet import write_sorted
    from rsretrieval.embeddings.rows import Row, table
    from rsretrieval.embeddings.shards import ShardWriter, read_shard, shard_files

__all__ = ["ArchiveError", "EmbeddingsFile", "Row", "ShardWriter", "read_shard", "shard_files", "table", "write_sorted"]

__getattr__ = lazy(
    __name__,
    {
        "ArchiveError": "rsretrieval.embeddings.errors",
        "EmbeddingsFile": "rsretrieval.embeddings.file",
        "Row": "rsretrieval.embeddings.rows",
        "ShardWriter": "rsretrieval.embeddings.shards",
        "read_shard": "rsretrieval.embeddings.shards",
        "shard_files": "rsretrieval.embeddings.shards",
        "table": "rsretrieval.embeddings.rows",
        "write_sorted": "rsretrieval.embeddings.geoparquet",
    },
)
