"""What `embed` takes: tables, tars, the hub; what it refuses, and how an archive is moved."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import noise, png, rows, vectors, write_pictures, write_raster
from filelock import FileLock
from local_hub import local_hub, write_dataset
from PIL import Image

from rsretrieval import Retriever
from rsretrieval.archive.embedding import embed
from rsretrieval.archive.ground import TrainingScale
from rsretrieval.archive.inputs import Input, find_inputs
from rsretrieval.archive.options import Options
from rsretrieval.archive.pictures import picture
from rsretrieval.archive.pieces import Reader
from rsretrieval.archive.work import Report
from rsretrieval.embeddings import ArchiveError, EmbeddingsFile
from rsretrieval.images import Rendering, band_square


def run(retriever: Retriever, images: object, to: Path, options: Options | None = None, **others: Any) -> Report:
    given = [str(image) for image in images] if isinstance(images, list) else str(images)
    return embed(retriever, given, to, options=options, batch_size=4, workers=2, progress=False, **others)


def is_picture(retriever: Retriever, vector: Any, *seed_and_shape: int) -> bool:
    return bool(vector @ retriever.encode_images([noise(*seed_and_shape)])[0].numpy() > 1 - 1e-6)


def test_a_table_with_a_row_a_caption(retriever: Retriever, tmp_path: Path) -> None:
    images = [{"bytes": png(noise(n, 20, 30, 3)), "path": None} for n in (0, 0, 1, 2, 3)]
    names = ["a.png", "a.png", "b.png", "c.png", "c.png"]
    table = pa.table({"filename": names, "caption": list("vwxyz"), "image": images})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    run(retriever, tmp_path / "t.parquet", tmp_path / "to")
    found = vectors(tmp_path / "to")
    assert set(found) == {f"t.parquet::{name}" for name in ("a.png", "b.png", "c.png", "c.png~4")}
    assert is_picture(retriever, found["t.parquet::c.png"], 2, 20, 30, 3)
    assert is_picture(retriever, found["t.parquet::c.png~4"], 3, 20, 30, 3)
    about = EmbeddingsFile(tmp_path / "to").about
    again = picture(tmp_path / "to", about, "t.parquet::c.png~4", (0, 0, 30, 20))
    assert np.array_equal(np.asarray(again), noise(3, 20, 30, 3))


def test_a_tar(retriever: Retriever, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "t.tar", "w") as tar:
        for number in range(3):
            for name, content in (
                (f"x/{number}.png", png(noise(number, 20, 30, 3))),
                (f"x/{number}.txt", b"a caption"),
            ):
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    run(retriever, tmp_path / "t.tar", tmp_path / "to")
    found = vectors(tmp_path / "to")
    assert list(found) == [f"t.tar::x/{number}.png" for number in range(3)]
    assert is_picture(retriever, found["t.tar::x/1.png"], 1, 20, 30, 3)
    shutil.copy(tmp_path / "t.tar", tmp_path / "cut.tar")
    os.truncate(tmp_path / "cut.tar", (tmp_path / "t.tar").stat().st_size // 3)
    report = run(retriever, tmp_path / "cut.tar", tmp_path / "cut")
    assert report.skipped
    assert "unexpected end of data" in (tmp_path / "cut" / "skipped.csv").read_text()


@pytest.mark.slow
def test_a_data_set_of_the_hub(entry: str, tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "ponds" / "views", {"train": 2, "test": 1})
    with local_hub(tmp_path / "hub", tmp_path / "home") as environment:
        command = [sys.executable, "-m", "rsretrieval", "embed", entry, "hf://datasets/ponds/views", "--to", "to"]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True)
        again = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "18 rows (0 new)" in again.stdout
    found = vectors(tmp_path / "to")
    name = "hf://datasets/ponds/views/data/train-00001-of-00002.parquet::images/pond_7.png"
    assert len(found) == 18
    wanted = Retriever.from_pretrained(entry).encode_images([np.full((8, 8, 3), 7, np.uint8)])[0].numpy()
    assert found[name] @ wanted > 1 - 1e-6


def test_what_is_refused(retriever: Retriever, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArchiveError, match=r"there is no image in .*empty"):
        run(retriever, tmp_path / "empty", tmp_path / "to")
    with pytest.raises(ArchiveError, match=r"there is nothing at '.*nowhere/\*\.png'"):
        run(retriever, tmp_path / "nowhere" / "*.png", tmp_path / "to")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"none")
    with pytest.raises(ArchiveError, match=r"no picture of 1 files could be embedded; the first of 1: a\.jpg: it"):
        run(retriever, tmp_path / "bad", tmp_path / "to2")
    assert not (tmp_path / "to2" / "embeddings.parquet").exists()
    write_pictures(tmp_path / "images", 2)
    for wrong in ({"tile": "0"}, {"tile": "20", "overlap": "20"}, {"gsd": -1.0}, {"tile": "big"}, {"dates": "none"}):
        with pytest.raises(ArchiveError):
            run(retriever, tmp_path / "images", tmp_path / "to3", Options(**wrong))
    with pytest.raises(ArchiveError, match="stored as float16, float32, int8, not as 'float64'"):
        run(retriever, tmp_path / "images", tmp_path / "to3", dtype="float64")
    with pytest.raises(ArchiveError, match="does not lie below the root"):
        run(retriever, tmp_path / "images", tmp_path / "to3", root=str(tmp_path / "empty"))
    with pytest.raises(ArchiveError, match="give whole numbers"):
        embed(retriever, str(tmp_path / "images"), tmp_path / "to3", batch_size=0)


def test_another_model_or_type(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 2)
    run(retriever, tmp_path / "images", tmp_path / "to")
    with pytest.raises(ArchiveError, match="stores embeddings as float16, not as int8: give --dtype float16"):
        run(retriever, tmp_path / "images", tmp_path / "to", dtype="int8")
    other = Retriever(retriever.model, retriever.image_size * 2)
    with pytest.raises(ArchiveError, match="is an archive of the model"):
        run(other, tmp_path / "images", tmp_path / "to")


def test_values_that_need_a_rule(retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "images", 1)
    deep = np.arange(40 * 50, dtype=np.uint16).reshape(1, 40, 50) * 20
    write_raster(tmp_path / "images" / "deep.tif", deep)
    report = run(retriever, tmp_path / "images", tmp_path / "to")
    assert (report.rows, report.skipped) == (1, 1)
    assert "not 8 bits" in caplog.text
    ruled = Retriever(retriever.model, retriever.image_size, scale="percentile 2 98")
    report = run(ruled, tmp_path / "images", tmp_path / "to", Options("20", scale="percentile 2 98"))
    low, high = np.percentile(deep, (2, 98))
    tile = np.rint(np.clip((deep[0, 20:40, 30:50] - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    wanted = retriever.encode_images([np.repeat(tile[..., None], 3, 2)])[0].numpy()
    assert vectors(tmp_path / "to")["deep.tif#30,20,50,40"] @ wanted > 1 - 1e-4  # one rule for all tiles


def test_an_archive_is_moved_with_its_images(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "old" / "images", 2)
    write_raster(tmp_path / "old" / "images" / "a.tif", noise(3, 3, 64, 64))
    run(retriever, tmp_path / "old" / "images", tmp_path / "old" / "to", Options("32"))
    shutil.move(tmp_path / "old", tmp_path / "new")
    to = tmp_path / "new" / "to"
    report = run(retriever, tmp_path / "new" / "images", to, Options("32"))
    assert (report.done, report.added, report.vanished) == (3, 0, [])
    shown = picture(to, EmbeddingsFile(to).about, "a.tif", (32, 0, 64, 32))
    assert np.array_equal(np.asarray(shown), np.moveaxis(noise(3, 3, 64, 64)[:, :32, 32:], 0, -1))
    with pytest.raises(ArchiveError, match=r"the file of 'gone\.png' is not below"):
        picture(to, EmbeddingsFile(to).about, "gone.png", (0, 0, 1, 1))


def test_a_full_disk(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 3)
    run(retriever, tmp_path / "images", tmp_path / "to")
    before = rows(tmp_path / "to")
    write_pictures(tmp_path / "images", 3, first=3)

    def full(*args: Any, **more: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with patch.object(pq.ParquetWriter, "write_table", full), pytest.raises(OSError, match=r"embeddings\.parquet"):
        run(retriever, tmp_path / "images", tmp_path / "to")
    assert rows(tmp_path / "to") == before
    with patch.object(Retriever, "encode_squares", side_effect=AssertionError("they are in the shards")):
        report = run(retriever, tmp_path / "images", tmp_path / "to")
    assert report.rows == 6


def test_damage_is_named(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 3)
    with patch("rsretrieval.archive.embedding.finish", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        run(retriever, tmp_path / "images", tmp_path / "to")
    shard = next((tmp_path / "to" / "shards").iterdir())
    with pytest.raises(ArchiveError, match="an embedding was begun there"):
        EmbeddingsFile(tmp_path / "to")
    shard.write_bytes(shard.read_bytes()[:-50])
    with pytest.raises(ArchiveError, match=r"00000-000000\.arrow' cannot be read .*Delete it"):
        run(retriever, tmp_path / "images", tmp_path / "to")
    shard.unlink()
    run(retriever, tmp_path / "images", tmp_path / "to")
    file = tmp_path / "to" / "embeddings.parquet"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ArchiveError, match=r"embeddings\.parquet' cannot be read .*it is damaged"):
        run(retriever, tmp_path / "images", tmp_path / "to")
    file.unlink()
    assert run(retriever, tmp_path / "images", tmp_path / "to").rows == 3


def test_dates(retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = tmp_path / "images"
    images.mkdir()
    exif = Image.Exif()
    exif[0x8769] = {0x9003: "2021:03:04 05:06:07"}
    Image.fromarray(noise(0, 20, 20, 3)).save(images / "a_20240501_x.jpg", exif=exif)
    Image.fromarray(noise(1, 20, 20, 3)).save(images / "b.jpg", exif=exif)
    Image.fromarray(noise(2, 20, 20, 3)).save(images / "c.png")
    run(retriever, images, tmp_path / "to", Options(dates="*_%Y%m%d_*"))
    dated = {row["id"]: (row["datetime"], row["datetime_origin"]) for row in rows(tmp_path / "to")}
    assert [str(when)[:19] for when, _ in dated.values()] == ["2024-05-01 00:00:00", "2021-03-04 05:06:07", "None"]
    assert "file name by" in dated["a_20240501_x.jpg"][1]
    assert "EXIF DateTimeOriginal" in dated["b.jpg"][1]
    assert "does not follow the pattern" in caplog.text
    (tmp_path / "dates.csv").write_text("source,datetime\nc.png,2020-02-03T04:05:06+01:00\n")
    run(retriever, images, tmp_path / "to", Options(dates=str(tmp_path / "dates.csv")))
    dated = {row["id"]: (str(row["datetime"])[:19], row["datetime_origin"]) for row in rows(tmp_path / "to")}
    assert dated["c.png"] == ("2020-02-03 03:05:06", "CSV")


def test_an_archive_among_its_images_is_no_image(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path, 2)
    to = tmp_path / "archive"
    run(retriever, tmp_path, to)
    again = run(retriever, tmp_path, to)
    assert (again.rows, again.done, again.skipped) == (2, 2, 0)
    assert [row["source"] for row in rows(to)] == ["0.png", "1.png"]


def test_a_name_that_is_no_text_is_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.png").touch()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes such names for none")
    assert [found.name for found in find_inputs([str(tmp_path)], tmp_path)] == ["a.png"]
    assert "'b\\udcff.png' is left out: its name is no text in UTF-8; rename it" in caplog.text


def test_one_call_at_a_time(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    to = tmp_path / "to"
    to.mkdir()
    with FileLock(to / ".lock"), pytest.raises(ArchiveError, match="another process writes to"):
        run(retriever, tmp_path / "images", to)
    run(retriever, tmp_path / "images", to)
    with FileLock(to / ".lock", timeout=0):  # is free again
        pass


def test_what_is_said_once(retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pictures(tmp_path / "images", 1)
    (tmp_path / "images" / "a.xyz").write_text("")
    (tmp_path / "images" / ".hidden.png").write_bytes(b"")
    with caplog.at_level(logging.INFO):
        report = run(retriever, tmp_path / "images", tmp_path / "to")
    assert "files that are no images are not read: 1 .xyz" in caplog.text
    assert str(report) == f"1 rows (1 new): {tmp_path / 'to' / 'embeddings.parquet'}"


def test_many_bands(retriever: Retriever, tmp_path: Path) -> None:
    values = noise(4, 12, 40, 50)
    write_raster(tmp_path / "a.tif", values)
    with pytest.raises(ArchiveError, match=r"a\.tif#0,0,20,20: it has 12 bands of uint8: say which are red, green"):
        run(retriever, tmp_path / "a.tif", tmp_path / "to", Options("20"))
    chosen = Retriever(retriever.model, retriever.image_size, bands="12 3 1")
    run(chosen, tmp_path / "a.tif", tmp_path / "to", Options("20", bands="12 3 1"))
    tile = np.moveaxis(values[[11, 2, 0], 20:40, 30:50], 0, -1)
    found = vectors(tmp_path / "to")["a.tif#30,20,50,40"]
    assert found @ retriever.encode_images([tile])[0].numpy() > 1 - 1e-6
    shown = picture(tmp_path / "to", EmbeddingsFile(tmp_path / "to").about, "a.tif", (30, 20, 50, 40))
    assert np.array_equal(np.asarray(shown), tile)
    with pytest.raises(ArchiveError, match=r"--bands 'B04 B03 B02': bands have names in \.SAFE and STAC items alone"):
        run(retriever, tmp_path / "a.tif", tmp_path / "named", Options("20", bands="B04 B03 B02"))


@pytest.mark.parametrize(
    ("tile", "gsd", "far"), [("224", None, True), ("50m", None, False), ("32", 0.5, False), ("32", 5.0, True)]
)
def test_a_scale_far_from_training(caplog: pytest.LogCaptureFixture, tile: str, gsd: float | None, far: bool) -> None:
    known, size = TrainingScale(("ucm", "unheard-of")), 224
    metres = float(tile[:-1]) / size if tile.endswith("m") else (gsd or 10.0) * int(tile) / (224 if gsd is None else 32)
    for name in ("a.tif", "b.tif"):
        known.check(name, metres)
    assert caplog.text.count("trained on ucm, of 0.3 to 0.3 m") == int(far)
    TrainingScale(()).check("c.tif", 1e6)
    assert "c.tif" not in caplog.text


def test_the_scale_of_tiles_is_compared_with_training(
    retriever: Retriever, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_raster(tmp_path / "a.tif", noise(1, 3, 64, 64))  # of 10 m
    pieces = list(
        Reader(retriever, Options("32"), TrainingScale(("ucm",))).pieces(
            Input("a.tif", str(tmp_path / "a.tif"), "raster")
        )
    )
    assert len(pieces) == 4
    assert f"a.tif: the model sees {10 * 32 / retriever.image_size:.3g} m a pixel" in caplog.text


def test_a_model_of_more_bands_sees_their_values(tmp_path: Path) -> None:
    class TenBands:
        channels, image_size, rendering = 10, 20, Rendering()

        def square_of(self, image: Any, rendering: Rendering | None = None) -> Any:
            return band_square(image, self.image_size, self.channels)

    values = np.random.default_rng(0).integers(0, 10_000, (10, 40, 50), dtype=np.uint16)
    write_raster(tmp_path / "a.tif", values)
    reader = Reader(TenBands(), Options())
    loaded = [reader.load(piece) for piece in reader.pieces(Input("a.tif", str(tmp_path / "a.tif"), "raster"))]
    assert [item.row.pixel_bbox for item in loaded if item][-1] == (30, 20, 50, 40)
    assert loaded[-1] is not None
    assert np.array_equal(loaded[-1].square, np.moveaxis(values[:, 20:40, 30:50], 0, -1))
