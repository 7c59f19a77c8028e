"""Every depth and number of bands: 8 bits as Pillow converts them, all others by the rule that is set, or refused."""

import io
import logging
import struct
import sys
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from wide import COLOUR, RAMP, THIRTEEN, check_thirteen_bands, first, png, tiff

from rsretrieval.images import BrokenImageError, Rendering, RenderingError, Scale, decode, is_plain
from rsretrieval.images.samples import samples


def colour(mode: str, value: object) -> Image.Image:
    return Image.new(mode, (2, 2), value)


def palette(**info: object) -> Image.Image:
    image = colour("P", 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.info.update(info)
    return image


EIGHT_BIT = {
    "1": (colour("1", 1), (255, 255, 255)),
    "L": (colour("L", 90), (90, 90, 90)),
    "LA": (colour("LA", (90, 10)), (90, 90, 90)),
    "La": (colour("LA", (200, 128)).convert("La"), (199, 199, 199)),  # 100 of 128, divided again
    "P": (palette(), (200, 100, 50)),
    "P, one colour transparent": (palette(transparency=1), (200, 100, 50)),
    "P, with transparencies": (palette(transparency=bytes([255, 0])), (200, 100, 50)),
    "PA": (palette().convert("PA"), (200, 100, 50)),
    "RGB": (colour("RGB", (200, 100, 50)), (200, 100, 50)),
    "RGBA": (colour("RGBA", (200, 100, 50, 0)), (200, 100, 50)),
    "RGBa": (colour("RGBA", (200, 100, 50, 255)).convert("RGBa"), (200, 100, 50)),
    "RGBX": (colour("RGBX", (200, 100, 50, 7)), (200, 100, 50)),
    "CMYK": (colour("CMYK", (0, 255, 255, 0)), (255, 0, 0)),
    "YCbCr": (colour("RGB", (200, 100, 50)).convert("YCbCr"), (199, 99, 49)),
    "HSV": (colour("HSV", (0, 255, 255)), (255, 0, 0)),
    "LAB": (colour("LAB", (255, 128, 128)), (254, 255, 254)),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency")
@pytest.mark.parametrize("mode", EIGHT_BIT)
@pytest.mark.parametrize("scale", [None, "percentile 2 98"])
def test_eight_bit_modes_are_what_pillow_shows_whatever_the_scale(mode: str, scale: str | None) -> None:
    image, expected = EIGHT_BIT[mode]
    assert image.mode == mode.split(",")[0]
    assert first(image, scale) == expected


def test_eight_bit_files_are_what_pillow_shows() -> None:
    def encoded(image: Image.Image, form: str) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, form)
        return buffer.getvalue()

    assert first(encoded(colour("CMYK", (0, 255, 255, 0)).resize((16, 16)), "JPEG")) == (255, 0, 0)
    assert first(encoded(colour("1", 1), "PNG")) == (255, 255, 255)
    assert first(encoded(palette(), "GIF")) == (200, 100, 50)
    assert first(encoded(colour("RGB", (200, 100, 50)), "BMP")) == (200, 100, 50)
    assert first(encoded(colour("L", 90), "TIFF")) == (90, 90, 90)
    assert first(tiff(np.full((2, 2, 3), 70, np.uint8), planes=2)) == (70, 70, 70)
    for bits, raw, grey in ((2, 0b01000000, 85), (4, 0b00110000, 51)):
        header = struct.pack(">IIBBBBB", 1, 1, bits, 0, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes([0, raw]))), (b"IEND", b""))
        file = b"".join(struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks)
        assert first(b"\x89PNG\r\n\x1a\n" + file) == (grey, grey, grey)


WIDE = {
    "I;16 in a TIFF": tiff(RAMP[..., None]),
    "int16 in a TIFF": tiff(RAMP[..., None].astype(np.int16)),
    "uint32 in a TIFF": tiff(RAMP[..., None].astype(np.uint32)),
    "int32 in a TIFF": tiff(RAMP[..., None].astype(np.int32)),
    "float32 in a TIFF": tiff(RAMP[..., None].astype(np.float32)),
    "float64 in a TIFF": tiff(RAMP[..., None].astype(np.float64)),
    "grey PNG": png(RAMP),
    "PGM": bytes(cv2.imencode(".pgm", RAMP)[1]),
    "I": Image.fromarray(RAMP.astype(np.int32)),
    "F": Image.fromarray(RAMP.astype(np.float32)),
    "I;16": Image.fromarray(RAMP),
    "I;16B": Image.frombytes("I;16B", (3, 1), RAMP.astype(">u2").tobytes()),
    "I;16L": Image.frombytes("I;16L", (3, 1), RAMP.astype("<u2").tobytes()),
    "an array": RAMP,
    "a big-endian array": RAMP.astype(">u2"),
    "a tensor": torch.tensor(RAMP.astype(np.int32)),
    "a tensor in half precision": torch.tensor(RAMP.astype(np.float32)).half(),
}


