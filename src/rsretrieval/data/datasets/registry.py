"""Where rows come from: names to sources.

The contract of an entry: a class or a function that takes ``path`` (a string, of the source's files) and ``columns``
(a :class:`Columns`; names of a table's columns) and gives a :class:`Source`. It raises :class:`DataError` where it
cannot. One whose rows change under their name (as on the hub) also takes ``revision`` (a string, or None for the
newest), and its source says in the attribute ``revision`` which one it reads; one with several configurations, as data
sets of the hub have, takes ``configuration``. Register it by :func:`register_dataset`; then
``--data.source NAME --data.path PATH`` trains on it.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
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


def build_source(
    name: str, path: str, columns: Columns, revision: str | None = None, configuration: str | None = None
) -> Source:
    """The source of that name, or that of a data set of the catalogue: its folder at ``path``, or else its hub id.

    Args:
        name: of a source or data set.
        path: of the source's files.
        columns: names of a table's columns.
        revision: of a source that has several; None for the newest.
        configuration: of a source that has several; None for its only one.

    Raises:
        DataError: naming the sources and data sets there are; or if the source has no revisions or configurations, or
            does not build.
    """
    dataset = DATASETS.get(name)
    if dataset is not None:
        name, path = ("folder", path) if path else ("hub", dataset.hub_path())
    if name not in SOURCES:
        near = difflib.get_close_matches(name, [*SOURCES, *DATASETS], n=3, cutoff=0.6)
        hint = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
        raise DataError(
            f"there is no data source '{name}'{hint}; possible are {sorted(SOURCES)} and the data sets "
            f"{sorted(DATASETS)}: set --data.source{_path_advice(name)}"
        )
    builder = SOURCES[name]
    if dataset is not None and dataset.sets:
        builder = _ret3_on_hub(dataset.sets) if name == "hub" else _ret3_in_folder(dataset.sets)
    options: dict[str, Any] = {}
    for option, value in (("revision", revision), ("configuration", configuration)):
        if value is not None:
            if option not in inspect.signature(builder).parameters:
                raise DataError(f"the data source '{name}' has no {option}s: leave out --data.{option} ('{value}')")
            options[option] = value
    return builder(path, columns, **options)


def source_and_path(name: str) -> tuple[str, str]:
    """The source and the path in one name: ``SOURCE:PATH``, a name alone, or a hub id, which is of the source ``hub``.

    Example:
        >>> source_and_path("folder:ucm"), source_and_path("arampacha/rsicd"), source_and_path("rsicd")
        (('folder', 'ucm'), ('hub', 'arampacha/rsicd'), ('rsicd', ''))
    """
    source, colon, path = name.partition(":")
    if colon:
        return source, path
    return ("hub", name) if "/" in name and not name.startswith((".", "/", "~")) else (name, "")


def _path_advice(name: str) -> str:
    """What to write instead of a path as a name."""
    if not (name.startswith((".", "/", "~")) or os.path.exists(name)):
        return ""
    return f". '{name}' is a path: name the source of its files, as in --data.source folder --data.path {name}"


@register_dataset("hub")
def _hub(path: str, columns: Columns, revision: str | None = None, configuration: str | None = None) -> Source:
    """``OWNER/NAME`` is streamed; ``OWNER/NAME/FILE.zip`` is fetched, unpacked and read as a folder."""
    from rsretrieval.data.datasets.hub import HubSource, fetch_archive

    if not path.endswith(".zip"):
        return HubSource(path, columns, revision, configuration)
    if configuration is not None:
        raise DataError(f"the archive '{path}' has no configurations: leave out --data.configuration")
    archive = fetch_archive(path, revision)
    source = _folder(str(archive.folder), columns)
    source.revision = archive.revision
    return source


def _ret3_on_hub(sets: Sequence[str]) -> Builder:
    """Some sets of RET-3, fetched from the hub as far as they are read."""

    def build(path: str, columns: Columns, revision: str | None = None) -> Source:
        from rsretrieval.data.datasets.ret3 import Ret3Source
        from rsretrieval.data.datasets.ret3_files import TESTS, OnHub

        return Ret3Source(OnHub(path, TESTS[sets[0]], revision), sets, columns)

    return build


def _ret3_in_folder(sets: Sequence[str]) -> Builder:
    """Some sets of RET-3 in a folder, or a set's own files as its authors give them."""

    def build(path: str, columns: Columns) -> Source:
        from rsretrieval.data.datasets.ret3 import Ret3Source
        from rsretrieval.data.datasets.ret3_files import ARCHIVES, TRAIN, InFolder

        folder = Path(path).expanduser()
        if folder.is_dir() and (files := InFolder(folder)).is_layout():
            return Ret3Source(files, sets, columns)
        if len(sets) > 1:
            raise DataError(
                f"'{path}' holds no RET-3: give a folder with '{TRAIN}' or '{ARCHIVES['test']}', as on the hub"
            )
        return _folder(path, columns)

    return build


@register_dataset("classes")
def _classes(path: str, columns: Columns) -> Source:
    """Images below folders of their classes, without captions: to classify, not to train on."""
    from rsretrieval.data.datasets.classes import ClassFolderSource

    return ClassFolderSource(path, columns)


@register_dataset("parquet")
def _parquet(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.parquet import ParquetSource

    return ParquetSource(path, columns)


@register_dataset("webdataset")
def _webdataset(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.parquet import ParquetSource

    return ParquetSource(path, columns, "webdataset")


@register_dataset("folder")
def _folder(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.folder import FolderSource

    return FolderSource(path, columns)


@register_dataset("imagefolder")
def _imagefolder(path: str, columns: Columns) -> Source:
    """A folder too: ``metadata.csv`` or ``metadata.jsonl`` with ``file_name``, beside the images."""
    return _folder(path, columns)


@register_dataset("synthetic")
def _synthetic(path: str, columns: Columns) -> Source:
    from rsretrieval.data.datasets.synthetic import SyntheticSource

    return SyntheticSource(path, columns)
