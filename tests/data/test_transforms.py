"""Each operation against Pillow's or torchvision's, or a slow reference."""

import math
from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torchvision.transforms.v2 import functional as F  # noqa: N812

from rsretrieval.data import randaugment as r
from rsretrieval.data import transforms as t
from rsretrieval.images import resize

PICTURE = Image.effect_mandelbrot((61, 48), (-2, -1, 1, 1), 40)
IMAGE = np.stack([np.asarray(PICTURE), np.asarray(PICTURE.rotate(30)), np.asarray(PICTURE) // 3 + 40], axis=2)
PIL = Image.fromarray(IMAGE)


def test_contrast_and_equalize_are_pillows() -> None:
    assert (r.auto_contrast(IMAGE) == np.asarray(ImageOps.autocontrast(PIL))).all()
    assert (r.equalize(IMAGE) == np.asarray(ImageOps.equalize(PIL))).all()
    flat = np.full((8, 8, 3), 7, np.uint8)
    assert (r.auto_contrast(flat) == flat).all()
    assert (r.equalize(flat) == flat).all()


@pytest.mark.parametrize("magnitude", [0.21, -0.21])
def test_brightness_and_sharpness_are_pillows(magnitude: float) -> None:
    bright = np.asarray(ImageEnhance.Brightness(PIL).enhance(1 + magnitude)).astype(int)
    assert abs(r.brightness(IMAGE, magnitude) - bright).max() <= 1
    sharp = np.asarray(ImageEnhance.Sharpness(PIL).enhance(1 + magnitude)).astype(int)
    assert abs(r.sharpness(IMAGE, magnitude) - sharp)[1:-1, 1:-1].max() <= 1  # at the edge Pillow does not smooth


@pytest.mark.parametrize("magnitude", [0.07, -0.07])
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        (r.shear_x, lambda m: {"shear": [math.degrees(math.atan(m)), 0.0], "center": [0, 0]}),
        (r.shear_y, lambda m: {"shear": [0.0, math.degrees(math.atan(m))], "center": [0, 0]}),
        (r.translate_x, lambda m: {"translate": [round(m * 61), 0]}),
        (r.translate_y, lambda m: {"translate": [0, round(m * 48)]}),
        (r.rotate, lambda m: {"angle": 100 * m}),
    ],
)
def test_warps_are_torchvisions(operation: Callable, arguments: Callable, magnitude: float) -> None:
    """Either direction will do, since both are drawn; a pixel may round the other way."""
    given = {"angle": 0.0, "translate": [0, 0], "scale": 1.0, "shear": [0.0, 0.0]} | arguments(magnitude)
    wanted = F.affine(torch.from_numpy(IMAGE).permute(2, 0, 1), **given).permute(1, 2, 0).numpy()
    scale = 100 if operation is r.rotate else 1
    agree = max((operation(IMAGE, sign * scale * magnitude) == wanted).mean() for sign in (1, -1))
    assert agree > 0.93
    assert not (IMAGE == wanted).mean() > 0.9


def test_resize_is_pillows_where_it_shrinks_and_near_it_where_it_enlarges() -> None:
    smaller = resize(IMAGE, 20)
    assert (smaller == np.asarray(PIL.resize((20, 20), Image.Resampling.BICUBIC))).all()
    smooth = np.asarray(Image.fromarray(smaller).resize((30, 30), Image.Resampling.BICUBIC))
    wanted = np.asarray(Image.fromarray(smooth).resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
    assert abs(resize(smooth, 40) - wanted).mean() < 4
    assert resize(smaller, 20) is smaller


def test_crops_have_the_fractions_that_they_should() -> None:
    """Of an image whose value is its row and column, a crop's range of values is its size."""
    rng = Random(0)
    ramp = np.stack(np.broadcast_arrays(np.arange(200)[:, None], np.arange(200)[None, :], 0), axis=2).astype(np.uint8)
    spans = []
    for _ in range(200):
        out = t.RandomResizedCrop(200)(ramp, rng)
        spans.append([np.ptp(out[..., channel].astype(int)) + 1 for channel in (0, 1)])
        assert out.shape == (200, 200, 3)
    height, width = np.array(spans).T
    fraction = height * width / 200**2
    assert 0.47 < fraction.min() < 0.55
    assert 0.93 < fraction.max() <= 1.02
    assert 0.7 < (width / height).min() < 0.85
    assert 1.2 < (width / height).max() < 1.4


def test_erasing_and_masking() -> None:
    rng = Random(0)
    white = np.full((64, 64, 3), 255, np.uint8)
    erased = [float((t.RandomErasing(p=1)(white, rng) == 0).mean()) for _ in range(100)]
    assert 0.08 < min(erased) < 0.12
    assert 0.18 < max(erased) < 0.22
    masked = t.GridMask(p=1)(white, rng)
    black = (masked == 0).all(2)
    assert (black == black.any(1)[:, None] & black.any(0)[None, :]).all()  # squares in a grid
    assert 0.1 < black.mean() < 0.4
    assert (white == 255).all()
    assert all((op(white, rng) == white).all() for op in (t.RandomErasing(p=0), t.GridMask(p=0), t.RandomBlur(p=0)))
    blurred = t.RandomBlur(p=1)(IMAGE, rng)
    assert blurred.astype(int).std() < IMAGE.std()


def test_turns_and_flips_give_all_eight_and_all_four() -> None:
    rng = Random(0)
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    turned = {t.QuarterTurn()(t.RandomFlip(axis=1)(image, rng), rng).tobytes() for _ in range(100)}
    flipped = {t.RandomFlip(axis=0)(t.RandomFlip(axis=1)(image, rng), rng).tobytes() for _ in range(100)}
    assert (len(turned), len(flipped)) == (8, 4)
    torch.manual_seed(0)
    for name, count in (("turns", 8), ("flips", 4), ("none", 1)):
        augmentation = t.training(name, 2)
        assert len({augmentation(Image.fromarray(image)).tobytes() for _ in range(100)}) == count


def test_draws_follow_torchs_seed() -> None:
    pipeline = t.training("rsicd", 32)
    outs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outs.append(np.stack([pipeline(PIL) for _ in range(5)]))
    assert (outs[0] == outs[1]).all()
    assert not (outs[0] == outs[2]).all()
