"""Tests of the synthetic scenes: reproducible, balanced, described in full, and drawn as described."""

import pickle
import random
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from rsretrieval.data.datasets.synthetic import SCENES, Scene, render, sample_scene
from rsretrieval.data.datasets.synthetic.canvas import COUNTS, PALETTE, PLACES, SIDES

SIZE = 96
ALL = [sample_scene(seed) for seed in range(2800)]


def scenes(label: str, number: int = 30) -> Iterator[Scene]:
    """The first scenes of a class whose objects are not white (white is a matter of brightness, not of hue)."""
    found = [scene for scene in ALL if scene.label == label and dict(scene.details).get("colour") != "white"]
    assert len(found) >= number
    return iter(found[:number])


def mask(image: Image.Image, colour: str) -> np.ndarray:
    """Where an image has the hue of a palette colour, whatever the light."""
    pixels = np.asarray(image, np.float64)
    wanted = np.array(PALETTE[colour], np.float64)
    cosine = pixels @ wanted / (np.linalg.norm(pixels, axis=2) * np.linalg.norm(wanted) + 1e-9)
    found: np.ndarray = (cosine > 0.975) & (pixels.max(axis=2) > 0.45 * wanted.max())
    return found


def components(where: np.ndarray, least: int = 8) -> int:
    """The number of 8-connected regions of at least ``least`` pixels, by flood fill."""
    todo = {(int(y), int(x)) for y, x in np.argwhere(where)}
    number = 0
    while todo:
        stack, area = [todo.pop()], 0
        while stack:
            y, x = stack.pop()
            area += 1
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= near
            stack.extend(near)
        number += area >= least
    return number


def centroid(where: np.ndarray) -> tuple[float, float]:
    """The mean x and y of a mask, from -1 (left, top) to 1."""
    y, x = np.argwhere(where).mean(axis=0) / (SIZE / 2) - 1
    return float(x), float(y)


def test_same_seed_gives_same_scene_and_pixels_whatever_the_global_state() -> None:
    """Equal seeds give equal captions and pixels, and the global generators neither matter nor move."""
    np.random.seed(1)
    random.seed(1)
    first = [(scene, render(scene, 64).tobytes()) for scene in map(sample_scene, range(30))]
    np.random.seed(2)
    random.seed(2)
    state = str(np.random.get_state())
    again = [(scene, render(scene, 64).tobytes()) for scene in map(sample_scene, range(30))]
    assert first == again
    assert str(np.random.get_state()) == state
    assert len({pixels for _, pixels in first}) == 30


def test_a_known_seed_gives_the_known_scene() -> None:
    """A change of the sampling order, which would change every data set drawn from seeds, is noticed."""
    scene = sample_scene(7)
    assert scene.label == "beach"
    assert scene.details == (("n", "four"), ("colour", "purple"), ("side", "bottom"))
    assert scene.captions[0] == "four purple umbrellas can be seen in this shore ."


def test_scene_survives_pickling_and_renders_at_any_size() -> None:
    """A scene can be sent to a worker process, and drawn at any size."""
    scene = pickle.loads(pickle.dumps(ALL[0]))
    assert scene == ALL[0]
    for size in (32, 97):
        image = render(scene, size)
        assert (image.mode, image.size) == ("RGB", (size, size))


def test_every_class_is_reached_about_equally_often() -> None:
    """The label distribution is near uniform over all classes."""
    assert len(SCENES) >= 14
    assert all(re.fullmatch("[a-z]+", label) for label in SCENES)
    tally = Counter(scene.label for scene in ALL)
    assert set(tally) == set(SCENES)
    expected = len(ALL) / len(SCENES)
    assert all(0.65 * expected < number < 1.35 * expected for number in tally.values())


@pytest.mark.parametrize("label", SCENES)
def test_details_are_drawn_uniformly_and_independently_of_each_other(label: str) -> None:
    """No detail gives away another."""
    found = [dict(scene.details) for scene in ALL if scene.label == label]
    for name in found[0]:
        tally = Counter(details[name] for details in found)
        assert min(tally.values()) > 0.4 * len(found) / len(tally)
    names = list(found[0])
    pairs = {(details[names[0]], details[names[1]]) for details in found}
    assert len(pairs) >= 0.9 * len({p[0] for p in pairs}) * len({p[1] for p in pairs})


def test_five_captions_that_name_all_details_and_no_wrong_count() -> None:
    """Captions are plain text; together they name every detail and never another count."""
    for scene in ALL:
        assert len(scene.captions) == 5
        details = dict(scene.details)
        for caption in scene.captions:
            assert re.fullmatch(r"[a-z][a-z ,]* \.", caption), caption
            assert "  " not in caption
            assert 1 <= sum(value in caption for _, value in scene.details)
            named = set(caption.split()) & set(COUNTS)
            assert named <= {details.get("n")}
        together = " ".join(scene.captions)
        assert all(re.search(rf"\b{value}\b", together) for _, value in scene.details), scene


def test_scenes_of_a_class_differ_by_their_captions() -> None:
    """Captions tell images of a class apart, with a moderate vocabulary."""
    for label in SCENES:
        found = [frozenset(scene.captions) for scene in ALL if scene.label == label]
        assert len(set(found)) >= 0.98 * len(found)
    assert len({frozenset(scene.captions) for scene in ALL[:200]}) >= 199
    words = Counter(word for scene in ALL for caption in scene.captions for word in caption.split())
    assert 100 <= len(words) <= 200


@pytest.mark.parametrize("label", ["harbour", "storagetanks", "beach"])
def test_named_number_of_objects_is_seen(label: str) -> None:
    """The regions of the named colour are as many as the caption says."""
    for scene in scenes(label):
        details = dict(scene.details)
        assert components(mask(render(scene, SIZE), details["colour"])) == COUNTS.index(details["n"]) + 1, scene


@pytest.mark.parametrize("label", ["storagetanks", "courts", "farmland"])
def test_objects_are_seen_in_the_named_place(label: str) -> None:
    """The centroid of the named colour lies in the named part of the image."""
    for scene in scenes(label):
        details = dict(scene.details)
        seen = centroid(mask(render(scene, SIZE), details["colour"]))
        assert [round(value / 0.44) for value in seen] == list(PLACES[details["where"]]), scene


def test_sea_is_seen_on_the_named_side() -> None:
    """The centroid of the water lies on the named side."""
    for scene in scenes("beach"):
        x, y = centroid(mask(render(scene, SIZE), "water"))
        side = ("left" if x < 0 else "right") if abs(x) > abs(y) else ("top" if y < 0 else "bottom")
        assert side in SIDES
        assert side == dict(scene.details)["side"]


def test_named_number_and_orientation_of_panel_rows_are_seen() -> None:
    """The rows of panels, counted across the named orientation, are as many as the caption says."""
    for scene in scenes("solarfarm"):
        details = dict(scene.details)
        panels = mask(render(scene, SIZE), "panel")
        profile = panels.mean(axis=1 if details["orientation"] == "horizontal" else 0) > 0.5
        assert int((np.diff(profile.astype(int)) == 1).sum()) == COUNTS.index(details["n"]) + 1, scene


def test_large_ships_are_larger_than_small_ones() -> None:
    """Size is told by the area of an object."""
    areas: dict[str, list[float]] = {"small": [], "large": []}
    for scene in scenes("harbour"):
        details = dict(scene.details)
        number = COUNTS.index(details["n"]) + 1
        areas[details["size"]].append(float(mask(render(scene, SIZE), details["colour"]).sum()) / number)
    assert min(areas["large"]) > 1.5 * max(areas["small"])
