"""From pictures to an archive: every one once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
from archives import noise, rows, vectors, write_pictures, write_raster
from PIL import Image

from rsretrieval import Retriever
from rsretrieval.archive.embedding import embed
from rsretrieval.archive.encode import Encoder
from rsretrieval.archive.options import Options
from rsretrieval.archive.pieces import Reader
from rsretrieval.archive.work import Report
from rsretrieval.embeddings import EmbeddingsFile


def run(retriever: Retriever, images: object, to: Path, tile: str | None = None, **others: Any) -> Report:
    options = Options(tile, others.pop("overlap", "0"))
    given = [str(image) for image in images] if isinstance(images, list) else str(images)
    return embed(retriever, given, to, options=options, batch_size=4, workers=2, progress=False, **others)


@pytest.mark.parametrize(("dtype", "cosine"), [("float32", 1 - 1e-6), ("float16", 1 - 1e-6), ("int8", 0.9999)])
def test_a_folder(retriever: Retriever, tmp_path: Path, dtype: Any, cosine: float) -> None:
    files = write_pictures(tmp_path / "images", 6)
    write_pictures(tmp_path / "images" / "below", 3, first=6)
    (tmp_path / "images" / "notes.txt").write_text("no image")
    report = run(retriever, tmp_path / "images", tmp_path / "to", dtype=dtype)
    assert (report.rows, report.added, report.done, report.empty, report.skipped) == (9, 9, 0, 0, 0)
    found = vectors(tmp_path / "to")
    assert list(found) == [*(f"{n}.png" for n in range(6)), *(f"below/{n}.png" for n in range(6, 9))]
    wanted = retriever.encode_images(files).numpy()
    for file, vector in zip(files, wanted, strict=True):
        assert found[file.name] @ vector >= cosine
        assert np.linalg.norm(found[file.name]) == pytest.approx(1, abs=1e-6)
    content = EmbeddingsFile(tmp_path / "to")
    assert content.column_names == ["id", "source", "pixel_bbox", "datetime", "datetime_origin", "embedding"]
    assert rows(tmp_path / "to")[0]["pixel_bbox"] == [0, 0, 40, 30]
    assert pq.read_schema(content.file).field("embedding").type == pa.list_(
        pa.from_numpy_dtype(np.dtype(dtype)), retriever.model.embed_dim
    )
    about = content.about
    assert about["model"]["digest"] == retriever.digest
    assert about["preprocessing"]["image_size"] == retriever.image_size
    assert not (tmp_path / "to" / "shards").exists()


def test_tiles_of_a_raster_with_a_place(retriever: Retriever, tmp_path: Path) -> None:
    values = noise(1, 3, 70, 100)
    values[:, :32, :32] = 0
    write_raster(tmp_path / "a.tif", values, nodata=0)
    report = run(retriever, tmp_path / "a.tif", tmp_path / "to", "32", overlap="8")
    lefts, tops = [0, 24, 48, 68], [0, 24, 38]
    found = vectors(tmp_path / "to")
    assert set(found) == {f"a.tif#{x},{y},{x + 32},{y + 32}" for x in lefts for y in tops} - {"a.tif#0,0,32,32"}
    assert (report.rows, report.empty) == (11, 1)
    tile = np.moveaxis(values[:, 38:70, 68:100], 0, -1)
    assert found["a.tif#68,38,100,70"] @ retriever.encode_images([tile])[0].numpy() > 1 - 1e-6
    row = next(row for row in rows(tmp_path / "to") if row["id"] == "a.tif#68,38,100,70")
    assert row["pixel_bbox"] == [68, 38, 100, 70]
    box = row["bbox"]
    assert 15 < box["xmin"] < box["xmax"] < 15.02
    assert 45.13 < box["ymin"] < box["ymax"] < 45.16
    geo = json.loads(pq.read_schema(tmp_path / "to" / "embeddings.parquet").metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert geo["columns"]["geometry"]["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    assert geo["columns"]["geometry"]["crs"]["id"] == {"authority": "EPSG", "code": 4326}
    item = pystac.Item.from_file(str(tmp_path / "to" / "item.json"))
    assert item.bbox == geo["columns"]["geometry"]["bbox"]
    assert item.properties["emb:dimensions"] == retriever.model.embed_dim


def test_pictures_without_a_place_are_tiled_where_that_is_asked(retriever: Retriever, tmp_path: Path) -> None:
    write_pictures(tmp_path / "images", 1)
    run(retriever, tmp_path / "images", tmp_path / "to", "20")
    assert set(vectors(tmp_path / "to")) == {f"0.png#{x},{y},{x + 20},{y + 20}" for x in (0, 20) for y in (0, 10)}
    assert "geometry" not in EmbeddingsFile(tmp_path / "to").column_names


def test_called_again(retriever: Retriever, tmp_path: Path) -> None:
    images, to = tmp_path / "images", tmp_path / "to"
    write_pictures(images, 5)
    run(retriever, images, to)
    before = (to / "embeddings.parquet").read_bytes()
    with (
        patch.object(Reader, "load", side_effect=AssertionError("nothing is read again")),
        patch.object(Path, "read_bytes", side_effect=AssertionError("nor its bytes")),
    ):
        report = run(retriever, images, to)
    assert (report.rows, report.added, report.done) == (5, 0, 5)
    assert (to / "embeddings.parquet").read_bytes() == before
    Image.fromarray(noise(99, 30, 40, 3)).save(images / "1.png")
    os.utime(images / "2.png", (1, 1))  # copied, not changed
    (images / "3.png").unlink()
    write_pictures(images, 1, first=7)
    report = run(retriever, images, to)
    assert (report.rows, report.added, report.changed, report.vanished) == (6, 2, ["1.png"], ["3.png"])
    assert (to / "vanished.csv").read_text().split() == ["source", "3.png"]
    changed = vectors(to)
    assert changed["1.png"] @ retriever.encode_images([images / "1.png"])[0].numpy() > 1 - 1e-6
    report = run(retriever, images, to, prune=True)
    assert (report.rows, report.vanished) == (5, [])
    assert set(vectors(to)) == {"0.png", "1.png", "2.png", "4.png", "7.png"}
    report = run(retriever, images, to, "20")  # other tiles are other rows
    assert report.rows == 5 * 4
    fresh = run(retriever, images, tmp_path / "fresh", "20")
    assert fresh.rows == 20
    assert [row["id"] for row in rows(to)] == [row["id"] for row in rows(tmp_path / "fresh")]


class Killed(BaseException):
    """What no code catches, as SIGKILL."""


@contextmanager
def killed_at(event: int) -> Iterator[Callable[[], int]]:
    """Raise at the n-th time that something is encoded, made whole or removed."""
    count = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == event:
                raise Killed
            return function(*args, **more)

        return call

    with (
        patch.object(Encoder, "_encode", counted(Encoder._encode)),
        patch.object(Path, "replace", counted(Path.replace)),
        patch.object(shutil, "rmtree", counted(shutil.rmtree)),
    ):
        yield lambda: count


def same(one: Path, other: Path) -> bool:
    first, second = rows(one), rows(other)
    close = all(
        np.allclose(a.pop("embedding"), b.pop("embedding"), atol=1e-3) for a, b in zip(first, second, strict=True)
    )
    return close and first == second


@pytest.mark.parametrize("broken", [True, False])
def test_killed_at_any_moment_and_called_again(retriever: Retriever, tmp_path: Path, broken: bool) -> None:
    images = tmp_path / "images"
    write_pictures(images, 3)
    write_raster(images / "scene.tif", noise(5, 3, 64, 96))
    if broken:
        (images / "broken.png").write_bytes(b"\x89PNG")
    start, first, second = tmp_path / "start", tmp_path / "first", tmp_path / "second"
    run(retriever, images, first, "32", root=str(images))
    shutil.copytree(first, start)
    write_pictures(images, 2, first=5)
    Image.fromarray(noise(98, 30, 40, 3)).save(images / "0.png")
    shutil.copytree(first, second)
    run(retriever, images, second, "32")
    with patch("rsretrieval.embeddings.shards.ShardWriter.add", _small(2)):
        for event in range(1, 100):
            to = tmp_path / f"to{event}"
            shutil.copytree(start, to)
            with killed_at(event) as count:
                try:
                    run(retriever, images, to, "32")
                except Killed:
                    pass
                else:
                    break
            assert count() == event
            EmbeddingsFile(to)  # what is there is whole, old or new
            run(retriever, images, to, "32")
            assert same(to, second), event
            assert (to / "skipped.csv").read_text() == (second / "skipped.csv").read_text()
            assert not (to / "shards").exists()
            shutil.rmtree(to)
    assert event > 12


def _small(count: int) -> Callable[[Any, pa.Table], None]:
    """Shards of so many rows."""

    def add(self: Any, table: pa.Table) -> None:
        for start in range(0, len(table), count):
            self._tables.append(table.slice(start, count))
            self.flush()

    return add


@pytest.mark.slow
def test_two_processes_killed_and_called_again(entry: str, retriever: Retriever, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_pictures(images, 30)
    write_raster(images / "scene.tif", noise(5, 3, 300, 300))
    run(retriever, images, tmp_path / "alone", "32")
    command = [sys.executable, "-m", "rsretrieval", "embed", entry, str(images), "--to", str(tmp_path / "to")]
    command += ["--tile", "32", "--devices", "2", "--accelerator", "cpu", "--batch_size", "2"]
    process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
    shards = tmp_path / "to" / "shards"
    while not (shards.exists() and any(shards.glob("*.partial"))) and process.poll() is None:
        time.sleep(0.002)
        if any(shards.glob("*.arrow")):
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert f"{len(rows(tmp_path / 'alone'))} rows" in done.stdout
    assert same(tmp_path / "to", tmp_path / "alone")
