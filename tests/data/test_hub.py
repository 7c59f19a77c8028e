"""The real client streams from a stand-in for the hub; each case is a child process with fresh caches."""

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Features, Value
from datasets import Image as ImageFeature
from forks import Child, Forks
from local_hub import REVISION, Fault, local_hub, write_dataset
from PIL import Image

from rsretrieval.data import DATASETS

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
    if data.shuffle:  # which does not matter in evaluation
        valid = []
        for data.trainer in ranks:
            valid += [i for b in data.val_dataloader() for i in b.image_ids.tolist()]
    print(json.dumps({"world": world, "shuffle": data.shuffle, "epochs": epochs, "valid": valid}))
"""


IMPATIENT = "import time; sleep = time.sleep; time.sleep = lambda seconds: sleep(seconds / 20)\n"
"""The client waits between its tries, for seconds."""


class Run:
    """Runs a program, by default an epoch."""

    def __init__(self, children: Forks) -> None:
        self.children = children

    def __call__(self, env: dict[str, str], *arguments: str, program: str = EPOCH) -> Child:
        return self.children.run(IMPATIENT + program, *arguments, env=env)


@pytest.fixture
def child(children: Forks) -> Run:
    return Run(children)


@pytest.fixture
def ponds(tmp_path: Path) -> Path:
    """A data set of 18 training rows in 3 files, and 6 validation rows in one."""
    folder = tmp_path / "hub" / "acme" / "ponds"
    write_dataset(folder, {"train": 3, "valid": 1})
    return folder


def captions(rows: int) -> list[str]:
    return sorted(f"train {n} caption {k}" for n in range(rows) for k in range(1 + n % 3))


def result(child: Child) -> dict[str, Any]:
    """What a program printed last."""
    assert child.returncode == 0, child.stderr[-2000:]
    return json.loads(child.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 2, 5])
def test_exactly_once_for_any_ranks_and_workers(child: Run, tmp_path: Path, shards: int) -> None:
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
def test_streaming_gives_every_caption_once(child: Run, tmp_path: Path, card: bool, workers: str) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 3, "valid": 1}, card=card)
    with local_hub(tmp_path / "hub", tmp_path) as env:
        done = child(env, "acme/ponds", workers, "0")
    seen = result(done)
    assert seen["length"] == 36 // 4
    assert sorted(seen["train"]) == captions(18)
    assert all(seen["pixels"])
    assert seen["valid"] == list(range(6))
    assert len(list((tmp_path / "cache" / "index").glob("*.json"))) == 2


@pytest.mark.parametrize("kind", ["503", "429", "cut", "stall"])
@pytest.mark.usefixtures("ponds")
def test_passing_faults_cost_no_row(child: Run, tmp_path: Path, kind: str) -> None:
    with local_hub(tmp_path / "hub", tmp_path, fault := Fault(kind, times=2, after=2, seconds=1)) as env:
        done = child(env, "acme/ponds", "0", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert fault.times < 0  # it did happen
    seen = json.loads(done.stdout.splitlines()[-1])
    assert sorted(seen["train"]) == captions(18)
    assert all(seen["pixels"])
    assert seen["valid"] == list(range(6))


def test_a_stall_ends_by_the_clients_time_limit(child: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 2, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, Fault("stall", after=3, seconds=60)) as env:
        start = time.monotonic()
        done = child({**env, "HF_HUB_DOWNLOAD_TIMEOUT": "2"}, "acme/ponds", "0", "0")
    assert done.returncode == 0, done.stderr[-2000:]
    assert time.monotonic() - start < 50
    assert len(json.loads(done.stdout.splitlines()[-1])["train"]) == 24


def test_prepared_once_and_read_without_the_hub(child: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 2, "valid": 1})
    with local_hub(tmp_path / "hub", tmp_path, Fault("503", after=4)) as env:
        command = (
            "import sys; from rsretrieval import cli; cli.main(['data', 'prepare', 'acme/ponds', '--to', sys.argv[1]])"
        )
        done = child(env, str(tmp_path / "to"), program=command)
        assert done.returncode == 0, done.stderr[-2000:]
    env["HF_HUB_OFFLINE"] = "1"
    done = child(env, str(tmp_path / "to"), "0", "0", program=EPOCH.replace('"hub"', '"parquet"'))
    seen = result(done)
    assert sorted(seen["train"]) == captions(12)
    assert all(seen["pixels"])


@pytest.mark.usefixtures("ponds")
def test_hub_gone_for_good(child: Run, tmp_path: Path) -> None:
    with local_hub(tmp_path / "hub", tmp_path, Fault("503", times=10**6, after=6)) as env:
        error = child(env, "acme/ponds", "0", "0").stderr
    assert "'acme/ponds' could not be read on, split 'train' (HfHubHTTPError: Server error '503" in error
    assert "Training goes on later with --ckpt_path last" in error


def test_truncated_file(child: Run, tmp_path: Path, ponds: Path) -> None:
    file = ponds / "data" / "train-00001-of-00003.parquet"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with local_hub(tmp_path / "hub", tmp_path) as env:
        error = child(env, "acme/ponds", "0", "0").stderr
    assert "DataError" in error
    assert "a file there is broken" in error
    assert "--ckpt_path last" not in error


@pytest.mark.parametrize(
    ("name", "folder", "ending", "holdout"),
    [("rsitmd", "images", "tif", "0.2"), ("sydney", "imgs", "tif", "0"), ("ucm", "imgs", "tif", "0")],
)
def test_archives_of_the_catalogue(
    child: Run, tmp_path: Path, name: str, folder: str, ending: str, holdout: str
) -> None:
    """In the layout of their authors: one JSON, the images numbered (UCM, Sydney) or named by their class (RSITMD)."""
    by_name = name == "sydney"
    place = Path(str(DATASETS[name].hub)) if by_name else Path(f"acme/archives/{name}.zip")
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
    program = EPOCH.replace('"hub", sys.argv[1]', "sys.argv[1]") if by_name else EPOCH
    with local_hub(tmp_path / "hub", tmp_path, Fault("cut", times=1)) as env:
        done = child(env, name if by_name else place.as_posix(), "0", holdout, program=program)
    seen = result(done)
    assert len(set(seen["train"])) == 16
    assert len(seen["valid"]) == 4
    assert all(seen["pixels"])


def test_archive_is_fetched_and_split(child: Run, tmp_path: Path) -> None:
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
    seen = result(done)
    assert len(set(seen["train"])) == 16
    assert seen["valid"] == list(range(4))
    assert all(seen["pixels"])


def test_an_archive_that_arrives_damaged_is_fetched_again(child: Run, tmp_path: Path) -> None:
    """The stand-in lists a SHA-256 that the first copy does not have."""
    repository = tmp_path / "hub" / "acme" / "archives"
    repository.mkdir(parents=True)
    program = (
        "from rsretrieval.data.datasets.archive import fetch_archive; print(fetch_archive('acme/archives/a.zip')[0])"
    )
    with zipfile.ZipFile(repository / "a.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    with local_hub(tmp_path / "hub", tmp_path) as env:
        fetch = "from huggingface_hub import hf_hub_download as h; "
        spoil = fetch + "from pathlib import Path; Path(h('acme/archives', 'a.zip', repo_type='dataset')).resolve()"
        child(env, program=f"{spoil}.write_bytes(b'?')")
        first, second = child(env, program=program), child(env, program=program)
    assert "'a.zip' of the hub's 'acme/archives' arrived damaged and was removed: run this again" in first.stderr
    assert (Path(second.stdout.strip()) / "a.txt").read_text() == "a"


def test_what_is_not_there(child: Run, tmp_path: Path) -> None:
    write_dataset(tmp_path / "hub" / "acme" / "ponds", {"train": 1})
    with local_hub(tmp_path / "hub", tmp_path) as env:
        assert "has no split 'valid'; it has ['train']" in child(env, "acme/ponds", "0", "0").stderr
        assert "'acme/lakes' cannot be reached" in child(env, "acme/lakes", "0", "0").stderr
        assert "archive 'acme/ponds/x.zip' cannot be fetched" in child(env, "acme/ponds/x.zip", "0", "0").stderr


@pytest.mark.usefixtures("ponds")
def test_what_is_wrong_here_is_not_the_hubs_fault(child: Run, tmp_path: Path) -> None:
    program = EPOCH.replace("sys.argv[1],", "sys.argv[1], Columns(captions='texts'),")
    with local_hub(tmp_path / "hub", tmp_path) as env:
        error = child(env, "acme/ponds", "0", "0", program=f"from rsretrieval.data import Columns\n{program}").stderr
        holdout = child(env, "acme/ponds", "0", "0.2").stderr
    assert "the hub's 'acme/ponds' has no column ['texts']; it has ['filename', 'captions', 'image']" in error
    assert "--ckpt_path last" not in error
    assert "would replace the validation split that the data set has (6 images): set --data.holdout 0" in holdout


REVISIONS = """
import json, logging, sys
from rsretrieval.data import DataError, RetrievalDataModule
logging.basicConfig(level=logging.INFO)

