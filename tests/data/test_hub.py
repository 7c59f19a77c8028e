"""The real client streams from a stand-in for the hub; each case is a child process with fresh caches."""

import io
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))
from local_hub import Fault, local_hub, write_dataset

from rsretrieval.data.catalog import DATASETS

EPOCH = """
import sys, json
from rsretrieval.data.datamodule import RetrievalDataModule
data = RetrievalDataModule("hub", sys.argv[1], image_size=8, batch_size=4, eval_batch_size=4, augmentation="none",
                           word_deletion=0, num_workers=int(sys.argv[2]), holdout=float(sys.argv[3]))
train, valid = data.train_dataloader(), data.val_dataloader()
grey = lambda b: b.images[:, 0, 0, 0].tolist()
print(json.dumps({
    "length": len(train),
    "train": [t for b in train for t in b.texts],
    "pixels": [[int(t.split()[1]) for t in b.texts] == grey(b) for b in train],
    "valid": [i for b in valid for i in b.image_ids.tolist()],
}))
"""


MATRIX = """
import itertools, json, sys
from types import SimpleNamespace
from rsretrieval.data.datamodule import RetrievalDataModule
data = RetrievalDataModule("hub", "acme/ponds", image_size=8, batch_size=2, eval_batch_size=2, augmentation="none",
                           word_deletion=0)
for world, data.num_workers, data.shuffle in itertools.product((1, 2, 3), (0, 1, 3), (True, False)):
    epochs = []
    for epoch in range(2 if data.num_workers == 0 else 1):
        ranks = [SimpleNamespace(global_rank=rank, world_size=world, current_epoch=epoch) for rank in range(world)]
        seen = []
        for data.trainer in ranks:
            batches = list(data.train_dataloader())
            assert len(batches) == len(data.train_dataloader())
            seen.append([t for b in batches for t in b.texts])
        epochs.append(seen)
    valid = []
    for data.trainer in ranks:
        valid += [i for b in data.val_dataloader() for i in b.image_ids.tolist()]
    print(json.dumps({"world": world, "shuffle": data.shuffle, "epochs": epochs, "valid": valid}))
"""


