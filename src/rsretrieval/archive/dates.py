"""The date of a row: of a table or the files' names where one is given, else of a scene or the file's tags."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from rsretrieval.archive.rasters.dates import Dated, expression, from_pattern, from_tags, read_csv
from rsretrieval.archive.rasters.raster import Raster
from rsretrieval.archive.rasters.scenes import Scene
from rsretrieval.embeddings import ArchiveError

log = logging.getLogger(__name__)
EXIF_IFD, DATE, OFFSET, TIFF_DATE = 0x8769, 0x9003, 0x9011, 306


@dataclass
class Dates:
    """Where dates are from.

    Attributes:
        table: date by source; empty without one.
        pattern: of file names; None without one.
    """

    table: dict[str, Dated] = field(default_factory=dict)
    pattern: str | None = None
    _said: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, dates: str | None) -> Dates:
        """From a CSV or a pattern.

        Raises:
            ArchiveError: if it is not understood.
        """
        if dates is None:
            return cls()
        file = Path(dates).expanduser()
        if file.suffix.lower() == ".csv" or file.is_file():
            return cls(read_csv(file))
        if "%" not in dates:
            raise ArchiveError(
                f"--dates '{dates}' is neither a CSV with the columns source,datetime nor a pattern of file names such "
                "as '*_%Y%m%d_*'"
            )
        expression(dates)
        return cls(pattern=dates)

    def stated(self, name: str) -> Dated | None:
        """That of the table or of the name."""
        if name in self.table:
            return self.table[name]
        if self.pattern is not None:
            try:
                return from_pattern(name, self.pattern)
            except ArchiveError as error:
                if not self._said:
                    self._said.append(name)
                    log.warning("--dates: %s; for such files the date of their tags is taken, if they have one", error)
        return None

    def of_picture(self, name: str, image: object) -> Dated | None:
        """Of a file or encoded bytes that Pillow opens."""
        return self.stated(name) or from_tags(_exif(image), name)

    def of_raster(self, name: str, raster: Raster, scene: Scene | None) -> Dated | None:
        """Of a raster, or the scene that it is made of."""
        dated = self.stated(name)
        if dated is None and scene is not None and scene.datetime is not None:
            dated = Dated(scene.datetime, scene.datetime_origin)
        return dated or from_tags(raster.tags, name)


def _exif(image: object) -> dict[str, str]:
    """Tags of a picture by GDAL's names."""
    content: Any = image.get("bytes") or image.get("path") if isinstance(image, dict) else image
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as picture:
            exif = picture.getexif()
            own = exif.get_ifd(EXIF_IFD)
    except Exception:  # what opens by GDAL or OpenCV alone has no EXIF; what does not open is told of elsewhere
        return {}
    tags = {"EXIF_DateTimeOriginal": own.get(DATE), "EXIF_OffsetTimeOriginal": own.get(OFFSET)}
    return {name: str(value) for name, value in {**tags, "TIFFTAG_DATETIME": exif.get(TIFF_DATE)}.items() if value}
