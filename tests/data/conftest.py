"""What the data's tests share: programs in processes of their own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from forks import Forks, forks


@pytest.fixture(scope="session")
def children() -> Iterator[Forks]:
    """Runs programs, each in a process of its own."""
    with forks() as runner:
        yield runner
