"""What is embedded as one: a picture, an image inside of a file, a tile of a raster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray
from PIL import Image

from rsretrieval.archive.dates import Dates
from rsretrieval.archive.ground import TrainingScale
from rsretrieval.archive.hub import opened
from rsretrieval.archive.inputs import HUB, Input
from rsretrieval.archive.options import Options
from rsretrieval.archive.rasters.dates import Dated
from rsretrieval.archive.rasters.raster import Raster, is_raster, open_raster
from rsretrieval.archive.rasters.scenes import Scene
from rsretrieval.archive.rasters.tiles import Tile
from rsretrieval.archive.tables import Member, ParquetImages, TarImages
from rsretrieval.embeddings import ArchiveError, Row
from rsretrieval.images import BrokenImageError, Rendering, RenderingError, Scale, decode
from rsretrieval.images.samples import samples
from rsretrieval.lazy import needs
from rsretrieval.recent import Recent

UNREADABLE = (BrokenImageError, ArchiveError, OSError)
"""What is raised of an input or a piece that cannot be read."""
OPEN = 64
"""Files that stay open, the last that were read."""


class Piece(NamedTuple):
    """A picture or tile that is not read yet; it pickles.

    Attributes:
        id: of its row.
        input: the file.
        part: of it; None for all.
    """

    id: str
    input: Input
    part: Tile | Member | None = None


class Loaded(NamedTuple):
    """A row without its embedding, and what the model sees: ``(S, S, 3)``."""

    row: Row
    square: NDArray[Any]


class OpenRaster(NamedTuple):
    """A raster, how its values become a picture, and what its scene says of its date."""

    raster: Raster
    rendering: Rendering
    dated: Dated | None


class Viewer(Protocol):
    """What sees the pictures, such as :class:`rsretrieval.Retriever`.

    Attributes:
        image_size: side of the square that it sees, in pixels.
        channels: of it, 3 unless it sees bands as they are.
        rendering: how values become RGB.
    """

    image_size: int
    rendering: Rendering

    @property
    def channels(self) -> int: ...  # noqa: D102

    def square_of(self, image: object, rendering: Rendering | None = None) -> NDArray[Any]:
        """What it sees of a picture or an array."""


class Reader:
    """Inputs to pieces, and pieces to what a model sees; several threads may load at once.

    Args:
        viewer: the model.
        options: how images become rows.
        known: the scale on the ground that the model knows; None if that is not known.

    Raises:
        ArchiveError: if the options are not understood.
    """

    def __init__(self, viewer: Viewer, options: Options, known: TrainingScale | None = None) -> None:
        self.viewer, self.options, self.known = viewer, options, known or TrainingScale()
        self.tiling = options.tiling(viewer.image_size)
        self.dates = Dates.read(options.dates)
        self._open: Recent[tuple[str, str], Any] = Recent(OPEN)  # what is let go closes when no thread reads it

    def pieces(self, item: Input) -> Iterator[Piece]:
        """The pieces of an input, always in the same order; nothing is read but what says how many there are.

        Raises:
            BrokenImageError: if it cannot be read.
        """
        if self.options.bands and not self.options.numbers and item.kind not in ("safe", "stac"):
            raise RenderingError(
                f"--bands '{self.options.bands}': bands have names in .SAFE and STAC items alone; give numbers "
                'from 1, such as "4 3 2"'
            )
        if item.kind in ("parquet", "tar"):
            for member in self._table(item).members():
                yield Piece(f"{item.name}::{member.name}", item, member)
        elif self._is_whole(item):
            yield Piece(item.name, item)
        else:
            raster = self._raster(item).raster
            metres = raster.resolution()
            for number, tile in enumerate(raster.tiles(self.tiling)):
                if number == 0 and metres is not None:
                    self.known.check(item.name, metres[0] * tile.width / self.viewer.image_size)
                corners = (tile.left, tile.top, tile.left + tile.width, tile.top + tile.height)
                yield Piece(f"{item.name}#{','.join(map(str, corners))}", item, tile)

    def raster(self, item: Input) -> Raster:
        """The raster that an input is, open.

        Raises:
            BrokenImageError: if GDAL cannot open it.
        """
        return self._raster(item).raster

    def picture(self, item: Input, tile: Tile) -> Image.Image | None:
        """A window of a raster as a person sees it; None for nothing but no data.

        Raises:
            BrokenImageError: if it cannot be read.
        """
        raster, rendering, _ = self._raster(item)
        values = raster.read(tile, list(rendering.bands))
        return None if values is None else decode(values, replace(rendering, bands=()))

    def _is_whole(self, item: Input) -> bool:
        if item.kind not in ("picture", "raster"):
            return False
        if self.options.tile is not None or item.place.startswith(HUB):
            return item.place.startswith(HUB)
        return item.kind == "picture" or not is_raster(Path(item.place))

    def load(self, piece: Piece) -> Loaded | None:
        """Row and square of a piece; None for a tile of nothing but no data.

        Raises:
            BrokenImageError: saying what is wrong.
            OSError: if the file is gone.
        """
        if isinstance(piece.part, Tile):
            return self._tile(piece, piece.part)
        if isinstance(piece.part, Member):
            image = self._table(piece.input).image(piece.part)
        elif piece.input.place.startswith(HUB):
            with opened(piece.input.place) as content:
                image = content.read()
        else:
            image = piece.input.place
        return self._picture(piece, image)

    def _picture(self, piece: Piece, image: object) -> Loaded:
        if self.viewer.channels == 3:
            picture = decode(image, self.viewer.rendering)
            width, height = picture.size
            square = self.viewer.square_of(picture)
        else:
            values = samples(image)
            height, width = values.shape[:2]
            square = self.viewer.square_of(values)
        source = piece.id if piece.part is not None else piece.input.name
        row = Row(piece.id, source, (0, 0, width, height))
        return Loaded(_dated(row, self.dates.of_picture(piece.input.name, image)), square)

    def _tile(self, piece: Piece, tile: Tile) -> Loaded | None:
        raster, rendering, dated = self._raster(piece.input)
        bands = [] if self.viewer.channels != 3 else list(rendering.bands)
        values = raster.read(tile, bands)
        if values is None:
            return None
        footprint = raster.footprint(tile)
        row = Row(piece.id, piece.input.name, (tile.left, tile.top, tile.left + tile.width, tile.top + tile.height))
        if footprint is not None:
            row = row._replace(geometry=footprint.wkb, bbox=footprint.bbox)
        shown = replace(rendering, bands=()) if bands else rendering
        return Loaded(_dated(row, dated), self.viewer.square_of(values, shown))

    def _table(self, item: Input) -> ParquetImages | TarImages:
        kind: Callable[[str], Any] = ParquetImages if item.kind == "parquet" else TarImages
        return self._open.kept((item.kind, item.place), lambda: kind(item.place))  # type: ignore[no-any-return]

    def _raster(self, item: Input) -> OpenRaster:
        return self._open.kept((item.kind, item.place), lambda: self._open_raster(item))  # type: ignore[no-any-return]

    def _open_raster(self, item: Input) -> OpenRaster:
        needs("rasterio", "archive")
        scene = self._scene(item)
        raster = open_raster(scene.place if scene else item.place, item.name)
        rendering = self.viewer.rendering
        if scene is not None:
            preset = Scale.parse(scene.scale) if scene.scale and self.options.scale is None else rendering.scale
            rendering = Rendering(preset)
        if rendering.scale is not None:
            rendering = replace(rendering, scale=raster.limits(rendering.scale, rendering.bands))
        return OpenRaster(raster, rendering, self.dates.of_raster(item.name, raster, scene))

    def _scene(self, item: Input) -> Scene | None:
        if item.kind == "safe":
            from rsretrieval.archive.rasters.safe import read_safe

            return read_safe(item.place, self.options.bands)
        if item.kind == "stac":
            from rsretrieval.archive.rasters.stac import read_stac

            return read_stac(item.place, self.options.bands)
        return None


def reason_of(error: Exception) -> str:
    """Why something cannot be read, in words."""
    return str(error) or type(error).__name__


def _dated(row: Row, dated: Dated | None) -> Row:
    if dated is None:
        return row
    return row._replace(datetime=dated.datetime, datetime_origin=dated.origin)
