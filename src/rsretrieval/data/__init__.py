"""Data: sources of rows, their splits as tables, and batches.

Names are imported where they are first asked for, so that the package itself is light.
"""

from typing import TYPE_CHECKING

from rsretrieval.lazy import lazy

if TYPE_CHECKING:
    from rsretrieval.data.datamodule import RetrievalDataModule
    from rsretrieval.data.datasets.base import (
        BrokenRowError,
        Columns,
        DataError,
        MissingSplitError,
        Record,
        Source,
    )
    from rsretrieval.data.datasets.catalogue import DATASETS
    from rsretrieval.data.datasets.registry import SOURCES, build_source, register_dataset
    from rsretrieval.data.stream import RetrievalStream
    from rsretrieval.data.table import Table

__all__ = [
    "DATASETS",
    "SOURCES",
    "BrokenRowError",
    "Columns",
    "DataError",
    "MissingSplitError",
    "Record",
    "RetrievalDataModule",
    "RetrievalStream",
    "Source",
    "Table",
    "build_source",
    "register_dataset",
]

__getattr__ = lazy(
    __name__,
    {
        "DATASETS": "rsretrieval.data.datasets.catalogue",
        "SOURCES": "rsretrieval.data.datasets.registry",
        "BrokenRowError": "rsretrieval.data.datasets.base",
        "Columns": "rsretrieval.data.datasets.base",
        "DataError": "rsretrieval.data.datasets.base",
        "MissingSplitError": "rsretrieval.data.datasets.base",
        "Record": "rsretrieval.data.datasets.base",
        "RetrievalDataModule": "rsretrieval.data.datamodule",
        "RetrievalStream": "rsretrieval.data.stream",
        "Source": "rsretrieval.data.datasets.base",
        "Table": "rsretrieval.data.table",
        "build_source": "rsretrieval.data.datasets.registry",
        "register_dataset": "rsretrieval.data.datasets.registry",
    },
)
