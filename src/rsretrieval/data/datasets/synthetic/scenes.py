"""Synthetic aerial scenes with captions: the data set embedded in the package, drawn on demand from a seed.

It poses fine-grained retrieval: scenes of one class share their look and are told apart only by details (counts,
colours, sizes, positions, orientations), each drawn independently, and every caption names one to three of them.
A scene class is one entry of ``_CLASSES``: its names, the values of its details, its phrases and its painter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from rsretrieval.data.datasets.synthetic import painters as paint
from rsretrieval.data.datasets.synthetic.canvas import CORNERS, COUNTS, ORIENTATIONS, PLACES, SIDES, Canvas, Details

_CORNERS, _PLACES = tuple(CORNERS), tuple(PLACES)
_SIDES, _COUNTS, _SIZES = tuple(SIDES), COUNTS, ("small", "large")
_STRAIGHT, _ANY = ("horizontal", "vertical"), tuple(ORIENTATIONS)
_BRIGHT = ("red", "blue", "white", "yellow", "purple")
_PHRASES = {
    **{name: f"in the {name}" for name in _PLACES},
    "left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom",
}  # fmt: skip
_FRAMES = (
    "a {place} with {facts} .",
    "this {place} has {facts} .",
    "the image/picture shows {facts} in a {place} .",
    "we can see {facts} in the {place} .",
    "{facts} can be seen in this {place} .",
    "there is a {place} with {facts} .",
    "seen from above , the {place} has {facts} .",
    "{facts} .",
)
_MOST = 3  # details in one caption
_COMPANY = 0.45  # chance that a caption also names another group of details


@dataclass(frozen=True)
class Scene:
    """What an image shows, before it is drawn.

    Attributes:
        label: scene class, one of ``SCENES``.
        captions: five captions, each naming one to three details, together all of them.
        details: the (name, value) pairs that tell scenes of the class apart; counts are spelt out.
        seed: the seed that the scene was sampled from; it also fixes the ground, clutter and light.
    """

    label: str
    captions: tuple[str, ...]
    details: tuple[tuple[str, str], ...]
    seed: int


@dataclass(frozen=True)
class _Class:
    """A scene class.

    ``phrases`` holds groups of noun phrases that name the same things; the first of a group names all of its details.
    ``a/b`` is a free choice of word; ``(s)`` and ``some`` follow the detail ``n``.
    """

    painter: Callable[[Canvas, Details], None]
    names: tuple[str, ...]
    details: dict[str, tuple[str, ...]]
    phrases: tuple[tuple[str, ...], ...]


_CLASSES: dict[str, _Class] = {
    "airport": _Class(
        paint.airport, ("airport", "airfield"),
        {"n": _COUNTS, "colour": _BRIGHT[:4], "orientation": _STRAIGHT, "where": _CORNERS},
        (("{n} {colour} plane/airplane(s)", "{n} plane(s)", "some {colour} plane(s)"), ("a {orientation} runway",),
         ("a terminal {where}",)),
    ),
    "harbour": _Class(
        paint.harbour, ("harbour", "port"),
        {"n": _COUNTS, "colour": ("red", "white", "yellow", "orange"), "size": _SIZES, "side": _SIDES},
        (("{n} {size} {colour} ship/boat(s)", "{n} ship/boat(s)", "{n} {colour} ship(s)", "some {size} ship(s)"),
         ("land {side}", "a quay {side}")),
    ),
    "storagetanks": _Class(
        paint.storagetanks, ("tank farm", "oil depot", "storage area"),
        {"n": _COUNTS, "colour": _BRIGHT, "size": _SIZES, "where": _PLACES},
        (("{n} {size} {colour} tank(s)", "{n} tank(s)", "some {colour} tank(s)", "{n} {size} tank(s)"),
         ("a paved yard {where}", "a yard {where}")),
    ),
    "farmland": _Class(
        paint.farmland, ("farmland", "farm"),
        {"n": _COUNTS[1:], "orientation": _STRAIGHT, "colour": ("red", "blue", "white"), "where": _PLACES},
        (("{n} {orientation} field/strip(s)", "{n} field(s)", "some {orientation} field(s)"),
         ("a {colour} barn {where}", "a {colour} barn", "a barn {where}")),
    ),
    "river": _Class(
        paint.river, ("river", "valley"),
        {"n": _COUNTS[:4], "orientation": _ANY, "colour": ("blue", "brown"), "cover": ("trees", "houses", "fields")},
        (("a {orientation} {colour} stream", "a {orientation} stream", "{colour} water"), ("{n} bridge(s)",),
         ("{cover} on the banks",)),
    ),
    "parking": _Class(
        paint.parking, ("car park", "parking lot"),
        {"fill": ("nearly empty", "half full", "full"), "colour": _BRIGHT[:4], "side": _SIDES},
        (("{fill} rows",), ("mostly {colour} cars",), ("a line/row of trees {side}", "trees {side}")),
    ),
    "courts": _Class(
        paint.courts, ("tennis club", "court area"),
        {"n": _COUNTS, "colour": ("red", "blue", "purple", "orange"), "where": _PLACES,
         "ground": ("grass", "sand", "concrete")},
        (("{n} {colour} court(s) {where}", "{n} court(s)", "{n} {colour} court(s)", "some court(s) {where}"),
         ("surrounding {ground}",)),
    ),
    "roundabout": _Class(
        paint.roundabout, ("roundabout", "traffic circle"),
        {"n": _COUNTS[2:], "size": _SIZES, "colour": ("red", "blue", "white", "yellow", "green"),
         "cars": _BRIGHT[:4]},
        (("{n} exit/road(s)",), ("a {size} {colour} island", "a {colour} island", "a {size} island"), ("{cars} cars",)),
    ),
    "stadium": _Class(
        paint.stadium, ("stadium", "sports ground"),
        {"orientation": _STRAIGHT, "track": ("red", "blue", "orange", "purple"), "stand": _BRIGHT, "side": _SIDES},
        (("a {orientation} {track} track", "a {track} running track", "a {orientation} track"),
         ("a {stand} stand {side}", "a {stand} stand", "a stand {side}")),
    ),
    "forest": _Class(
        paint.forest, ("forest", "wood"),
        {"density": ("dense", "sparse"), "orientation": _ANY, "colour": ("red", "blue", "white", "orange"),
         "where": _CORNERS},
        (("{density} trees",), ("a {orientation} path",),
         ("a {colour} hut {where}", "a {colour} hut", "a hut {where}")),
    ),
    "residential": _Class(
        paint.residential, ("residential area", "neighbourhood"),
        {"n": _COUNTS, "size": _SIZES, "colour": ("red", "blue", "white", "orange"), "orientation": _STRAIGHT},
        (("{n} {size} house(s) with {colour} roof(s)", "{n} {colour} roof(s)", "{n} house(s)", "some {size} house(s)"),
         ("a {orientation} street/road",)),
    ),
    "solarfarm": _Class(
        paint.solarfarm, ("solar farm", "solar plant"),
        {"n": _COUNTS, "orientation": _STRAIGHT, "ground": ("grass", "sand"), "where": _CORNERS},
        (("{n} {orientation} row(s) of panels", "{n} row(s) of panels", "some {orientation} row(s) of panels"),
         ("surrounding {ground}",), ("a white building {where}",)),
    ),
    "railway": _Class(
        paint.railway, ("railway", "railway line"),
        {"n": _COUNTS[:5], "orientation": _ANY, "size": ("short", "long"), "colour": _BRIGHT[:4]},
        (("{n} {orientation} track(s)", "{n} track(s)", "some {orientation} track(s)"),
         ("a {size} {colour} train", "a {colour} train", "a {size} train")),
    ),
    "beach": _Class(
        paint.beach, ("beach", "shore"),
        {"n": _COUNTS, "colour": ("red", "blue", "green", "purple", "orange"), "side": _SIDES},
        (("{n} {colour} umbrella(s)", "{n} umbrella(s)", "some {colour} umbrella(s)"), ("the sea/water {side}",)),
    ),
}  # fmt: skip

SCENES: tuple[str, ...] = tuple(_CLASSES)


def _pick(options: tuple[str, ...] | list[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _word(text: str, plural: bool, rng: np.random.Generator) -> str:
    text = re.sub(r"\w+(?:/\w+)+", lambda match: _pick(match[0].split("/"), rng), text)
    text = text.replace("(s)", "s") if plural else re.sub(r"\bsome\b", "a", text.replace("(s)", ""))
    return re.sub(r"\ba (?=[aeiou])", "an ", text)


def _facts(phrases: tuple[tuple[str, ...], ...], nth: int, rng: np.random.Generator) -> str:
    """The phrases of the ``nth`` caption, at most ``_MOST`` details; the first captions name one full group each."""
    order = rng.permutation(len(phrases)).tolist()
    if nth < len(phrases):
        order.remove(nth)
        facts = [phrases[nth][0]]
    else:
        facts = [_pick(phrases[order.pop()], rng)]
    for group in order:
        phrase = _pick(phrases[group], rng)
        if rng.random() < _COMPANY and sum(fact.count("{") for fact in [*facts, phrase]) <= _MOST:
            facts.insert(int(rng.integers(len(facts) + 1)), phrase)
    return " and ".join(facts) if len(facts) < 3 else " , ".join(facts[:-1]) + " and " + facts[-1]


def sample_scene(seed: int) -> Scene:
    """Samples a scene; the same seed gives the same scene everywhere. Nothing is drawn yet.

    Args:
        seed: a non-negative integer.
    """
    rng = np.random.default_rng(seed)
    label = _pick(SCENES, rng)
    kind = _CLASSES[label]
    details = {name: _pick(values, rng) for name, values in kind.details.items()}
    words = {name: _PHRASES.get(value, value) for name, value in details.items()}
    captions = []
    for k, frame in enumerate(rng.permutation(len(_FRAMES))[:5].tolist()):
        facts = _facts(kind.phrases, k, rng).format_map(words)
        text = _FRAMES[frame].format(place=_pick(kind.names, rng), facts=facts)
        captions.append(_word(text, details.get("n") != "one", rng))
    rng.shuffle(captions)
    return Scene(label, tuple(captions), tuple(details.items()), seed)


def render(scene: Scene, size: int) -> Image.Image:
    """Draws a scene from straight above; the same scene and size give the same pixels.

    Args:
        scene: what to draw.
        size: side of the square RGB image in pixels; details are legible from about 64.
    """
    canvas = Canvas(size, np.random.default_rng((scene.seed, 1)))
    _CLASSES[scene.label].painter(canvas, dict(scene.details))
    return canvas.finish()
