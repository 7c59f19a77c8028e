"""What ``rsretrieval embed`` is given: folders, patterns, files and data sets of the hub to a list of inputs."""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rsretrieval.data.datasets.lookup import IMAGES, is_hidden, walk
from rsretrieval.data.datasets.values import is_writable
from rsretrieval.embeddings import ArchiveError

log = logging.getLogger(__name__)

Kind = Literal["picture", "raster", "safe", "stac", "parquet", "tar"]
RASTERS = {
    ".tif",
    ".tiff",
    ".jp2",
    ".vrt",
    ".img",
    ".ntf",
    ".nitf",
    ".hdf",
    ".nc",
    ".h5",
    ".grd",
    ".asc",
    ".bil",
    ".dat",
}
"""Endings of files that GDAL may find a place on earth in."""
HUB = "hf://"
"""Beginning of what lies on the Hugging Face hub."""


@dataclass(frozen=True)
class Input:
    """A file, or what is one to the archive: a product of Sentinel-2 is a folder.

    Attributes:
        name: its path relative to the archive's root, with slashes; of the hub the whole address.
        place: where it is now.
        kind: how it is read.
    """

    name: str
    place: str
    kind: Kind


def find_inputs(images: Sequence[str], root: Path, archive: Path | None = None) -> list[Input]:
    """Everything that some names stand for, each once, in the order of their names.

    Args:
        images: folders (with all below them), patterns such as ``scenes/**/*.tif``, files, or ``hf://datasets/OWNER/NAME``
            with or without a folder or file of it.
        root: folder that names of inputs are relative to.
        archive: folder that is no input, wherever it lies.

    Raises:
        ArchiveError: for a name that stands for nothing, a file outside of the root, or if there is no image at all.
    """
    inputs: dict[str, Input] = {}
    others: Counter[str] = Counter()
    for image in images:
        for place, kind in _places(image, others, archive):
            name = place if place.startswith(HUB) else _relative(Path(place), root)
            if not is_writable(name):
                log.warning("%a is left out: its name is no text in UTF-8; rename it", name)
                continue
            inputs.setdefault(name, Input(_without_revision(name), place, kind))
    if others:
        found = ", ".join(f"{count} {suffix or 'without ending'}" for suffix, count in others.most_common(6))
        log.info("files that are no images are not read: %s", found)
    if not inputs:
        raise ArchiveError(
            f"there is no image in {', '.join(map(repr, images))}: give folders or files of images "
            f"({', '.join(sorted(IMAGES | {'.vrt', '.SAFE', '.parquet', '.tar'}))}), or any raster by its own path"
        )
    return [inputs[name] for name in sorted(inputs)]


def _places(image: str, others: Counter[str], archive: Path | None) -> Iterator[tuple[str, Kind]]:
    if image.startswith(HUB):
        from rsretrieval.archive.hub import files_on_hub

        yield from ((place, kind) for place in files_on_hub(image) if (kind := kind_of(Path(place))))
        return
    path = Path(image).expanduser()
    if not path.exists():
        matches = sorted(glob.glob(os.fspath(path), recursive=True))
        if not matches:
            raise ArchiveError(
                f"there is nothing at '{image}': give a folder, a file, a pattern such as 'scenes/**/*.tif', or "
                "hf://datasets/OWNER/NAME of the Hugging Face hub"
            )
        for match in matches:
            yield from _places(match, others, archive)
        return
    if path.is_dir() and not _is_product(path):
        yield from _below(path, others, archive)
        return
    # A file by its own name may be any of GDAL's; of a JSON that is no item it is said what is.
    yield os.fspath(path), kind_of(path) or ("stac" if path.suffix.lower() == ".json" else "raster")


def _below(folder: Path, others: Counter[str], archive: Path | None) -> Iterator[tuple[str, Kind]]:
    products: set[Path] = set()
    own = archive and Path(os.path.abspath(archive))
    for file in walk(folder):
        if is_hidden(file, folder) or own in Path(os.path.abspath(file)).parents:
            continue
        product = next((parent for parent in file.parents if _is_product(parent) and folder in parent.parents), None)
        kind = kind_of(product or file)
        if kind is None:
            others[file.suffix.lower()] += 1
        elif product is None:
            yield os.fspath(file), kind
        elif product not in products:
            products.add(product)
            yield os.fspath(product), kind


def _is_product(path: Path) -> bool:
    return path.suffix.upper() == ".SAFE"


def kind_of(path: Path) -> Kind | None:
    """How a file is read by its name; None for what is no image."""
    suffix = path.suffix.lower()
    if suffix == ".safe":
        return "safe"
    if suffix in RASTERS:
        return "raster"
    if suffix in IMAGES:
        return "picture"
    if suffix == ".parquet":
        return "parquet"
    if suffix == ".tar":
        return "tar"
    if suffix == ".json" and path.is_file():
        from rsretrieval.archive.rasters.stac import is_stac_item

        return "stac" if is_stac_item(path) else None
    return None


def _relative(place: Path, root: Path) -> str:
    absolute = Path(os.path.abspath(place))
    try:
        return absolute.relative_to(os.path.abspath(root)).as_posix()
    except ValueError as error:
        raise ArchiveError(
            f"'{place}' does not lie below the root '{root}', to which the archive's names are relative: give a folder "
            "above all images as --root"
        ) from error


def _without_revision(name: str) -> str:
    if not name.startswith(HUB):
        return name
    repository, _, rest = name.partition("@")
    return f"{repository}/{rest.partition('/')[2]}"
