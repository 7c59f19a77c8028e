"""Sentinel-2 products as ESA delivers them, in SAFE folders: bands by their names, as reflectance.

Layout, names and metadata: Sentinel-2 Products Specification Document (S2-PDGS-TAS-DI-PSD), issues 13 and 14.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from rsretrieval.archive.rasters.scenes import PRESETS, BandFile, Scene, names_of
from rsretrieval.archive.rasters.virtual import scene
from rsretrieval.embeddings import ArchiveError

log = logging.getLogger(__name__)
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
"""Names of the bands, in the order of their numbers in the metadata (``band_id``)."""
TRUE_COLOUR = ("B04", "B03", "B02")
COMMON_NAMES = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge071": "B05", "rededge075": "B06",
    "rededge078": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09", "cirrus": "B10", "swir16": "B11",
    "swir22": "B12",
}  # fmt: skip
"""Common names of STAC's extension eo, version 2."""
METADATA = re.compile(r"MTD_MSIL(1C|2A)\.xml|S2\w_\w+_MTD_\w*L(1C|2A)_\w+\.xml")
PACKED = re.compile(r"S2\w_\w+\.(SAFE\.)?zip")
BAND_FILE = re.compile(r"_(B\d\d|B8A)(?:_(\d+)m)?\.jp2", re.IGNORECASE)
LEVELS = {  # level: names of what values are divided by, and of what is added to them before
    "L2A": (("BOA_QUANTIFICATION_VALUE", "L2A_BOA_QUANTIFICATION_VALUE"), "BOA_ADD_OFFSET"),
    "L1C": (("QUANTIFICATION_VALUE",), "RADIO_ADD_OFFSET"),
}
NODATA = 0


def is_safe(path: str | Path) -> bool:
    """Whether a path is a Sentinel-2 product: its folder, its metadata, or a granule in it.

    A packed one counts too, and :func:`read_safe` says that it is to be unpacked.
    """
    path = Path(path).absolute()
    if path.is_dir():
        return path.suffix == ".SAFE" or path.parent.name == "GRANULE" or any(path.glob("MTD_MSI*.xml"))
    return bool(METADATA.fullmatch(path.name) or PACKED.fullmatch(path.name))


def read_safe(path: str | Path, bands: str | None = None) -> Scene:
    """Bands of a Sentinel-2 product, levels 1C and 2A of all processing baselines, as reflectance.

    Reflectance is ``(value + offset) / quantification value`` with both from the product's metadata; the offset, of
    each band, is there from processing baseline 04.00 on. The value 0 is no data. Each band is taken from the finest
    resolution that the product has it in.

    Args:
        path: the ``.SAFE`` folder, its ``MTD_MSIL1C.xml`` or ``MTD_MSIL2A.xml``; of an old product of many granules
            the folder of one of them.
        bands: names such as ``B08 B04 B03``, or common ones such as ``red``; None for true colour, ``B04 B03 B02``.

    Returns:
        The scene, with the time at which the granule was sensed, and the scale of :data:`PRESETS`.

    Raises:
        ArchiveError: if metadata or bands are missing, or cannot be understood; naming file and bands.
        BrokenImageError: if a file of a band cannot be opened.
    """
    metadata, granule = _locate(Path(path).expanduser().absolute())
    root = _parse(metadata)
    level, quantification, offsets = _radiometry(root, metadata)
    files = _band_files(granule)
    names = [COMMON_NAMES.get(name.lower(), name.upper()) for name in names_of(bands)] or list(TRUE_COLOUR)
    if missing := [name for name in names if name not in files]:
        raise ArchiveError(
            f"'{granule}' has no band {', '.join(missing)}; there are {', '.join(sorted(files)) or 'none'}: name some "
            "of these, or unpack the whole product"
        )
    if lacking := [name for name in names if offsets and name not in offsets]:
        raise ArchiveError(f"'{metadata}' gives offsets, and none for {', '.join(lacking)}: fetch the product again")
    chosen = [
        BandFile(str(files[name]), 1, name, 1 / quantification, offsets.get(name, 0.0) / quantification, NODATA)
        for name in names
    ]
    return scene(chosen, PRESETS[level], *_sensed(root, granule))


