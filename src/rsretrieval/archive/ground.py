"""The scale on the ground that a model knows, and how far tiles are from it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

log = logging.getLogger(__name__)

METRES_A_PIXEL = {
    "ucm": (0.3, 0.3),  # Yang and Newsam, 2010: one foot
    "sydney": (0.5, 0.5),  # Zhang et al., 2015
    "nwpu": (0.2, 30.0),  # Cheng et al., Proceedings of the IEEE, 2017
    "aid": (0.5, 8.0),  # Xia et al., IEEE TGRS, 2017
    "eurosat": (10.0, 10.0),  # Helber et al., IEEE JSTARS, 2019
    "rsicd": (0.5, 8.0),  # inferred: its authors state none; its 30 scenes are those of AID
    "rsitmd": (0.5, 8.0),  # inferred likewise
    "ret3": (0.3, 8.0),  # of its three sets
}
"""Least and largest of the images of a data set, as their authors publish them."""
FAR = 2.0
"""Factor beyond what training saw that is worth a word."""


class TrainingScale:
    """Tells once if tiles are of a scale that training did not see.

    Args:
        trained_on: names of the data sets that the model was trained on.
    """

    def __init__(self, trained_on: Sequence[str] = ()) -> None:
        ranges = [METRES_A_PIXEL[name] for name in trained_on if name in METRES_A_PIXEL]
        self.least = min((low for low, _ in ranges), default=0.0)
        self.largest = max((high for _, high in ranges), default=float("inf"))
        self._names = [name for name in trained_on if name in METRES_A_PIXEL]
        self._said = False

    def check(self, name: str, metres: float) -> None:
        """Warn of the first tile of ``metres`` a pixel of the model that is far from what training saw."""
        if self._said or self.least / FAR <= metres <= self.largest * FAR:
            return
        self._said = True
        log.warning(
            "%s: the model sees %.3g m a pixel, and it was trained on %s, of %g to %g m: answers may be poor. Tiles of "
            "another --tile, or another --gsd, change the scale (said once)",
            name, metres, ", ".join(self._names), self.least, self.largest,
        )  # fmt: skip