def child(env: dict[str, str], *arguments: str, program: str = EPOCH) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_exactly_once_for_any_ranks_and_workers(tmp_path: Path, shards: int) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": shards, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path) as env:
        done = child(env, program=MATRIX)
    assert done.returncode == 0, done.stderr[-2000:]
    every = [f"train {n} caption {k}" for n in range(6 * shards) for k in range(1 + n % 3)]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 3 * 3 * 2
    for case in cases:
        world = case["world"]
        for ranks in case["epochs"]:
            texts = [text for rank in ranks for text in rank]
            assert {len(rank) for rank in ranks} == {len(every) // (2 * world) * 2}  # equal, the last batch dropped
            assert len(set(texts)) == len(texts)
            assert set(texts) <= set(every)
        if len(case["epochs"]) == 2:
            first, second = case["epochs"]
            assert (first != second) == case["shuffle"]
        assert case["shuffle"] or set(texts) == set(every[: len(texts)])
        assert sorted(case["valid"]) == list(range(6))


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


def test_a_stall_ends_by_the_clients_time_limit(tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 2, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, Fault("stall", after=3, seconds=60)) as env:
        start = time.monotonic()
        done = child({**env, "HF_HUB_DOWNLOAD_TIMEOUT": "2"}, "acme/ponds", "0", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.monotonic() - start < 50
    assert len(json.loads(done.stdout.splitlines()[-1])["train"]) == 24


def test_prepared_once_and_read_without_the_hub(tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 2, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, Fault("503", after=4)) as env:
        command = [sys.executable, "-m", "rsretrieval", "data", "prepare", "acme/ponds", "--to", str(tmp_path / "to")]
        subprocess.run(command, env=env, check=True, capture_output=True, timeout=120)
    env["HF_HUB_OFFLINE"] = "1"
    done = child(env, str(tmp_path / "to"), "0", "0", program=EPOCH.replace('"hub"', '"parquet"'))
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert sorted(seen["train"]) == sorted(f"train {n} caption {k}" for n in range(12) for k in range(1 + n % 3))
    assert all(seen["pixels"])


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


@pytest.mark.parametrize(
    ("name", "folder", "ending", "holdout"),
    [("rsitmd", "images", "tif", "0.2"), ("sydney", "imgs", "tif", "0"), ("ucm", "imgs", "tif", "0")],
)
def test_archives_of_the_catalogue(tmp_path: Path, name: str, folder: str, ending: str, holdout: str) -> None:
    """In the layout of their authors: one JSON, the images numbered (UCM, Sydney) or named by their class (RSITMD)."""
    place = Path(DATASETS[name].hub or "acme/archives/ucm.zip")
    repository = tmp_path / "hub" / place.parent
    repository.mkdir(parents=True)
    names = [f"pond_{n}.{ending}" if name == "rsitmd" else f"{n}.{ending}" for n in range(20)]
    split = ["train" if holdout != "0" or n < 16 else "val" for n in range(20)]
    rows = [
        {"filename": names[n], "imgid": n, "split": split[n], "sentences": [{"raw": f"train {n} .", "tokens": []}]}
        for n in range(20)
    ]
    with zipfile.ZipFile(repository / place.name, "w") as archive:
        archive.writestr(f"{name}/dataset.json", json.dumps({"images": rows, "dataset": name}))
        for n, file in enumerate(names):
            Image.new("RGB", (8, 8), (n,) * 3).save(content := io.BytesIO(), "TIFF")
            archive.writestr(f"{name}/{folder}/{file}", content.getvalue())
    program = EPOCH if DATASETS[name].hub is None else EPOCH.replace('"hub", sys.argv[1]', "sys.argv[1]")
    with local_hub(tmp_path / "hub", tmp_path, Fault("cut", times=1)) as env:
        done = child(env, place.as_posix() if DATASETS[name].hub is None else name, "0", holdout, program=program)
    assert done.returncode == 0, done.stderr[-2000:]
    seen = json.loads(done.stdout.splitlines()[-1])
    assert len(set(seen["train"])) == 16
    assert len(seen["valid"]) == 4
    assert all(seen["pixels"])


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


def test_an_archive_that_arrives_damaged_is_fetched_again(tmp_path: Path) -> None:
    """The stand-in lists a SHA-256 that the first copy does not have."""
    repository = tmp_path / "hub" / "acme" / "archives"
    repository.mkdir(parents=True)
    program = "import sys; from rsretrieval.data.hub import fetch_archive; print(fetch_archive('acme/archives/a.zip'))"
    with zipfile.ZipFile(repository / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with local_hub(tmp_path / "hub", tmp_path) as env:
        fetch = "from huggingface_hub import hf_hub_download as h; "
        spoil = fetch + "from pathlib import Path; Path(h('acme/archives', 'a.zip', repo_type='dataset')).resolve()"
        child(env, program=f"{spoil}.write_bytes(b'?')")
        first, second = child(env, program=program), child(env, program=program)
    assert "'a.zip' of the hub's 'acme/archives' arrived damaged and was removed: run this again" in first.stderr
    assert (Path(second.stdout.strip()) / "a.txt").read_text() == "a"


def test_what_is_not_there(tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 1})
    with local_hub(tmp_path / "hub", tmp_path) as env:
        assert "has no split 'valid'; it has ['train']" in child(env, "acme/ponds", "0", "0").stderr
        assert "'acme/lakes' cannot be reached" in child(env, "acme/lakes", "0", "0").stderr
        assert "archive 'acme/ponds/x.zip' cannot be fetched" in child(env, "acme/ponds/x.zip", "0", "0").stderr
