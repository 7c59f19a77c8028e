"""Where rows come from: names to sources.

The contract of an entry: a class or a function that takes ``path`` (a string, of the source's files) and ``columns``
(a :class:`Columns`; names of a table's columns) and gives a :class:`Source`. It raises :class:`DataError` where it
cannot. One whose rows change under their name (as on the hub) also takes ``revision`` (a string, or None for the
newest), and its source says in the attribute ``revision`` which one it reads. Register it by :func:`register_dataset`;
then ``--data.source NAME --data.path PATH`` trains on it.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from rsretrieval.data.datasets.base import Columns, DataError, Source
from rsretrieval.data.datasets.catalogue import DATASETS
from rsretrieval.registry import Registry

Builder = Callable[..., Source]
B = TypeVar("B", bound=Builder)

SOURCES: Registry[Builder] = Registry("data source")
"""Every source: path and columns to a :class:`Source`."""


def register_dataset(name: str) -> Callable[[B], B]:
    """A decorator that makes a class or function a data source, to be used as ``--data.source NAME``.

    Args:
        name: new; neither a source's nor a data set's of the catalogue.

    Raises:
        ValueError: if the name is taken.

    Example:
        >>> @register_dataset("doctest-ponds")
        ... class Ponds(Source):
        ...     def __init__(self, path: str, columns: Columns) -> None:
        ...         self.folder = path
        ...
        ...     def records(self, split):
        ...         return []
        ...
        ...     def read(self, split, block):
        ...         return []
        >>> build_source("doctest-ponds", "ponds", Columns()).folder
        'ponds'
    """
    if name in DATASETS:
        raise ValueError(f"'{name}' is a data set of the catalogue already: register yours under another name")

    def add(builder: B) -> B:
        SOURCES.register(name)(builder)
        return builder

    return add


def build_source(name: str, path: str, columns: Columns, revision: str | None = None) -> Source:
    """The source of that name, or that of a data set of the catalogue: its folder at ``path``, or else its hub id.

    Args:
        name: of a source or data set.
        path: of the source's files.
        columns: names of a table's columns.
        revision: of a source that has several; None for the newest.

    Raises:
        DataError: naming the sources and data sets there are; or if the source has no revisions, or does not build.
    """
    if name in DATASETS:
        name, path = ("folder", path) if path else ("hub", DATASETS[name].hub_path())
    if name not in SOURCES:
        near = difflib.get_close_matches(name, [*SOURCES, *DATASETS], n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise DataError(
            f"there is no data source '{name}'{hint}; possible are {sorted(SOURCES)} and the data sets "
            f"{sorted(DATASETS)}: set --data.source"
        )
    options: dict[str, Any] = {}
    if revision is not None:
        if "revision" not in inspect.signature(SOURCES[name]).parameters:
            raise DataError(f"the data source '{name}' has no revisions: leave out --data.revision ('{revision}')")
        options["revision"] = revision
    return SOURCES[name](path, columns, **options)


@register_dataset("hub")
def _hub(path: str, columns: Columns, revision: str | None = None) -> Source:
    """``OWNER/NAME`` is streamed; ``OWNER/NAME/FILE.zip`` is fetched, unpacked and read as a folder."""
    from rsretrieval.data.datasets.hub import HubSource, fetch_archive

    if not path.endswith(".zip"):
        return HubSource(path, columns, revision)
    archive = fetch_archive(path, revision)
    source = _folder(str(archive.folder), columns)
    source.revision = archive.revision
    return source


@register_dataset("parquet")
def _parquet(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.parquet import ParquetSource

    return ParquetSource(path, columns)


@register_dataset("folder")
def _folder(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.folder import FolderSource

    return FolderSource(path, columns)


@register_dataset("synthetic")
def _synthetic(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.synthetic import SyntheticSource

    return SyntheticSource(path, columns)
