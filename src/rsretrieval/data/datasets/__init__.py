"""Data sets: the contract of a source of rows, the registry, and the catalogue of the field's data sets.

The built-in sources are modules of this package that are imported where one is built.
"""

from rsretrieval.data.datasets.base import (
    SPLITS,
    BrokenRowError,
    Columns,
    DataError,
    MissingSplitError,
    Record,
    Source,
)
from rsretrieval.data.datasets.catalogue import DATASETS, describe_datasets
from rsretrieval.data.datasets.registry import SOURCES, build_source, register_dataset

__all__ = [
    "DATASETS",
    "SOURCES",
    "SPLITS",
    "BrokenRowError",
    "Columns",
    "DataError",
    "MissingSplitError",
    "Record",
    "Source",
    "build_source",
    "describe_datasets",
    "register_dataset",
]