def describe(state=None, path="acme/ponds", **options):
    data = RetrievalDataModule("hub", path, image_size=8, batch_size=4, num_workers=0, **options)
    data.prepare_data()
    data.setup("fit")
    if state:
        data.load_state_dict(state)
    return len(data.table("train").names), data.state_dict()

first = json.loads(sys.argv[1])
if first is None:
    print(json.dumps(describe()))
else:
    old = first["revision"]
    print(json.dumps({
        "newest": describe(), "resumed": describe(first), "pinned": describe(revision=old),
        "pinned to another": describe(first, revision="main"), "another data set": describe(first, "acme/lakes"),
    }))
    describe(revision="0" * 40)
"""


def test_the_revision_is_settled_once_kept_and_pinned(child: Run, tmp_path: Path, ponds: Path) -> None:
    newest = "f" * 40
    with local_hub(tmp_path / "hub", tmp_path) as env:
        rows, state = result(child(env, "null", program=REVISIONS))
        assert (rows, state["revision"], state["batches"]) == (18, REVISION, 0)
        ponds.rename(ponds.with_name(f"ponds@{REVISION}"))
        for name in ("ponds", "lakes"):
            write_dataset(ponds.with_name(name), {"train": 2, "valid": 1})
            (ponds.with_name(name) / ".revision").write_text(newest)
        done = child(env, json.dumps(state), program=REVISIONS)
    cases = json.loads(done.stdout.splitlines()[-1])
    assert {name: (rows, state["revision"]) for name, (rows, state) in cases.items()} == {
        "newest": (12, newest),
        "resumed": (18, REVISION),
        "pinned": (18, REVISION),
        "pinned to another": (12, newest),
        "another data set": (12, newest),
    }
    assert done.stderr.count(f"reading revision {REVISION} as the checkpoint did, not the newest, {newest}") == 1
    assert "revision '0000000000000000000000000000000000000000', cannot be reached" in done.stderr
    assert "check the name, the revision and the connection" in done.stderr


PREPARED = """
import datasets
from rsretrieval.data import RetrievalDataModule

