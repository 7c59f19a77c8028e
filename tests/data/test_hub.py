"""The real client streams from a stand-in for the hub; each case is a child process with fresh caches."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from local_hub import Fault, local_hub, write_dataset

EPOCH = """
import sys, json
from rsretrieval.data.datamodule import RetrievalDataModule
data = RetrievalDataModule("hub", sys.argv[1], image_size=8, batch_size=4, eval_batch_size=4, augmentation="none",
                           word_deletion=0, num_workers=int(sys.argv[2]), holdout=float(sys.argv[3]))
train, valid = data.train_dataloader(), data.val_dataloader()
grey = lambda b: (b.images[:, 0, 0, 0] * 255).round().long().tolist()
print(json.dumps({
    "length": len(train),
    "train": [t for b in train for t in b.texts],
    "pixels": [[int(t.split()[1]) for t in b.texts] == grey(b) for b in train],
    "valid": [i for b in valid for i in b.image_ids.tolist()],
}))
"""


def child(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", EPOCH, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(("card", "workers"), [(True, "0"), (False, "2")])
def test_streaming_gives_every_caption_once(tmp_path: Path, card: bool, workers: str) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 3, "valid": 1}, card=card)
    with local_hub(tmp_path / "hub", tmp_path) as env:
        done = child(env, "acme/ponds", workers, "0")
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["length"] == 36 // 4
    assert sorted(seen["train"]) == sorted(f"train {n} caption {k}" for n in range(18) for k in range(1 + n % 3))
    assert all(seen["pixels"])
    assert seen["valid"] == list(range(6))
    assert len(list((tmp_path / "cache" / "index").glob("*.json"))) == 2


@pytest.mark.parametrize("kind", ["503", "429", "cut", "stall"])
def test_passing_faults_cost_no_row(tmp_path: Path, kind: str) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 3, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, fault := Fault(kind, times=2, after=2)) as env:
        done = child(env, "acme/ponds", "0", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert fault.times < 0  # it did happen
    seen = json.loads(done.stdout.splitlines()[-1])
    assert sorted(seen["train"]) == sorted(f"train {n} caption {k}" for n in range(18) for k in range(1 + n % 3))
    assert all(seen["pixels"])
    assert seen["valid"] == list(range(6))


def test_hub_gone_for_good(tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 3, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, Fault("503", times=10**6, after=6)) as env:
        error = child(env, "acme/ponds", "0", "0").stderr
    assert "'acme/ponds' could not be read on, split 'train' (HfHubHTTPError: Server error '503" in error
    assert "Training goes on later with --ckpt_path last" in error


def test_truncated_file(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "ponds"
    write_dataset(folder, {"train": 3, "valid": 1})
    file = folder / "data" / "train-00001-of-00003.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with local_hub(tmp_path / "hub", tmp_path) as env:
        error = child(env, "acme/ponds", "0", "0").stderr
    assert "DataError" in error
    assert "a file there is broken" in error


def test_archive_is_fetched_and_split(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "acme" / "archives"
    repository.mkdir(parents=True)
    names = [f"pond_{n}.png" for n in range(20)]
    rows = [
        {"filename": name, "split": "train", "sentences": [{"raw": f"train {n} caption 0"}]}
        for n, name in enumerate(names)
    ]
    with zipfile.ZipFile(repository / "ponds.zip", "w") as archive:
        archive.writestr("ponds/dataset_ponds.json", json.dumps({"images": rows}))
        for n, name in enumerate(names):
            with archive.open(f"ponds/images/{name}", "w") as file:
                Image.new("RGB", (8, 8), (n,) * 3).save(file, "PNG")
    with local_hub(tmp_path / "hub", tmp_path) as env:
        done = child(env, "acme/archives/ponds.zip", "0", "0.2")
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(set(seen["train"])) == 16
    assert seen["valid"] == list(range(4))
    assert all(seen["pixels"])


def test_what_is_not_there(tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 1})
    with local_hub(tmp_path / "hub", tmp_path) as env:
        assert "has no split 'valid'; it has ['train']" in child(env, "acme/ponds", "0", "0").stderr
        assert "'acme/lakes' cannot be reached" in child(env, "acme/lakes", "0", "0").stderr
        assert "archive 'acme/ponds/x.zip' cannot be fetched" in child(env, "acme/ponds/x.zip", "0", "0").stderr
