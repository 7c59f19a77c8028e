"""What tests of archives share."""

import sys
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from pairs import write_entry  # noqa: E402

from rsretrieval import Retriever  # noqa: E402


@pytest.fixture(scope="session")
def entry(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a small model with random weights."""
    return write_entry(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="session")
def retriever(entry: str) -> Retriever:
    """That model."""
    return Retriever.from_pretrained(entry)
