"""What several tests share: tiny towers and a folder of tiny data in the hub's columns."""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is there: a process of its own for every core is enough

import datasets
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from tiny import CLIP, write_bert

collect_ignore = ["data/older/make.py", "few_scenes.py"]  # for the package of another commit; a plugin of a test


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """A process more than there are cores: many tests wait for a server or for a child."""
    return (yield) + 1


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of a test stays in the user's cache, nor comes from it."""
    monkeypatch.setenv("RSRETRIEVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "wandb-data"))


@pytest.fixture
def tiny_bert(tmp_path: Path) -> str:
    """Folder of a tiny BERT's configuration and tokeniser."""
    folder = tmp_path / "tinybert"
    folder.mkdir()
    return write_bert(folder)


@pytest.fixture
def tiny_clip(tmp_path: Path) -> str:
    """Configuration file of a tiny CLIP."""
    (tmp_path / "tinyclip.json").write_text(json.dumps(CLIP))
    return str(tmp_path / "tinyclip.json")


@pytest.fixture
def tiny_data(tmp_path: Path) -> str:
    """Folder of parquet files with 8 training, 5 validation and 3 test images of two captions each."""
    folder = tmp_path / "data"
    folder.mkdir()
    features = datasets.Features(
        {
            "filename": datasets.Value("string"),
            "captions": datasets.List(datasets.Value("string")),
            "image": datasets.Image(),
        }
    )
    for split, rows in (("train", 8), ("valid", 5), ("test", 3)):
        columns = {
            "filename": [f"pond_{n}.png" for n in range(rows)],
            "captions": [[f"the red plane {n} .", "two ships in the harbour ."] for n in range(rows)],
            "image": [Image.new("RGB", (40, 40), (20 * n, 90, 60)) for n in range(rows)],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return str(folder)