@pytest.mark.parametrize("name", WIDE)
def test_more_than_eight_bits_need_a_scale_and_follow_it(name: str) -> None:
    """300, 1,200, 3,000: a third of the way is 85; of 0 to 3,000 they are 25.5 and 102."""
    image = WIDE[name]
    with pytest.raises(
        RenderingError, match=r"1 band of \S+ with values from 300 to 3000, not 8 bits: .*--data\.scale"
    ):
        decode(image)
    for scale, greys in (
        ("minmax", [0, 85, 255]),
        ("minmax 0 3000", [26, 102, 255]),
        ("percentile 0 50", [0, 255, 255]),
    ):
        pixels = np.asarray(decode(image, Rendering.parse(scale)))
        assert pixels.shape == (1, 3, 3)
        assert pixels.dtype == np.uint8
        assert pixels[0, :, 0].tolist() == greys, scale
        assert (pixels == pixels[..., :1]).all()
    assert not is_plain(image)


@pytest.mark.parametrize(
    "image",
    [
        png(COLOUR),
        png(np.dstack([COLOUR[..., ::-1], COLOUR[..., :1]])[..., ::-1]),
        tiff(COLOUR),
        tiff(np.dstack([COLOUR, COLOUR[..., :1]])),
        tiff(COLOUR.astype(np.float32)),
        bytes(cv2.imencode(".ppm", COLOUR[..., ::-1])[1]),
        COLOUR,
    ],
    ids=["PNG", "PNG with alpha", "TIFF", "TIFF with infrared", "float TIFF", "PPM", "array"],
)
def test_wide_colour_is_not_cut_to_its_upper_bits(image: object) -> None:
    with pytest.raises(RenderingError, match=r"[34] bands of \w+ with values from 300 to 3000, not 8 bits"):
        decode(image)
    pixels = np.asarray(decode(image, Rendering.parse("minmax 300 3000")))
    assert pixels.tolist() == [[[0, 85, 255], [9, 94, 246]]]  # 100, 1,000, 2,600 of 2,700, by 255
    pixels = np.asarray(decode(image, Rendering.parse("minmax 300 3000", "3 2 1")))
    assert pixels.tolist() == [[[255, 85, 0], [246, 94, 9]]]


def test_dtype_takes_the_whole_range_of_the_type() -> None:
    assert first(np.array([[32768]], np.uint16), "dtype") == (128,) * 3  # 127.5019
    assert first(np.array([[0]], np.int16), "dtype") == (128,) * 3
    assert first(tiff(np.array([[[-128]]], np.int16)), "dtype") == (127,) * 3
    assert first(np.array([[0.2]]), "dtype") == (51,) * 3
    assert first(np.array([[True]]), None) == (255,) * 3
    with pytest.raises(
        RenderingError, match=r"'dtype' takes floats from 0 to 1, and these are -1 to 7: set another by"
    ):
        decode(np.array([[-1.0, 7.0]]), Rendering.parse("dtype"))


def test_percentiles_are_taken_over_the_chosen_bands() -> None:
    values = np.zeros((1, 101, 3), np.uint16)
    values[0, :, 0] = np.arange(101)
    grey = np.asarray(decode(values, Rendering.parse("percentile 20 80", "1")))[0, :, 0]
    assert grey[[0, 20, 50, 80, 100]].tolist() == [0, 0, 128, 255, 255]
    assert decode(np.full((2, 2), 7.0), Rendering.parse("minmax")).getpixel((0, 0)) == (0, 0, 0)


def test_what_is_no_number_is_refused_and_no_data_is_black() -> None:
    values = np.array([[0.0, np.nan, 2.0, 4.0]])
    for setting in (None, "minmax"):
        with pytest.raises(BrokenImageError, match=r"1 of 4 values are no numbers .* mark them as no data") as refusal:
            decode(values, Rendering.parse(setting))
        assert not isinstance(refusal.value, RenderingError)  # one picture's fault
    masked = np.ma.MaskedArray(values, np.isnan(values))
    assert np.asarray(decode(masked, Rendering.parse("minmax")))[0, :, 0].tolist() == [0, 0, 128, 255]
    file = tiff(np.array([[[-9999], [10], [20]]], np.float32), nodata="-9999")
    assert np.asarray(decode(file, Rendering.parse("minmax")))[0, :, 0].tolist() == [0, 0, 255]
    file = tiff(values[..., None].astype(np.float32), nodata="nan")
    assert np.asarray(decode(file, Rendering.parse("minmax")))[0, :, 0].tolist() == [0, 0, 128, 255]
    with pytest.raises(BrokenImageError, match="every pixel is marked as no data"):
        decode(np.ma.masked_all((2, 2)), Rendering.parse("minmax"))


