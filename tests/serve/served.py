"""The archive that tests of the server share: tiles with places, pictures named by scenes, a table with captions."""

import io
import sys
import threading
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "archive")]
from archives import write_raster  # noqa: E402

from rsretrieval import Retriever  # noqa: E402
from rsretrieval.archive import Options, build_index, embed  # noqa: E402
from rsretrieval.cli.serve import listening  # noqa: E402
from rsretrieval.data.datasets.synthetic.scenes import render, sample_scene  # noqa: E402
from rsretrieval.serve.app import create_app  # noqa: E402
from rsretrieval.serve.settings import Settings  # noqa: E402
from rsretrieval.serve.snapshot import Snapshot  # noqa: E402
from rsretrieval.serve.store import Store  # noqa: E402

SIDE, GRID = 64, 6
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & 'two' \"ships\""
"""A caption of every row of the table, beside a harmless one."""
ROWS = GRID * GRID + 8 + 6
"""Tiles, pictures and rows of the table of :func:`archive`."""


def name_of(number: int) -> str:
    """File of a picture."""
    return f"{('harbour', 'farmland')[number % 2]}_{number}.png"


def write_images(folder: Path) -> Path:
    """A raster of 36 tiles at 15 degrees east, eight pictures of two scenes, and a table of six with captions.

    The raster is of 2024-03-05, the pictures of the first eight days of April; the table has no dates.
    """
    scenes = [np.asarray(render(sample_scene(7_000_000 + number), SIDE)) for number in range(GRID * GRID + 14)]
    rows = [np.concatenate(scenes[row * GRID : (row + 1) * GRID], 1) for row in range(GRID)]
    write_raster(folder / "mosaic.tif", np.moveaxis(np.concatenate(rows), -1, 0), pixel=2)
    for number, scene in enumerate(scenes[-14:-6]):
        Image.fromarray(scene).resize((96, 80)).save(folder / name_of(number))
    features = {"filename": datasets.Value("string"), "captions": datasets.List(datasets.Value("string"))}
    kinds = datasets.Features({**features, "scene": datasets.Value("string"), "image": datasets.Image()})
    columns = {
        "filename": [f"row{number}.png" for number in range(6)],
        "captions": [[f"picture number {number} of the table .", HOSTILE] for number in range(6)],
        "scene": ["table <b>scene</b>"] * 6,
        "image": [Image.fromarray(scene) for scene in scenes[-6:]],
    }
    datasets.Dataset.from_dict(columns, features=kinds).to_parquet(folder / "table.parquet")
    return folder


def make_archive(folder: Path, model: str) -> Path:
    """Images and an indexed archive of them: ``folder/archive``."""
    (folder / "images").mkdir(parents=True)
    write_images(folder / "images")
    days = {"mosaic.tif": "2024-03-05", **{name_of(number): f"2024-04-0{number + 1}" for number in range(8)}}
    lines = [f"{name},{day}T10:00:00Z" for name, day in days.items()]
    (folder / "dates.csv").write_text("\n".join(["source,datetime", *lines, ""]))
    options = Options(dates=str(folder / "dates.csv"))
    embed(model, str(folder / "images"), str(folder / "archive"), options=options, workers=1)
    build_index(folder / "archive", sample=5)
    return folder / "archive"


def serve(folder: Path, retriever: Retriever, **settings: Any) -> TestClient:
    """A client of a server of an archive, in this process; to be entered by ``with``."""
    app = create_app(Settings(**{"title": "Test", **settings}), Store(Snapshot.open(folder, retriever)))
    return TestClient(app, base_url="http://127.0.0.1:8000", client=("127.0.0.1", 5000))


class running:  # noqa: N801 - used as a function
    """A real server of an archive in a thread: ``with running(folder, retriever) as address``."""

    def __init__(self, folder: Path, retriever: Retriever, **settings: Any) -> None:
        self._listener = listening("127.0.0.1", 0)
        app = create_app(Settings(**{"title": "Test", **settings}), Store(Snapshot.open(folder, retriever)))
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on"))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            threading.Event().wait(0.02)
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._thread.join(20)
        self._listener.close()


def encoded(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as a file's content."""
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()
