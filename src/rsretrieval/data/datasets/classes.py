"""Images below folders that are named by their scene class, without captions (AID, RESISC45, EuroSAT)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from rsretrieval.data.datasets.base import Columns, DataError, MissingSplitError, Record, Source
from rsretrieval.data.datasets.lookup import IMAGES, fingerprint, is_hidden, walk
from rsretrieval.data.datasets.splits import split_of

log = logging.getLogger(__name__)


class ClassFolderSource(Source):
    """``FOLDER/CLASS/*.jpg``, or ``FOLDER/SPLIT/CLASS/*.jpg``: the class is the scene of a row, which has no caption.

    Where all folders of images are named like splits, they are the splits; else all images are ``test``, since such
    sets are to be classified without training. A lone folder around the classes is passed through.

    Args:
        path: the folder.
        columns: not used.

    Raises:
        DataError: if there is no such folder, there are fewer than two classes in it, or some folders are named like
            splits and some are not.
    """

    def __init__(self, path: str, columns: Columns) -> None:
        place = Path(path).expanduser()
        if not path or not place.is_dir():
            raise DataError(f"there is no folder '{path}': give the folder of the classes' folders as --data.path")
        files = [file for file in walk(place) if file.suffix.lower() in IMAGES and not is_hidden(file, place)]
        self.folder, below = _classes_folder(place, [file.relative_to(place).parts for file in files])
        self._splits: dict[str, list[tuple[Path, str]]] = {}
        without = 0
        splits = self._splits_of({names[0] for names in below if len(names) > 1})
        for file, names in zip(files, below, strict=True):
            classes = names[1:-1] if splits else names[:-1]
            if not classes:
                without += 1
                continue
            self._splits.setdefault(splits.get(names[0], "test"), []).append((file, classes[0]))
        if without:
            log.warning("'%s': %d images in no class's folder are not read", self.folder, without)
        self._check(path)

    def _splits_of(self, folders: set[str]) -> dict[str, str]:
        """Folder to split, where they are named like splits; nothing where they are classes."""
        splits = {folder: split for folder in folders if (split := split_of(folder))}
        if splits and len(splits) < len(folders):
            others = sorted(folders - set(splits))
            raise DataError(
                f"'{self.folder}' holds folders named like splits, {sorted(splits)}, and others, {others[:5]}: keep "
                "apart splits and classes, as in FOLDER/SPLIT/CLASS"
            )
        if not splits:
            log.info("'%s' says no splits: all of its images are of 'test'", self.folder)
        return splits

    def _check(self, path: str) -> None:
        classes = {name for images in self._splits.values() for _, name in images}
        if len(classes) < 2:
            raise DataError(
                f"'{path}' holds images of {len(classes)} classes ({sorted(classes)}): give the folder whose folders "
                f"are the classes, each with images ({', '.join(sorted(IMAGES))})"
            )

    def _images(self, split: str) -> list[tuple[Path, str]]:
        if split not in self._splits:
            raise MissingSplitError.of(f"'{self.folder}'", split, list(self._splits), "folders of classes below one")
        return self._splits[split]

    def where(self, split: str) -> str:
        """See :class:`Source`."""
        return f"the class folders of '{self.folder}', split '{split}'"

    def records(self, split: str) -> list[Record]:
        """The names are paths from the folder, as classes may repeat them."""
        images = self._images(split)
        return [Record(file.relative_to(self.folder).as_posix(), (), name) for file, name in images]

    def blocks(self, split: str) -> list[int]:
        """Each row alone."""
        return [1] * len(self._images(split))

    def read(self, split: str, block: int) -> Sequence[object]:
        """See :class:`Source`."""
        return [self._images(split)[block][0]]

    def fingerprint(self) -> str:
        """See :class:`Source`."""
        return fingerprint(file for split in sorted(self._splits) for file, _ in self._splits[split])


def _classes_folder(place: Path, names: list[tuple[str, ...]]) -> tuple[Path, list[tuple[str, ...]]]:
    """The folder of the classes or splits below lone folders, and the images' paths from there."""
    while names and len({path[0] for path in names}) == 1 and all(len(path) > 2 for path in names):
        if split_of(names[0][0]):
            break
        place, names = place / names[0][0], [path[1:] for path in names]
    return place, names
