"""Models: where weights come from, and the modules of the method."""

from rsretrieval.models.fgis import FGIS

__all__ = ["FGIS"]
