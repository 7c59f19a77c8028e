"""How maps of a scene are made, by name, and the maps of one scene for any number of queries."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rsretrieval.localization.cells import embed_cells
from rsretrieval.localization.grid import Windows, windows
from rsretrieval.localization.heat import MOST_PIXELS, Heat, Smoothing, heat_map, shrink_of
from rsretrieval.localization.parts import Rows
from rsretrieval.localization.scene import SCALES, OpenScene, SceneWindows, embed_windows

REFINED = 0.15
"""Of the coarse windows, those that are looked into."""


class MethodError(ValueError):
    """A way to make maps that there is not."""


@dataclass(frozen=True)
class Method:
    """How a map is made.

    Attributes:
        scales: sides of windows in pixels; empty for a tower's tokens.
        fine: sides of windows that are added where the best of the others lie, query by query.
        smoothing: of the map; None for a Gaussian as wide as two cells, of tokens.
        side: of the windows that tokens are taken from; None for the model's image size.
    """

    scales: tuple[int, ...] = SCALES
    fine: tuple[int, ...] = ()
    smoothing: Smoothing | None = Smoothing()  # noqa: RUF009 - frozen
    side: int | None = None

    @property
    def takes_tokens(self) -> bool:
        """Whether the map is one of a tower's tokens."""
        return not self.scales


GAUSSIAN = Smoothing("gaussian", 255)
PRESETS = {
    "paper": Method(),
    "small_windows": Method((128, 256, 512), smoothing=GAUSSIAN),
    "coarse_to_fine": Method((512,), (128, 256), GAUSSIAN),
}
"""Of tiles: FISVL's and its sources'; what others published as better; and one after SeLo v2."""
TOKENS = Method((), smoothing=None)


def method_of(
    method: str = "tiles", preset: str | None = None, scales: list[int] | None = None, smooth: str | None = None
) -> Method:
    """A way to make maps, with sides of windows (of tokens one) and a smoothing of one's own.

    Args:
        method: ``tiles`` or ``tokens``.
        preset: of tiles, one of :data:`PRESETS`; None for ``paper``.
        scales: in pixels; None for the preset's.
        smooth: see :class:`rsretrieval.localization.heat.Smoothing`; None for the preset's.

    Raises:
        MethodError: for an unknown preset, or one of tokens, several sides for tokens, or sides that are none.
        SmoothingError: for a smoothing that is not understood.
    """
    if method == "tokens" and preset is not None:
        raise MethodError(f"the preset '{preset}' is of tiles: leave it out for tokens")
    if preset is not None and preset not in PRESETS:
        raise MethodError(f"there is no preset '{preset}': give one of {', '.join(PRESETS)}")
    chosen = TOKENS if method == "tokens" else PRESETS[preset or "paper"]
    if smooth is not None:
        chosen = replace(chosen, smoothing=Smoothing.parse(smooth))
    if not scales:
        return chosen
    if min(scales) < 2:
        raise MethodError(f"scales={scales}: give sides of windows of 2 pixels or more")
    if not chosen.takes_tokens:
        if min(scales) <= max(chosen.fine, default=0):
            raise MethodError(
                f"scales={scales}: coarse windows are larger than the fine ones of {preset}, {list(chosen.fine)}"
            )
        return replace(chosen, scales=tuple(scales))
    if len(scales) > 1:
        raise MethodError(f"scales={scales}: tokens are taken from windows of one size; give one")
    return replace(chosen, side=scales[0])


class Localizer:
    """Maps of a scene: its windows, or its cells, are embedded when this is made, or were before.

    Args:
        scene: with its model.
        method: see :class:`Method`.
        progress: show a bar.

    Raises:
        TokensError: for tokens of a model whose tokens do not tell.
        SmoothingError: for a median that is too large for the scene.
        ArchiveError: if there is no pixel with data.
        BrokenImageError: if the scene cannot be read.
    """

    def __init__(self, scene: OpenScene, method: Method | None = None, *, progress: bool = True) -> None:
        self.scene, self.method, self.progress = scene, method or Method(), progress
        if self.method.smoothing is not None:
            self.method.smoothing.side(shrink_of(*scene.size))  # refused before anything is embedded
        if self.method.takes_tokens:
            self.windows = embed_cells(scene, self.method.side, progress=progress)
        else:
            self.windows = embed_windows(scene, self.method.scales, progress=progress)

    @property
    def reach(self) -> int:
        """How far peaks are apart at least, in pixels."""
        side = self.method.side or self.scene.retriever.image_size
        return min([*self.method.scales, *self.method.fine] or [side])

    def heat(self, query: str | NDArray[np.float32], most_pixels: int = MOST_PIXELS) -> Heat:
        """Where it is.

        Args:
            query: a sentence, or an embedding ``(d,)``, L2-normalised.
            most_pixels: of the map.
        """
        vector = self.scene.retriever.encode_texts([query])[0].numpy() if isinstance(query, str) else query
        return heat_map(self.windows_for(vector), vector, self.smoothing, most_pixels)

    @property
    def smoothing(self) -> Smoothing:
        """Of the method, or for cells."""
        if self.method.smoothing is not None:
            return self.method.smoothing
        left, _, right, _ = self.windows.places[0]
        return Smoothing("gaussian", int(2 * (right - left) // 2 * 2 + 1))

    def windows_for(self, query: NDArray[np.float32]) -> SceneWindows:
        """The windows that a query is compared with, those of a fine scale where the best of the coarse lie."""
        coarse = self.windows
        if not self.method.fine:
            return coarse
        best = np.argsort(coarse.vectors @ query)[-math.ceil(REFINED * len(coarse.places)) :]
        chosen = _centred_in(windows(coarse.width, coarse.height, self.method.fine), coarse.places[best])
        if not len(chosen):
            return coarse
        fine = embed_windows(self.scene, self.method.fine, chosen, progress=self.progress)
        places, vectors = ((getattr(coarse, name), getattr(fine, name)) for name in ("places", "vectors"))
        return coarse._replace(places=np.concatenate(places), vectors=np.concatenate(vectors))


def _centred_in(places: Windows, areas: Windows) -> Rows:
    """Numbers of those whose centre lies in one of the areas."""
    x, y = (places[:, :2] + places[:, 2:]).T / 2
    inside = np.zeros(len(places), bool)
    for left, top, right, bottom in areas.tolist():
        inside |= (left <= x) & (x < right) & (top <= y) & (y < bottom)
    return np.flatnonzero(inside)