def _locate(path: Path) -> tuple[Path, Path]:
    """The metadata of a product, and the folder of its granule."""
    if PACKED.fullmatch(path.name):
        raise ArchiveError(f"'{path}' is packed: unpack it, and give the .SAFE folder")
    single = path.is_dir() and path.parent.name == "GRANULE"
    product = path.parent.parent if single else path.parent if path.suffix == ".xml" else path
    found = [path] if path.is_file() else sorted(f for f in product.glob("*.xml") if METADATA.fullmatch(f.name))
    if len(found) != 1 or not found[0].is_file():
        raise ArchiveError(
            f"'{product}' has {'no' if not found else 'more than one'} MTD_MSIL1C.xml or MTD_MSIL2A.xml: give the "
            "folder of one whole product of Sentinel-2 MSI, level 1C or 2A"
        )
    granules = [path] if single else sorted(f for f in (product / "GRANULE").glob("*") if f.is_dir())
    if len(granules) != 1:
        some = "; ".join(map(str, granules[:3]))
        raise ArchiveError(
            f"'{product}' has {len(granules)} granules, and a raster is one: "
            + (f"give their folders, such as {some}" if granules else "unpack the whole product")
        )
    return found[0], granules[0]


def _parse(file: Path) -> Element:
    try:
        return ElementTree.parse(file).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise ArchiveError(f"'{file}' cannot be read as XML ({error}): fetch the product again") from error


def _radiometry(root: Element, file: Path) -> tuple[str, float, dict[str, float]]:
    """Level, quantification value, and offsets by band; no offsets before processing baseline 04.00."""
    for level, (quantifications, offset) in LEVELS.items():
        for value in (element.text for name in quantifications for element in root.iter(name)):
            try:
                offsets = {
                    dict(enumerate(BANDS))[int(e.get("band_id", ""))]: float(e.text or "") for e in root.iter(offset)
                }
                quantification = float(value or "")
                if not quantification > 0:
                    raise ValueError(f"{quantification:g} is not above 0")
            except (ValueError, KeyError) as error:
                raise ArchiveError(
                    f"'{file}': quantification value or {offset} is not understood ({error}): fetch the product again"
                ) from error
            return level, quantification, offsets
    raise ArchiveError(
        f"'{file}' gives no QUANTIFICATION_VALUE, without which values are no reflectance: fetch the product again"
    )


def _band_files(granule: Path) -> dict[str, Path]:
    """The finest file of each band, in ``IMG_DATA`` or in its folders ``R10m``, ``R20m`` and ``R60m``."""
    sized = [
        (int(match[2] or 0), match[1].upper(), file)
        for file in sorted(granule.glob("IMG_DATA/**/*.jp2"))
        if (match := BAND_FILE.search(file.name))
    ]
    return {band: file for _, band, file in sorted(sized, reverse=True)}


def _sensed(root: Element, granule: Path) -> tuple[datetime | None, str]:
    """When the granule was sensed, and the metadata's name of that."""
    tiles: Iterable[Element] = (_parse(file) for file in sorted(granule.glob("*MTD*.xml")))
    times = [(element, "SENSING_TIME") for tile in tiles for element in tile.iter("SENSING_TIME")]
    for name in ("PRODUCT_START_TIME", "DATATAKE_SENSING_START"):
        times += [(element, name) for element in root.iter(name)]
    for element, name in times:
        try:
            taken = datetime.fromisoformat((element.text or "").strip())
        except ValueError:
            log.warning("'%s': the time %s '%s' is not understood and left out", granule, name, element.text)
            continue
        return taken.replace(tzinfo=taken.tzinfo or UTC).astimezone(UTC), f"SAFE {name}"
    return None, ""
