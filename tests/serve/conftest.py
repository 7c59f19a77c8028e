"""A small archive that is served."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from pairs import write_entry  # noqa: E402
from served import make_archive, running, serve  # noqa: E402

from rsretrieval import Retriever, cli  # noqa: E402


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small model with random weights and a bank of sentences and pictures."""
    folder = tmp_path_factory.mktemp("served-model")
    (folder / "captions.txt").write_text("two planes\na harbour with ships\na beach\nmany trees\nfarmland\na road\n")
    cli.main(["bank", write_entry(folder), f"--captions={folder / 'captions.txt'}", f"--to={folder / 'model'}"])
    return str(folder / "model")


@pytest.fixture(scope="session")
def retriever(model: str) -> Retriever:
    """That model."""
    return Retriever.from_pretrained(model)


@pytest.fixture(scope="session")
def archive(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the archive that is not changed."""
    return make_archive(tmp_path_factory.mktemp("served"), model)


@pytest.fixture(scope="session")
def client(archive: Path, retriever: Retriever) -> Iterator[TestClient]:
    """Of that archive, without a token."""
    with serve(archive, retriever) as client:
        yield client


@pytest.fixture(scope="session")
def address(archive: Path, retriever: Retriever) -> Iterator[str]:
    """``http://127.0.0.1:PORT`` of a real server of that archive, for browsers."""
    with running(archive, retriever) as place:
        yield place