data = RetrievalDataModule("hub", "acme/ponds", image_size=8, batch_size=4, num_workers=0)
data.prepare_data()
del datasets.load_dataset  # no more reading of it
other = RetrievalDataModule("hub", "acme/ponds", image_size=8, batch_size=4, num_workers=0)
other.setup("fit")
print(len(other.table("train").names), len(other.table("valid").names))
"""


@pytest.mark.usefixtures("ponds")
def test_prepare_data_reads_the_texts_for_the_others(child: Run, tmp_path: Path) -> None:
    with local_hub(tmp_path / "hub", tmp_path) as env:
        done = child(env, program=PREPARED)
    assert done.stdout == "18 6\n", done.stderr[-2000:]


UNPACK = """
import sys, time, zipfile
from rsretrieval.data import RetrievalDataModule

extract = zipfile.ZipFile.extractall
def slow(self, folder):
    extract(self, folder)
    print("unpacking")
    time.sleep(0.5)
zipfile.ZipFile.extractall = slow
data = RetrievalDataModule("hub", "acme/archives/ponds.zip", num_workers=0)
data.prepare_data()
print(len(data.table("train").names), data.source.folder, data.state_dict()["revision"])
"""


def test_an_archive_is_unpacked_once_by_processes_that_start_together(children: Forks, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "acme" / "archives"
    repository.mkdir(parents=True)
    rows = [{"filename": f"{n}.png", "split": "train", "sentences": [{"raw": "a pond"}]} for n in range(3)]
    with zipfile.ZipFile(repository / "ponds.zip", "w") as archive:
        archive.writestr("ponds/dataset.json", json.dumps({"images": rows}))
    with local_hub(tmp_path / "hub", tmp_path) as env:
        both = [children.start(UNPACK, env=env) for _ in range(2)]
        done = [process.wait() for process in both]
    assert [process.returncode for process in done] == [0, 0], [process.stderr[-2000:] for process in done]
    lines = [line for process in done for line in process.stdout.splitlines()]
    assert lines.count("unpacking") == 1
    lines.remove("unpacking")
    assert lines[0] == lines[1]
    assert lines[0].startswith("3 ")
    assert lines[0].endswith(REVISION)
    assert len([path for path in (tmp_path / "cache" / "archives").iterdir() if path.is_dir()]) == 1


READ = """
import sys, json
from rsretrieval.data import Columns, RetrievalDataModule
options = json.loads(sys.argv[2])
data = RetrievalDataModule("hub", sys.argv[1], Columns(**options.pop("columns", {})), image_size=8, batch_size=2,
                           eval_batch_size=4, augmentation="none", word_deletion=0, num_workers=0, **options)