def test_clipping_is_said_once_with_how_many(caplog: pytest.LogCaptureFixture) -> None:
    rendering = Rendering.parse("minmax 1000 2000")
    for _ in range(2):
        decode(RAMP, rendering)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "scale 'minmax 1000 2000': 2 of 3 values of a picture lie beyond it (they are 300 to 3000)" in caplog.text


def test_many_bands_need_a_package_and_their_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "rasterio", None)
    file = tiff(THIRTEEN)
    (tmp_path / "thirteen.tif").write_bytes(file)
    for source in (file, tmp_path / "thirteen.tif", str(tmp_path / "thirteen.tif"), {"bytes": file, "path": None}):
        with pytest.raises(
            RenderingError,
            match=r"it has 13 bands of uint16, which takes the package rasterio to read: .*--data\.bands",
        ):
            decode(source, Rendering.parse("minmax"))
    with pytest.raises(RenderingError, match="it has 3 bands of uint16, which takes the package rasterio"):
        decode(tiff(COLOUR, planes=2))
    with pytest.raises(RenderingError, match="it has 1 band of int8, which takes"):  # Pillow takes -5 for 251
        decode(tiff(np.array([[[-5]]], np.int8)))


def test_thirteen_bands_in_an_array() -> None:
    check_thirteen_bands(THIRTEEN)
    with pytest.raises(
        RenderingError, match=r"\(13, 14, 15\) is read as .* more bands than rows.*transpose\(1, 2, 0\)"
    ):
        decode(THIRTEEN.transpose(2, 0, 1), Rendering.parse("minmax", "4 3 2"))


def test_thirteen_bands_by_rasterio(tmp_path: Path) -> None:
    pytest.importorskip("rasterio")
    (tmp_path / "thirteen.tif").write_bytes(tiff(THIRTEEN))
    for source in (tiff(THIRTEEN), tmp_path / "thirteen.tif", tiff(THIRTEEN, planes=2)):
        check_thirteen_bands(source)
    holes = tiff(np.array([[[-9999, 1], [10, 1], [20, 1]]], np.float64), nodata="-9999")
    assert np.asarray(decode(holes, Rendering.parse("minmax", "1")))[0, :, 0].tolist() == [0, 0, 255]
    (tmp_path / "broken.tif").write_bytes(tiff(THIRTEEN)[:100] + b"\0" * 90)
    with pytest.raises(BrokenImageError):
        decode(tmp_path / "broken.tif", Rendering.parse("minmax", "4 3 2"))


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 3), ("int16", 4), ("uint8", 2)])
def test_gdal_writes_bands_that_others_leave_out_or_make_grey(tmp_path: Path, dtype: str, bands: int) -> None:
    rasterio = pytest.importorskip("rasterio")
    values = np.random.default_rng(0).integers(0, 127, (bands, 8, 8)).astype(dtype)
    settings = {"driver": "GTiff", "height": 8, "width": 8, "count": bands, "dtype": dtype}
    with warnings.catch_warnings(action="ignore"), rasterio.open(tmp_path / "a.tif", "w", **settings) as file:
        file.write(values)  # that it lies nowhere on earth
    np.testing.assert_array_equal(samples(str(tmp_path / "a.tif")), np.moveaxis(values, 0, -1))
    with pytest.raises(RenderingError, match=f"{bands} bands of {dtype}"):
        decode(tmp_path / "a.tif")


