"""Files of tables by split: parquet, arrow, folders of ``save_to_disk``, tars of webdataset."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rsretrieval.data.datasets.base import SPLITS, Columns, DataError, MissingSplitError
from rsretrieval.data.datasets.lookup import IMAGES, walk
from rsretrieval.data.datasets.splits import SplitFile, one_data_set, refuse_several

ENDINGS = {"parquet": (".parquet", ".arrow"), "webdataset": (".tar",)}
"""Source to the endings of its files."""
FIRST = re.compile(rf"({'|'.join(name for names in SPLITS.values() for name in names)})\b", re.IGNORECASE)


class TableFiles(NamedTuple):
    """The tables of a data set.

    Attributes:
        folder: where they are.
        splits: split to its files, in order; None to those whose names say no split.
        others: names of files that are left out, as their names say no split and others' do.
    """

    folder: Path
    splits: dict[str | None, list[Path]]
    others: list[str]


def find_tables(path: str, source: str) -> TableFiles:
    """The tables at a path: a folder, or one file, which stands for those of its other splits too.

    Args:
        path: of the folder or file.
        source: a key of ``ENDINGS``.

    Raises:
        DataError: if there is no such path or no table there, if there are several data sets, or files are missing.
    """
    place, endings = Path(path).expanduser(), ENDINGS[source]
    if not path or not place.exists():
        raise DataError(f"there is no folder '{path}': give the folder of the {source} files as --data.path")
    folder = place if place.is_dir() else place.parent
    files = _files(folder, endings, source)
    chosen = None if place.is_dir() else place
    if chosen and chosen not in files:
        raise DataError(f"'{path}' is no {source} file: give one that ends in {' or '.join(endings)}, or a folder")
    if not files:
        listed = sorted(file.name for file in folder.iterdir())[:8]
        raise DataError(
            f"'{path}' holds no files {' or '.join(f'*{e}' for e in endings)}, but {listed}: see docs/data.md"
        )
    tables = one_data_set([SplitFile.of(file, folder) for file in files], chosen)
    splits: dict[str | None, list[Path]] = {}
    for table in tables:
        splits.setdefault(table.split, []).append(table.file)
    for split in splits:
        of_split = {table.family: table.file for table in tables if table.split == split}
        if split and len(of_split) > 1:
            raise refuse_several(path, of_split.values(), split)
        _check_whole(folder, splits[split], split)
    others = [file.name for file in splits.pop(None, [])] if len(splits) > 1 else []
    return TableFiles(folder, splits, others)


def _files(folder: Path, endings: Sequence[str], source: str) -> list[Path]:
    """Those whose names begin with a split, as ``prepare`` writes them; else those beside them, else all below."""
    if source == "parquet" and _is_saved(folder):
        return [folder]
    beside = sorted(file for file in folder.iterdir() if file.suffix.lower() in endings and file.is_file())
    first = [file for file in beside if FIRST.match(file.name)]
    if first or beside:
        return first or beside
    files = [file for file in walk(folder) if file.suffix.lower() in endings]
    saved = {file.parent for file in files if _is_saved(file.parent)} if source == "parquet" else set()
    return sorted({*saved, *(file for file in files if file.parent not in saved)})


def _is_saved(folder: Path) -> bool:
    """Whether ``Dataset.save_to_disk`` wrote the folder."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def _check_whole(folder: Path, files: Sequence[Path], split: str | None) -> None:
    total = {int(match[1]) for file in files if (match := re.search(r"-of-(\d+)\.\w+$", file.name))}
    if total and total != {len(files)} and not _is_saved(files[0]):
        raise DataError(
            f"'{folder}' holds {len(files)} files of split '{split or 'train'}', and their names say {sorted(total)}: "
            "write or fetch the missing ones, or remove those of another copy"
        )


def load(files: Sequence[Path]) -> Any:  # noqa: ANN401 - datasets is untyped
    """The table of a split's files.

    Raises:
        MissingSplitError: if they have no rows.
        DataError: naming the file that cannot be read.
    """
    if files[0].suffix.lower() == ".parquet":
        files = [file for file in files if _rows_of(file)] or files[:1]
        if not _rows_of(files[0]):
            raise MissingSplitError(f"'{files[0]}' has no rows: write it again, or remove it and its split")
    names = [str(file) for file in files]
    try:
        if files[0].is_dir():
            tables = [datasets.load_from_disk(name) for name in names]
        elif files[0].suffix.lower() == ".parquet":
            return datasets.Dataset.from_parquet(names)
        elif files[0].suffix.lower() == ".tar":
            return datasets.load_dataset("webdataset", data_files={"train": names}, split="train")
        else:
            tables = [datasets.Dataset.from_file(name) for name in names]
        return tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        reason = _sample_at_fault(files) or f"{type(cause).__name__}: {cause}"
        raise DataError(
            f"'{files[0]}'{more} cannot be read as one table ({reason}): fetch or write it again"
        ) from error


def _sample_at_fault(files: Sequence[Path]) -> str | None:
    """Of tars that are no table together the first sample that is to blame, and why; None where none is."""
    endings: dict[str, set[str]] = {}
    for file in files:
        if file.suffix.lower() != ".tar":
            return None
        try:
            with tarfile.open(file) as tar:
                for member in filter(tarfile.TarInfo.isfile, tar):
                    folder, _, name = member.name.rpartition("/")
                    key, _, ending = name.partition(".")
                    endings.setdefault(f"'{folder}/{key}' of '{file.name}'".replace("'/", "'"), set()).add(ending)
                    if ending == "json":
                        json.load(tar.extractfile(member) or io.BytesIO())
        except tarfile.TarError as error:
            return f"'{file.name}' is no whole tar: {error}"
        except ValueError as error:
            return f"'{member.name}' of '{file.name}' is no JSON: {error}"
    usual = Counter(map(frozenset, endings.values())).most_common(1)
    odd = [(sample, own) for sample, own in endings.items() if own != usual[0][0]]
    return f"{odd[0][0]} has {sorted(odd[0][1])} where others have {sorted(usual[0][0])}" if odd else None


def _rows_of(file: Path) -> int:
    """How many rows a parquet file has.

    Raises:
        DataError: naming the file, if it is none.
    """
    try:
        return int(pq.read_metadata(file).num_rows)
    except Exception as error:
        raise DataError(
            f"'{file}' cannot be read ({type(error).__name__}: {error}): fetch or write the file again"
        ) from error


def texts_of_lines(texts: Any) -> Any:  # noqa: ANN401 - pyarrow is untyped
    """The ``.txt`` beside each image of a tar as its captions: each line is one."""
    return pc.split_pattern_regex(pc.utf8_trim_whitespace(texts), pattern=r"\s*[\r\n]+\s*")


def webdataset_columns(available: Sequence[str], columns: Columns) -> Columns:
    """Those of a tar's samples, named by the endings of their files, where none are named."""
    default = Columns()
    images = [name for name in available if f".{name.lower()}" in IMAGES]
    texts = [name for name in ("txt", "caption", "text", "json") if name in available]
    return replace(
        columns,
        image=images[0] if columns.image == default.image and len(images) == 1 else columns.image,
        captions=texts[0] if columns.captions == default.captions and texts else columns.captions,
        filename="__key__" if columns.filename == default.filename else columns.filename,
    )
