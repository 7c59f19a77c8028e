"""Bands of several files as one raster: a VRT of GDAL (https://gdal.org/en/stable/drivers/raster/vrt.html)."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from rsretrieval.archive.rasters.scenes import BandFile, Scene
from rsretrieval.embeddings import ArchiveError
from rsretrieval.images import BrokenImageError
from rsretrieval.lazy import needs

Dataset = Any  # of rasterio, which is optional
GDAL_TYPES = {
    "uint8": "Byte", "int8": "Int8", "uint16": "UInt16", "int16": "Int16", "uint32": "UInt32", "int32": "Int32",
    "uint64": "UInt64", "int64": "Int64", "float32": "Float32", "float64": "Float64",
}  # fmt: skip
LOWEST = float(np.finfo(np.float32).min)
SLACK = 0.01
"""Part of a pixel by which the corners of two files of one footprint may differ."""


def scene(bands: Sequence[BandFile], scale: str | None, taken: datetime | None, origin: str) -> Scene:
    """A scene of these bands: of a file itself where they are all it has, as they are stored; else of a VRT.

    Raises:
        ArchiveError: see :func:`stack`.
        BrokenImageError: if a file cannot be opened.
    """
    bands = [replace(band, file=absolute(band.file)) for band in bands]
    files = tuple(dict.fromkeys(band.file for band in bands))
    place = files[0] if len(files) == 1 and _is_whole(bands) else stack(bands)
    return Scene(place, scale, taken, origin if taken else "", files, tuple(band.name for band in bands))


def stack(bands: Sequence[BandFile], resampling: str = "bilinear") -> str:
    """One raster of bands that lie in several files of one footprint.

    It has the grid of the finest of the files; bands of coarser ones are resampled to it, from valid pixels alone:
    there is no data where no pixel beside is valid, so that the edge of no data recedes by less than half a coarse
    pixel (of files whose no data is NaN it grows by as much). Where a band has a scale or an offset, all values are
    float32 and NaN is no data; otherwise they are of the files' common type, and each band keeps its value for no data.
    A mask of the dataset (transparency, ``.msk``) is taken from the finest file that has one.

    Args:
        bands: one or more.
        resampling: GDAL's name of the way that coarser bands are resampled.

    Returns:
        The VRT as XML, with absolute paths: itself a name that GDAL opens.

    Raises:
        ArchiveError: if files differ in footprint or reference system, a band is not in its file, or its values are
            complex numbers.
        BrokenImageError: if a file cannot be opened.
    """
    with ExitStack() as opened:
        datasets = {file: opened.enter_context(open_file(file)) for file in dict.fromkeys(band.file for band in bands)}
        by_size = sorted(datasets.values(), key=lambda dataset: -dataset.width * dataset.height)
        for dataset in by_size[1:]:
            _check_footprint(by_size[0], dataset)
        scaled = any(band.is_scaled for band in bands)
        dtype = _common_type(bands, datasets, scaled)
        root = _frame(by_size[0])
        for number, band in enumerate(bands, 1):
            dataset = datasets[band.file]
            root.append(_band(number, band, dataset, by_size[0].shape, dtype, scaled, resampling))
        masked = [dataset for dataset in by_size if any("per_dataset" in _flags(dataset, b) for b in dataset.indexes)]
        if masked:
            values = SubElement(SubElement(root, "MaskBand"), "VRTRasterBand", dataType="Byte")
            values.append(_source("SimpleSource", masked[0].name, "mask,1", masked[0].shape, by_size[0].shape))
    return ElementTree.tostring(root, encoding="unicode")


def open_file(file: str) -> Dataset:
    """A raster of rasterio; one without a place is opened without a warning.

    Raises:
        BrokenImageError: naming the file.
    """
    rasterio = needs("rasterio", "archive")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", needs("rasterio.errors", "archive").NotGeoreferencedWarning)
            return rasterio.open(absolute(file))
    except needs("rasterio.errors", "archive").RasterioIOError as error:
        raise BrokenImageError(f"'{file}' cannot be opened: {error}") from error


def absolute(file: str) -> str:
    """A path that is valid from any folder; what GDAL calls ``/vsi…`` as it is."""
    return file if file.startswith("/vsi") else os.path.abspath(os.path.expanduser(file))


def picture_bands(dataset: Dataset) -> list[int]:
    """Numbers of the bands of a dataset, without transparency."""
    return [number for number, kind in zip(dataset.indexes, dataset.colorinterp, strict=True) if kind.name != "alpha"]


def _is_whole(bands: Sequence[BandFile]) -> bool:
    """Whether these bands of one file are all that it has, in order and with the values and no-data of the file."""
    with open_file(bands[0].file) as dataset:
        own = dataset.nodatavals
        return [band.band for band in bands] == picture_bands(dataset) and all(
            not band.is_scaled and (band.nodata is None or band.nodata == own[band.band - 1]) for band in bands
        )


def _check_footprint(finest: Dataset, other: Dataset) -> None:
    """Refuse a file that lies elsewhere than the finest.

    Raises:
        ArchiveError: naming both.
    """
    slack = SLACK * float(np.hypot(finest.transform.a, finest.transform.d))
    apart = np.abs(_corners(finest) - _corners(other)).max()
    if finest.crs != other.crs or _control_points(finest) != _control_points(other) or not apart <= slack:
        described = [f"{tuple(file.bounds)} in {file.crs or 'no reference system'}" for file in (finest, other)]
        raise ArchiveError(
            f"'{finest.name}' and '{other.name}' do not lie on one footprint, and cannot be bands of one picture: "
            f"{described[0]} and {described[1]}; give bands of one tile"
        )


def _corners(dataset: Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``(4, 2)``: where the corners of the raster lie, in its reference system."""
    affine = np.array(tuple(dataset.transform)[:6]).reshape(2, 3)
    pixels = [(x, y, 1) for x in (0, dataset.width) for y in (0, dataset.height)]
    return np.asarray(np.array(pixels) @ affine.T)