def test_thirteen_bands_by_what_stands_for_rasterio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where it is not installed, a stand-in that reads what it would."""

    class Dataset:
        def __enter__(self) -> "Dataset":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def read(self, *, masked: bool) -> NDArray:
            assert masked
            return np.ma.MaskedArray(THIRTEEN.transpose(2, 0, 1))

    monkeypatch.setitem(sys.modules, "rasterio", SimpleNamespace(open=lambda place: Dataset()))
    monkeypatch.setitem(sys.modules, "rasterio.io", SimpleNamespace(MemoryFile=io.BytesIO))
    (tmp_path / "thirteen.tif").write_bytes(tiff(THIRTEEN))
    for source in (tiff(THIRTEEN), tmp_path / "thirteen.tif"):
        check_thirteen_bands(source)


def test_every_form_of_a_picture_is_the_same() -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    image = Image.fromarray(values)
    forms = [image, png(values), bytearray(png(values)), values, torch.from_numpy(values), values[..., :3]]
    for form in forms:
        assert np.array_equal(np.asarray(decode(form)), values)
    assert np.array_equal(np.asarray(decode(np.dstack([values, values[..., 0]]))), values)  # a fourth is transparency
    assert np.array_equal(np.asarray(decode(values, Rendering.parse(None, "3,2,1"))), values[..., ::-1])
    assert first(values[..., 1]) == (1, 1, 1)
    assert first(torch.full((2, 2), 0.5, dtype=torch.bfloat16), "dtype") == (128, 128, 128)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, r"there is no image \(null\); possible are a picture, a path"),
        ({"bytes": None, "path": None}, "there is no image"),
        ({}, "there is no image"),
        ([[1, 2], [3, 4]], "a value of type list is no image; possible are a picture, a path"),
        (3, "a value of type int is no image"),
        ("nowhere.png", "No such file.*nowhere.png"),
        (b"no image", "in no format that Pillow knows"),
        (b"", "in no format that Pillow knows"),
        (b"II*\0", "in no format that Pillow knows"),
        (np.zeros((2, 2, 3, 1)), r"shape \(2, 2, 3, 1\) is no picture; possible are \(H, W\) and \(H, W, bands\)"),
        (np.zeros((0, 0, 3), np.uint8), "it has no value at all"),
        (np.zeros((2, 2, 2), np.uint8), r"2 bands of uint8: say which are red, green and blue by --data\.bands"),
        (np.zeros((2, 2), np.complex64), "its values are complex64, and only real numbers become a picture"),
        (np.array([["a"]]), "only real numbers become a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_words(image: object, message: str) -> None:
    with pytest.raises(BrokenImageError, match=message):
        decode(image)


@pytest.mark.parametrize(
    ("scale", "bands", "message"),
    [
        (
            "percentil 2 98",
            None,
            r"--data\.scale: the scale 'percentil 2 98' is not understood: possible are dtype, minmax,",
        ),
        ("percentile", None, "'percentile' is not understood"),
        ("percentile 98 2", None, "LOW below HIGH"),
        ("percentile 2 980", None, "percentiles from 0 to 100"),
        ("minmax 3", None, "'minmax 3' is not understood"),
        ("minmax 3 x", None, "'minmax 3 x' is not understood"),
        ("minmax 0 inf", None, "LOW below HIGH"),
        ("minmax nan 3", None, "LOW below HIGH"),
        ("dtype 0 1", None, "'dtype 0 1' is not understood"),
        ("", None, "the scale '' is not understood"),
        (
            None,
            "4 3",
            r"--data\.bands '4 3' is not understood: give three numbers of bands, red, green and blue, or one",
        ),
        (None, "0 1 2", "counted from 1"),
        (None, "red", "counted from 1"),
        (None, "", "counted from 1"),
    ],
)
def test_settings_that_are_not_understood_are_named(scale: str | None, bands: str | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rendering.parse(scale, bands)


def test_a_scale_is_its_text() -> None:
    for text in ("dtype", "minmax", "minmax 0 3000", "percentile 2 98"):
        assert str(Scale.parse(text)) == text
    assert Scale.parse("minmax 0 3000") == Scale("minmax", 0, 3000)


def test_a_wide_jpeg_2000_has_its_own_values() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.tile(RAMP, (8, 3))).save(buffer, "JPEG2000")
    with pytest.raises(RenderingError, match="1 band of uint16 with values from 300 to 3000"):
        decode(buffer.getvalue())
    buffer = io.BytesIO()
    colour("RGB", (200, 100, 50)).resize((16, 16)).save(buffer, "JPEG2000")
    assert first(buffer.getvalue()) == (200, 100, 50)


def test_a_picture_that_was_opened_elsewhere_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "wide.png").write_bytes(png(COLOUR))
    (tmp_path / "wide.tif").write_bytes(tiff(COLOUR))
    for name in ("wide.png", "wide.tif"):
        assert first(Image.open(tmp_path / name), "minmax 300 3000") == (0, 85, 255)
    cut = Image.open(tmp_path / "wide.tif")
    cut.load()
    with pytest.raises(BrokenImageError, match="more than 8 bits, of which Pillow left 8: give the path or the bytes"):
        decode(cut, Rendering.parse("minmax"))


@pytest.mark.filterwarnings("ignore")  # Pillow's, of odd tags
@pytest.mark.parametrize("whole", [png(COLOUR), tiff(COLOUR), tiff(THIRTEEN), tiff(RAMP[..., None]), png(RAMP)])
def test_damaged_files_are_refused_and_raise_nothing_else(whole: bytes) -> None:
    rng = np.random.default_rng(0)
    for length in {*range(0, len(whole), max(1, len(whole) // 60))}:
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, len(whole), 3)] = rng.integers(0, 256, 3)
        for source in (whole[:length], damaged.tobytes()):
            try:
                decode(source, Rendering.parse("minmax", "1"))
            except BrokenImageError:
                continue
