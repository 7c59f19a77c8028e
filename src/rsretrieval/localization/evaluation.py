"""Figures of semantic localisation over a set in AIR-SLT's layout."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rsretrieval.embeddings import ArchiveError
from rsretrieval.files import write_csv, write_png
from rsretrieval.localization.localizer import Localizer
from rsretrieval.localization.outputs import overlay
from rsretrieval.localization.scene import OpenScene
from rsretrieval.metrics import LocalizationFigures, localization_figures

ANNOTATIONS = "anno.json"
IMAGES = ("imgs", ".", "../imgs", "images")
"""Where images may lie, from the folder of the annotations: AIR-SLT has ``annotations`` beside ``imgs``."""
ENDINGS = ("", ".png", ".tif", ".tiff")
HEIGHT, COLUMNS = 320, 4  # pixels, pictures in a row
JPEG_QUALITY = 95
"""Of OpenCV, which the public program writes its maps by."""


class Case(NamedTuple):
    """A sentence, and where in an image what it says is.

    Attributes:
        number: of its entry, from 0.
        image: the file.
        caption: without space around it.
        regions: polygons ``(points, 2)``, x and y in pixels.
    """

    number: int
    image: Path
    caption: str
    regions: list[NDArray[np.float64]]


class CaseFigures(NamedTuple):
    """A case and how well its map finds it."""

    case: Case
    figures: LocalizationFigures


def read_cases(folder: Path) -> list[Case]:
    """The cases of ``anno.json``: ``caption``, ``jpg_name`` and ``points`` of each.

    Args:
        folder: of it, or with a folder ``annotations`` that has it; images lie beside either, or in ``imgs``. One that
            ends in ``.jpg`` may be there as ``.png`` or ``.tif``.

    Raises:
        ArchiveError: if there is no such file, or an entry cannot be understood, or its image is not there.
    """
    places = [folder / ANNOTATIONS, folder / "annotations" / ANNOTATIONS]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ArchiveError(f"there is no {ANNOTATIONS} in '{folder}': give the folder of AIR-SLT's layout")
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArchiveError(f"'{file}' is no JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ArchiveError(f"'{file}' is no list of cases: each has caption, jpg_name and points")
    return [_case(file, number, entry) for number, entry in enumerate(entries)]


def _case(file: Path, number: int, entry: object) -> Case:
    where = f"'{file}', case {number}"
    try:
        caption, name, points = (entry[key] for key in ("caption", "jpg_name", "points"))  # type: ignore[index]
        regions = [np.array(region, np.float64).reshape(-1, 2) for region in points]
    except (KeyError, TypeError, ValueError) as error:
        raise ArchiveError(f"{where} needs caption, jpg_name and points (lists of x and y): {error!r}") from error
    if not str(caption).strip() or not regions or min(map(len, regions)) < 3 or not (name and isinstance(name, str)):
        raise ArchiveError(f"{where} needs a caption, the name of an image, and a region of three points or more")
    files = [
        place
        for folder in IMAGES
        for ending in ENDINGS
        if (place := file.parent / folder / (str(Path(name).with_suffix(ending)) if ending else name)).is_file()
    ]
    if not files:
        raise ArchiveError(f"{where}: there is no image '{name}' beside it, in imgs or ../imgs")
    return Case(number, files[0], str(caption).strip(), regions)


def evaluate(
    cases: Sequence[Case], localizer: Callable[[Path], Localizer], folder: Path, *, jpeg: bool = False
) -> list[CaseFigures]:
    """Map and figures of each case; ``figures.csv`` and ``cases.png`` are written.

    Args:
        cases: of :func:`read_cases`.
        localizer: of an image.
        folder: to write to.
        jpeg: take maps through a JPEG, as the public program does, before they are measured.

    Raises:
        ArchiveError: if an image has no pixel with data.
        BrokenImageError: if it cannot be read.
    """
    found, pictures = [], []
    for case, maps in _by_image(cases, localizer):
        heat = maps.heat(case.caption, most_pixels=maps.scene.size[0] * maps.scene.size[1])
        attention = _through_jpeg(heat.values) if jpeg else heat.values
        figures = localization_figures(attention, case.regions)
        found.append(CaseFigures(case, figures))
        picture = _outlined(overlay(maps.scene, heat, []), maps.scene, case)
        cv2.putText(
            picture,
            f"{case.number}  Rmi {figures.rmi:.3f}",
            (6, 20),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.5,
            (255, 255, 255),
            1,
            cv2.LINE_AA,
        )
        pictures.append((case.number, picture))
    found.sort(key=lambda one: one.case.number)
    write_csv(folder / "figures.csv", table(found))
    write_png(folder / "cases.png", _sheet([picture for _, picture in sorted(pictures, key=lambda one: one[0])]))
    return found


def _by_image(cases: Sequence[Case], localizer: Callable[[Path], Localizer]) -> Iterator[tuple[Case, Localizer]]:
    """Cases and the maps of their image, image by image."""
    for image in dict.fromkeys(case.image for case in cases):
        maps = localizer(image)
        for case in cases:
            if case.image == image:
                yield case, maps


def _through_jpeg(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    _, content = cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)  # type: ignore[return-value]


def _outlined(picture: Image.Image, scene: OpenScene, case: Case) -> NDArray[np.uint8]:
    """A picture of so many pixels in height, its regions outlined in white."""
    scale = HEIGHT / scene.size[1]
    small = np.asarray(picture.resize((max(1, round(scene.size[0] * scale)), HEIGHT))).copy()
    outlines = [np.rint(region * scale).astype(np.int32) for region in case.regions]
    cv2.polylines(small, outlines, isClosed=True, color=(255, 255, 255), thickness=2, lineType=cv2.LINE_AA)
    return small


def _sheet(pictures: Sequence[NDArray[np.uint8]]) -> Image.Image:
    width = max(picture.shape[1] for picture in pictures)
    columns = min(COLUMNS, len(pictures))
    sheet = np.full((-(-len(pictures) // columns) * HEIGHT, columns * width, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = number // columns * HEIGHT, number % columns * width
        sheet[top : top + HEIGHT, left : left + picture.shape[1]] = picture
    return Image.fromarray(sheet)


def table(found: Sequence[CaseFigures]) -> list[list[object]]:
    """Header and rows: figures of each case, then the mean over cases of each image and of all."""
    head: list[object] = ["image", "case", "caption", "rsu", "ras", "rda", "rmi"]
    images = dict.fromkeys(one.case.image for one in found)
    cases = [[one.case.image.name, one.case.number, one.case.caption, *_rounded([one])] for one in found]
    means = [[image.name, "mean", "", *_rounded([o for o in found if o.case.image == image])] for image in images]
    return [head, *cases, *means, ["all", "mean", "", *_rounded(found)]]


def _rounded(found: Sequence[CaseFigures]) -> list[float]:
    return [round(float(value), 4) for value in np.mean([one.figures for one in found], axis=0)]
