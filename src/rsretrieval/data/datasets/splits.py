"""Names of splits: in a column, in the name of a file, in that of its folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rsretrieval.data.datasets.base import SPLITS, DataError


def split_of(name: str) -> str | None:
    """Our name of a split that a data set calls ``name``; None for a name that is none.

    Example:
        >>> split_of("Val"), split_of("restval")
        ('valid', None)
    """
    return next((split for split, names in SPLITS.items() if name.strip().lower() in names), None)


class SplitFile(NamedTuple):
    """A file of a table.

    Attributes:
        file: its path.
        family: its folder and name without the split: the same for the files of one data set.
        split: that its name or the name of a folder says; None if none does.
    """

    file: Path
    family: str
    split: str | None

    @classmethod
    def of(cls, file: Path, root: Path) -> SplitFile:
        """What the name of a file below ``root`` says.

        Example:
            >>> SplitFile.of(Path("a/rsicd_train2.json"), Path("a"))[1:]
            ('rsicd', 'train')
            >>> SplitFile.of(Path("a/ponds/val/0000.parquet"), Path("a"))[1:]
            ('ponds', 'valid')
        """
        tokens = re.split(r"[-_. ]+", file.stem)
        splits = [split_of(re.sub(r"\d+$", "", token)) for token in tokens]
        folders = file.relative_to(root).parts[:-1]
        if len(set(splits) - {None}) == 1:
            position = next(n for n, split in enumerate(splits) if split)
            return cls(file, "/".join([*folders, "_".join(tokens[:position])]).strip("/"), splits[position])
        of_folders = [split_of(folder) for folder in folders]
        if len(set(splits)) == 1 and len(set(of_folders) - {None}) == 1:
            family = "/".join(folder for folder, split in zip(folders, of_folders, strict=True) if not split)
            return cls(file, family, next(split for split in of_folders if split))
        return cls(file, "/".join([*folders, file.stem]), None)


def one_data_set(tables: Sequence[SplitFile], chosen: Path | None) -> list[SplitFile]:
    """The files of the data set that one of them was chosen of: itself, and those of its other splits.

    Args:
        tables: all that are there.
        chosen: one of them; None for all.
    """
    own = next((table for table in tables if table.file == chosen), None)
    if own is None:
        return list(tables)
    if own.split is None:
        return [own]
    return [table for table in tables if table.split and table.family == own.family]


def refuse_several(path: str, files: Iterable[Path], split: str) -> DataError:
    """An error for a split that several tables have: one is to be chosen."""
    names = [str(file) for file in files]
    return DataError(
        f"'{path}' has {len(names)} tables with rows of split '{split}': {names[:6]}. Each split needs one: choose a "
        f"data set by giving the path of its table, as in --data.path {names[0]} (its images are looked for beside "
        "it), or move the others away"
    )