def _control_points(dataset: Dataset) -> list[tuple[float, ...]]:
    return [(point.row, point.col, point.x, point.y) for point in dataset.gcps[0]]


def _common_type(bands: Sequence[BandFile], datasets: Mapping[str, Dataset], scaled: bool) -> str:
    for band in bands:
        dataset = datasets[band.file]
        if band.band not in dataset.indexes:
            raise ArchiveError(f"'{band.file}' has {dataset.count} bands, and band {band.band} is asked for")
    types = {datasets[band.file].dtypes[band.band - 1] for band in bands}
    if wrong := types - set(GDAL_TYPES):
        files = ", ".join(datasets)
        raise ArchiveError(f"values of type {min(wrong)} are no picture ({files}): give bands of real numbers")
    return "float32" if scaled else str(np.result_type(*types))


def _frame(dataset: Dataset) -> Element:
    """A VRT of a dataset's size and place (reference system, transform, control points, RPCs), without bands."""
    with needs("rasterio.io", "archive").MemoryFile(ext=".vrt") as copy:
        needs("rasterio.shutil", "archive").copy(dataset, copy.name, driver="VRT")
        root = ElementTree.fromstring(copy.read())
    for child in [child for child in root if child.tag in ("VRTRasterBand", "MaskBand", "OverviewList")]:
        root.remove(child)
    return root


def _band(
    number: int, band: BandFile, dataset: Dataset, shape: tuple[int, int], dtype: str, scaled: bool, resampling: str
) -> Element:
    """A band of the VRT, of height and width ``shape``.

    A coarser one comes by a VRT of its own, which stands as XML where the name of a file would, because GDAL leaves out
    of a mean only what the source itself says is no data, and rounds to the source's type.
    """
    own = dataset.nodatavals[band.band - 1]
    nodata = own if band.nodata is None else band.nodata
    kind = "ComplexSource" if scaled else "SimpleSource"
    source = _source(kind, dataset.name, str(band.band), dataset.shape)
    if scaled:
        _scale(source, band, nodata)
    if dataset.shape != shape:
        coarse = Element("VRTDataset", rasterXSize=str(dataset.width), rasterYSize=str(dataset.height))
        if scaled:
            nodata = LOWEST  # and not NaN, which GDAL spreads over the pixels beside
            coarse.append(_band_of(1, "float32", nodata, source))
        else:
            stored = _source("SimpleSource", dataset.name, str(band.band), dataset.shape)
            coarse.append(_band_of(1, dataset.dtypes[band.band - 1], nodata, stored))
        source = _source(kind, ElementTree.tostring(coarse, encoding="unicode"), "1", dataset.shape, shape)
        source.set("resampling", resampling)
        if scaled:
            _scale(source, BandFile(""), nodata)
    element = _band_of(number, dtype, math.nan if scaled else nodata, source)
    SubElement(element, "Description").text = band.name
    return element


def _band_of(number: int, dtype: str, nodata: float | None, source: Element) -> Element:
    element = Element("VRTRasterBand", dataType=GDAL_TYPES[dtype], band=str(number))
    if nodata is not None:
        SubElement(element, "NoDataValue").text = repr(float(nodata))
    element.append(source)
    return element


def _scale(source: Element, band: BandFile, nodata: float | None) -> None:
    """Let a ComplexSource scale its values, and leave out those that are no data."""
    SubElement(source, "ScaleOffset").text = repr(float(band.offset))
    SubElement(source, "ScaleRatio").text = repr(float(band.scale))
    if nodata is not None:
        SubElement(source, "NODATA").text = repr(float(nodata))


def _source(kind: str, file: str, band: str, shape: tuple[int, int], onto: tuple[int, int] | None = None) -> Element:
    """A whole file onto a whole raster, of its own size if none is told; shapes are heights and widths."""
    source = Element(kind)
    SubElement(source, "SourceFilename", relativeToVRT="0").text = file
    SubElement(source, "SourceBand").text = band
    for tag, (height, width) in (("SrcRect", shape), ("DstRect", onto or shape)):
        SubElement(source, tag, xOff="0", yOff="0", xSize=str(width), ySize=str(height))
    return source


def _flags(dataset: Dataset, band: int) -> list[str]:
    """What GDAL says of a band's mask: all_valid, per_dataset, alpha, nodata."""
    return [flag.name for flag in dataset.mask_flag_enums[band - 1]]
