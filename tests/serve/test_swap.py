"""An archive that changes while it is served."""

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archives import write_pictures
from fastapi.testclient import TestClient
from served import ROWS, make_archive, serve

from rsretrieval import Retriever
from rsretrieval.archive import build_index, embed
from rsretrieval.archive.edit import remove_rows
from rsretrieval.embeddings import ArchiveError
from rsretrieval.serve import store
from rsretrieval.serve.terms import key_of


@pytest.fixture
def changing(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An archive of its own, that is looked at often."""
    monkeypatch.setattr(store, "INTERVAL", 0.05)
    return make_archive(tmp_path, model)


def wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def rows(client: TestClient) -> int:
    return int(client.get("/health").json()["rows"])


def append(folder: Path, model: str, *, count: int = 3, first: int = 100) -> None:
    write_pictures(folder.parent / "images", count, first)
    embed(model, str(folder.parent / "images"), str(folder), workers=1)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "lancedb"])
def test_new_rows_are_found_and_no_request_fails(changing: Path, model: str, retriever: Retriever, kind: str) -> None:
    build_index(changing, kind, sample=5)
    with serve(changing, retriever) as client:
        failed: list[Any] = []
        done = threading.Event()

        def ask() -> None:
            while not done.is_set():
                for place in ("text=ships&k=60", f"like={key_of('harbour_0.png')}", "", "box=14,45,16,46&text=ships"):
                    answer = client.get(f"/api/search?{place}")
                    if answer.status_code != 200:
                        failed.append(answer.text)

        asking = threading.Thread(target=ask)
        asking.start()
        append(changing, model)
        time.sleep(0.2)
        assert rows(client) == ROWS  # the index is not there yet
        build_index(changing, kind, sample=5)
        wait(lambda: rows(client) == ROWS + 3)
        remove_rows(changing, ["100.png"])
        build_index(changing, kind, sample=5)
        wait(lambda: rows(client) == ROWS + 2)
        done.set()
        asking.join()
        assert failed == []
        assert client.get(f"/api/items/{key_of('101.png')}").status_code == 200
        assert client.get(f"/api/items/{key_of('100.png')}").status_code == 404


def test_what_cannot_be_opened_leaves_the_old_one(
    changing: Path, model: str, retriever: Retriever, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    with serve(changing, retriever) as client, caplog.at_level(logging.WARNING, "rsretrieval.serve"):
        before = client.get("/api/search?text=ships").json()
        append(changing, model)
        wait(lambda: "served as it was" in caplog.text)
        time.sleep(0.3)
        assert caplog.text.count("served as it was") == 1
        shutil.rmtree(changing / "index")
        time.sleep(0.3)
        assert client.get("/api/search?text=ships").json() == before
        build_index(changing, sample=5)
        wait(lambda: rows(client) == ROWS + 3)


def test_a_snapshot_that_is_gone_is_asked_for_again(changing: Path, model: str, retriever: Retriever) -> None:
    """Of an index that reads from the disk what is deleted with a newer one: the newer one answers."""
    with serve(changing, retriever) as client:
        service: Any = client.app.app.state.service  # type: ignore[attr-defined]
        old = service.store.current

        def gone(*_: Any, **__: Any) -> Any:
            raise ArchiveError("the index's table cannot be read, or has been replaced")

        old.ranked = gone
        assert client.get("/api/search?text=ships").status_code == 400  # nothing newer is there
        append(changing, model)
        build_index(changing, sample=5)
        assert client.get("/api/search?text=ships").json()["total"] == ROWS + 3