table = data.table("train")
grey = {name: data.stream("train").image(row).getpixel((0, 0))[0] for row, name in enumerate(table.names)}
scenes = [table.scene_names[n] for n in table.scenes]
print(json.dumps({"captions": list(table.captions), "grey": grey, "scenes": scenes}))
"""


def test_hub2_one_of_several_configurations_is_chosen(child: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "ponds"
    configurations = ""
    for name in ("small", "large"):
        write_dataset(folder / name, {"train": 1 if name == "small" else 2}, card=False)
        configurations += f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}/data/train-*\n"
    (folder / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n")
    with local_hub(tmp_path / "hub", tmp_path) as env:
        error = child(env, "acme/ponds", "{}", program=READ).stderr
        other = child(env, "acme/ponds", '{"configuration": "tiny"}', program=READ).stderr
        large = result(child(env, "acme/ponds", '{"configuration": "large"}', program=READ))
        small = result(child(env, "acme/ponds", '{"configuration": "small"}', program=READ))
        archive = child(env, "acme/ponds/x.zip", '{"configuration": "small"}', program=READ).stderr
    for message, reason in ((error, "several configurations"), (other, "no 'tiny'")):
        assert (
            f"DataError: the hub's 'acme/ponds' has {reason}; its configurations are ['small', 'large']: choose one by "
            "--data.configuration NAME"
        ) in message
    assert "goes on later" not in error
    assert (len(small["captions"]), len(large["captions"])) == (6, 12)
    assert "'acme/ponds/x.zip' has no configurations: leave out --data.configuration" in archive


def test_hubf_an_image_folder_of_the_hub(child: Run, tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "acme" / "ponds" / "train"
    folder.mkdir(parents=True)
    for n in range(4):
        Image.new("RGB", (8, 8), (n,) * 3).save(folder / f"airport_{n}.png")
    lines = ["file_name,text", *(f"airport_{n}.png,plane {n}" for n in range(4))]
    (folder / "metadata.csv").write_text("\n".join(lines))
    with local_hub(tmp_path / "hub", tmp_path) as env:
        seen = result(child(env, "acme/ponds", '{"columns": {"captions": "text"}}', program=READ))
    assert seen["captions"] == [[f"plane {n}"] for n in range(4)]
    assert list(seen["grey"].values()) == [0, 1, 2, 3]
    assert [Path(name).name for name in seen["grey"]] == [f"airport_{n}.png" for n in range(4)]
    assert set(seen["scenes"]) == {"airport"}


def test_u2h_a_table_of_images_and_texts_alone(child: Run, tmp_path: Path) -> None:
    """Texts are strings, classes are numbers with names, and nothing names the images."""
    columns = {
        "image": [picture(n) for n in range(4)],
        "text": [f"a pond {n}" for n in range(4)],
        "label": [0, 1, 0, 1],
    }
    features = Features(image=ImageFeature(), text=Value("string"), label=ClassLabel(names=["bay", "lake"]))
    (folder := tmp_path / "hub" / "acme" / "ponds" / "data").mkdir(parents=True)
    table = pa.Table.from_pydict(columns, schema=features.arrow_schema)
    pq.write_table(table, folder / "train-00000-of-00001.parquet", row_group_size=2)
    with local_hub(tmp_path / "hub", tmp_path) as env:
        options = {"columns": {"captions": "text", "scene": "label"}}
        seen = result(child(env, "acme/ponds", json.dumps(options), program=READ))
        options["columns"]["filename"] = "text"
        error = child(env, "acme/ponds", json.dumps(options), program=READ).stderr
    assert seen["captions"] == [[f"a pond {n}"] for n in range(4)]
    assert seen["grey"] == {f"row {n}": n for n in range(4)}
    assert seen["scenes"] == ["bay", "lake", "bay", "lake"]
    assert "--data.columns.captions and --data.columns.filename are both 'text', and need columns of their own" in error
    assert "out of reach" not in error


def picture(grey: int) -> dict[str, Any]:
    Image.new("RGB", (8, 8), (grey,) * 3).save(buffer := io.BytesIO(), "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def test_a18_one_caption_a_row_on_the_hub(child: Run, tmp_path: Path) -> None:
    columns = {
        "image": [picture(n // 2) for n in range(6)],
        "captions": [f"plane {n}" for n in range(6)],
        "filename": [f"{n // 2}.png" for n in range(6)],
    }
    (folder := tmp_path / "hub" / "acme" / "ponds" / "data").mkdir(parents=True)
    pq.write_table(pa.Table.from_pydict(columns), folder / "train-00000-of-00001.parquet", row_group_size=4)
    with local_hub(tmp_path / "hub", tmp_path) as env:
        seen = result(child(env, "acme/ponds", "{}", program=READ))
        held_out = result(child(env, "acme/ponds", "0", "0.34"))
    assert seen["captions"] == [["plane 0", "plane 1"], [], ["plane 2", "plane 3"], [], ["plane 4", "plane 5"], []]
    assert len(held_out["train"]) == 4
    assert len(held_out["valid"]) == 1
