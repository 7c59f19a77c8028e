"""Items of STAC (https://stacspec.org, 1.0 and 1.1): their bands as a raster."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rsretrieval.archive.rasters.scenes import PRESETS, BandFile, Scene, names_of
from rsretrieval.archive.rasters.virtual import open_file, picture_bands, scene
from rsretrieval.embeddings import ArchiveError
from rsretrieval.lazy import needs

log = logging.getLogger(__name__)
TRUE_COLOUR = ("red", "green", "blue")
RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "application/x-hdf", "application/netcdf")
RASTER_SUFFIXES = (".tif", ".tiff", ".jp2", ".vrt", ".nc", ".h5", ".hdf", ".img")
PREVIEWS = {"thumbnail", "overview", "visual"}
"""Roles of assets whose bands repeat those of others."""
SCHEMES = {"http": "/vsicurl/", "https": "/vsicurl/", "ftp": "/vsicurl/", "s3": "/vsis3/", "gs": "/vsigs/"}


@dataclass(frozen=True)
class Band:
    """A band of an asset, as the item describes it.

    Attributes:
        asset: the key of the asset.
        number: the number in the asset's file, counted from 1; 0 for all bands of an asset that are not described.
        name: the key where it has no name.
        fields: what is said of it or its asset, without the prefixes ``eo:`` and ``raster:``.
        href: where the asset is, absolute.
        is_raster: whether the asset looks like a raster of data.
        is_preview: whether its bands repeat those of other assets.
    """

    asset: str
    number: int
    name: str
    fields: Mapping[str, Any]
    href: str
    is_raster: bool
    is_preview: bool

    @property
    def common_name(self) -> str:
        """Such as ``red``; empty without one."""
        return str(self.fields.get("common_name") or "").casefold()


def is_stac_item(path: str | Path) -> bool:
    """Whether a file is an item of STAC: a ``.json`` or ``.geojson`` of one feature with a ``stac_version``."""
    path = Path(path)
    if path.suffix.lower() not in (".json", ".geojson") or not path.is_file():
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return False
    return isinstance(content, dict) and content.get("type") == "Feature" and "stac_version" in content


def read_stac(path: str | Path, bands: str | None = None) -> Scene:
    """Bands of a STAC item.

    Scale, offset and no-data of ``raster:bands`` (1.0) or ``bands`` (1.1) are applied. Nothing but the item is read and
    no network is used, unless the assets themselves are elsewhere: these GDAL reads by ``/vsicurl/``, ``/vsis3/`` or
    ``/vsigs/``, with what it finds of credentials (not tested: no test uses the network).

    Where an item says ``earthsearch:boa_offset_applied``, the offset that it states is left out with a word: it was
    taken off already (Element84/earth-search, issues 66 and 71; some items deny it wrongly, which nothing here sees).

    Args:
        path: the item's file.
        bands: each the key of an asset, for all of its bands, or the name or common name of a band. None for the asset
            ``visual``, or else red, green and blue by their common names, or else the only asset that is a raster.

    Returns:
        The scene. Its scale is one of :data:`PRESETS` where all bands are of reflected light and stored with a scale,
        that is, are reflectance; otherwise None.

    Raises:
        ArchiveError: if it is no item, or bands are missing or ambiguous; with the assets and their bands.
        BrokenImageError: if an asset cannot be opened.
    """
    item, described = _read(Path(path))
    words = names_of(bands)
    chosen = [band for word in words for band in _named(word, described, path)] if words else _preset(described, path)
    sources = [source for band in chosen for source in _sources(band, path)]
    if any(source.offset for source in sources) and _offset_is_applied(item):
        log.warning("'%s': the offset of its values is left out, for it says that it was taken off already", path)
        sources = [replace(source, offset=0.0) for source in sources]
    is_reflectance = all(source.is_scaled for source in sources) and all(
        band.common_name and not band.common_name.startswith("lwir") for band in chosen
    )
    level = f"{item.properties.get('processing:level', '')} {item.collection_id or ''}".lower()
    scale = PRESETS["L1C" if re.search(r"\bl1", level) else "L2A"] if is_reflectance else None
    return scene(sources, scale, *_taken(item))


def _read(path: Path) -> tuple[Any, list[Band]]:
    """An Item of pystac, and what it says of the bands of its assets."""
    pystac = needs("pystac", "archive")
    if not is_stac_item(path):
        raise ArchiveError(
            f"'{path}' is no STAC item (a JSON of the type Feature with a stac_version): of a catalogue, a collection "
            "or a collection of items give the files of the items, such as 'items/*.json'"
        )
    try:
        item = pystac.Item.from_file(str(path))
        return item, [band for key, asset in item.assets.items() for band in _bands(key, asset)]
    except (needs("pystac.errors", "archive").STACError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ArchiveError(f"'{path}' is not understood as a STAC item ({error!r}): mend it") from error


def _bands(key: str, asset: Any) -> list[Band]:  # noqa: ANN401 - an Asset of pystac
    """Bands of an asset; one of the number 0 stands for all of an asset whose bands are not described."""
    lists = [asset.extra_fields.get(name) or [] for name in ("eo:bands", "raster:bands", "bands")]
    count = max(map(len, lists))
    roles, kind = set(asset.roles or []), asset.media_type or ""
    href = asset.get_absolute_href() or asset.href
    is_raster = (
        kind.startswith(RASTER_TYPES)
        or urlsplit(href).path.lower().endswith(RASTER_SUFFIXES)
        or ("data" in roles and kind.startswith("image/"))
    )
    bands = []
    for index in range(max(count, 1)):
        parts = [asset.extra_fields, *(entries[index] for entries in lists if index < len(entries))]
        fields = {name: value for part in parts for name, value in _unprefixed(part)}
        own_name = next((part["name"] for part in reversed(parts[1:]) if part.get("name")), None)
        name = str(own_name or (key if count <= 1 else f"{key}:{index + 1}"))
        is_preview = key == "visual" or bool(PREVIEWS & roles)
        bands.append(Band(key, index + 1 if count else 0, name, fields, href, is_raster, is_preview))
    return bands


def _unprefixed(fields: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, value in fields.items():
        prefix, _, own = name.rpartition(":")
        if prefix in ("", "eo", "raster") and value is not None:
            yield own, value


def _preset(described: Sequence[Band], path: str | Path) -> list[Band]:
    """What is taken where no band is named."""
    if visual := [band for band in described if band.asset == "visual"]:
        return visual
    colours = [_matching(colour, described, ("common_name",)) for colour in TRUE_COLOUR]
    if all(colours):
        return [_one(bands, colour, path) for bands, colour in zip(colours, TRUE_COLOUR, strict=True)]
    rasters = [band for band in described if band.is_raster]
    rasters = [band for band in rasters if not band.is_preview] or rasters
    if len({band.asset for band in rasters}) == 1:
        return rasters
    raise ArchiveError(
        f"'{path}' has neither an asset 'visual', nor red, green and blue, nor one raster alone: name bands of "
        f"{_listed(described)}"
    )


def _named(word: str, described: Sequence[Band], path: str | Path) -> list[Band]:
    """The bands that a word names: all of an asset, or one."""
    if of_asset := [band for band in described if band.asset == word]:
        return of_asset
    if bands := _matching(word, described, ("name", "common_name")):
        return [_one(bands, word, path)]
    raise ArchiveError(f"'{path}' has no band and no asset '{word}'; there are {_listed(described)}")


def _matching(word: str, described: Sequence[Band], kinds: Sequence[str]) -> list[Band]:
    """Bands of a name, of previews only where no other has it."""
    for is_preview in (False, True):
        for kind in kinds:
            bands = [band for band in described if band.is_preview == is_preview]
            if bands := [band for band in bands if getattr(band, kind).casefold() == word.casefold()]:
                return bands
    return []


def _one(bands: Sequence[Band], word: str, path: str | Path) -> Band:
    """The one of several bands of one name that has the finest resolution."""
    sizes = [_number(band, "gsd", path) or _number(band, "spatial_resolution", path) for band in bands]
    known = [size for size in sizes if size is not None]
    if len(known) == len(bands):
        bands = [band for band, size in zip(bands, known, strict=True) if size == min(known)]
    if len(bands) > 1:
        assets = ", ".join(band.asset for band in bands)
        raise ArchiveError(f"'{path}': '{word}' is in several assets ({assets}): name the asset that you mean")
    return bands[0]


def _listed(described: Sequence[Band]) -> str:
    """Assets and their bands, for messages."""
    names: dict[str, list[str]] = {}
    for band in described:
        extra = f" = {band.common_name}" if band.common_name and band.common_name != band.name else ""
        names.setdefault(band.asset, []).append(band.name + extra)
    return "; ".join(f"{asset} ({', '.join(bands)})" for asset, bands in names.items()) or "none"


def _sources(band: Band, path: str | Path) -> list[BandFile]:
    """A band's place in its file; all of the file's bands where they are not described."""
    file = _gdal_name(band.href, f"'{path}', asset {band.asset}")
    scale, offset, nodata = (_number(band, name, path) for name in ("scale", "offset", "nodata"))
    source = BandFile(file, band.number, band.name, 1.0 if scale is None else scale, offset or 0.0, nodata)
    if band.number:
        return [source]
    with open_file(file) as dataset:
        numbers = picture_bands(dataset)
    names = [band.name if len(numbers) == 1 else f"{band.name}:{number}" for number in numbers]
    return [replace(source, band=number, name=name) for number, name in zip(numbers, names, strict=True)]


def _number(band: Band, name: str, path: str | Path) -> float | None:
    value = band.fields.get(name)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError) as error:
        raise ArchiveError(f"'{path}', asset {band.asset}: {name} {value!r} is no number: mend the item") from error


def _gdal_name(href: str, where: str) -> str:
    """A path, or the name by which GDAL reads from elsewhere."""
    parts = urlsplit(href)
    if not parts.scheme:
        return href
    if parts.scheme == "file":
        return unquote(parts.path)
    if parts.scheme not in SCHEMES:
        raise ArchiveError(f"{where}: '{href}' cannot be read; possible are paths, file, {', '.join(SCHEMES)}")
    return SCHEMES[parts.scheme] + (href if SCHEMES[parts.scheme] == "/vsicurl/" else parts.netloc + parts.path)


def _offset_is_applied(item: Any) -> bool:  # noqa: ANN401
    return any(name.endswith(":boa_offset_applied") and value is True for name, value in item.properties.items())


def _taken(item: Any) -> tuple[datetime | None, str]:  # noqa: ANN401
    """When the item was taken, or began to be, and where it says so."""
    start = item.common_metadata.start_datetime
    taken, origin = (item.datetime, "datetime") if item.datetime else (start, "start_datetime")
    return taken.replace(tzinfo=taken.tzinfo or UTC).astimezone(UTC) if taken else None, f"STAC {origin}"
