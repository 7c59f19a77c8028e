"""Ray Data as the engine: the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import noise, vectors, write_pictures, write_raster

from rsretrieval import Retriever
from rsretrieval.archive.embedding import embed
from rsretrieval.archive.options import Options

pytest.importorskip("ray", reason="the extra 'ray' is not installed")


@pytest.fixture
def local_ray() -> Iterator[None]:
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_the_same_rows(retriever: Retriever, tmp_path: Path) -> None:
    images = tmp_path / "images"
    write_pictures(images, 9)
    (images / "broken.png").write_bytes(b"none")
    values = noise(3, 3, 70, 100)
    values[:, :32, :32] = 0
    write_raster(images / "a.tif", values, nodata=0)
    options = Options("32")
    alone = embed(retriever, str(images), tmp_path / "alone", options=options, progress=False)
    by_ray = embed(
        retriever, str(images), tmp_path / "ray", options=options, engine="ray", devices=2, batch_size=4, progress=False
    )
    assert by_ray._replace(folder=alone.folder) == alone
    first, second = vectors(tmp_path / "alone"), vectors(tmp_path / "ray")
    assert list(first) == list(second)
    assert min(float(first[name] @ second[name]) for name in first) >= 0.9999
    for name in ("skipped.csv",):
        assert (tmp_path / "ray" / name).read_text() == (tmp_path / "alone" / name).read_text()
    again = embed(
        retriever, str(images), tmp_path / "ray", options=options, engine="ray", devices=1, batch_size=4, progress=False
    )
    assert (again.added, again.rows) == (0, alone.rows)
