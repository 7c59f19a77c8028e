"""``predict``: every image that can be read, described or not, with the model's own embeddings, in flat memory."""

import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from functools import partial, wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lightning import Trainer
from PIL import Image
from torch import Tensor

from rsretrieval import RetrievalDataModule, RetrievalModule, TowerConfig, cli
from rsretrieval.cli import run_folder
from rsretrieval.data import BrokenRowError, Columns, DataError, Record, Source, register_dataset
from rsretrieval.embeddings.shards import ShardWriter
from rsretrieval.training import Stage
from rsretrieval.training.callbacks import EmbeddingWriter, RetrievalReport, ValueGuidedLearning
from rsretrieval.training.callbacks import embeddings as writer_module
from rsretrieval.types import Batch

sys.path.insert(0, str(Path(__file__).parent))
import tiny
from test_cli import CONFIGS
from test_cli import tiny as small_configuration

TWO = {"devices": 2, "strategy": "ddp_fork"}
ALONE_AND_TWO = pytest.mark.parametrize("processes", [{}, TWO], ids=["alone", "on two processes"])


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])


@register_dataset("some described")
class SomeDescribed(Source):
    """Rows as ``path`` writes them: ``NAME COLOUR CAPTION | …``; no colour, -, is an image that cannot be read."""

    def __init__(self, path: str, columns: Columns) -> None:
        self.rows = [[part.strip() for part in f"{row}   ".split(" ", 2)] for row in path.split("|")]

    def records(self, split: str) -> list[Record]:
        return [Record(name, (caption,) if caption else ()) for name, _, caption in self.rows]

    def read(self, split: str, block: int) -> list[Image.Image]:
        if self.rows[block][1] == "-":
            raise BrokenRowError("it is not there")
        return [Image.new("RGB", (8, 8), (int(self.rows[block][1]), 90, 60))]


def data(path: str, source: str = "some described", **options: Any) -> RetrievalDataModule:
    given = {"image_size": 64, "batch_size": 2, "eval_batch_size": 2, "num_workers": 0, "augmentation": "none"}
    return RetrievalDataModule(source, path, **given | options)


def module(clip: str, kind: type[RetrievalModule] = RetrievalModule) -> RetrievalModule:
    torch.manual_seed(0)
    return kind(tiny.settings(TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", clip)))


def predict(folder: Path, model: RetrievalModule, rows: RetrievalDataModule, **options: Any) -> list[dict[str, Any]]:
    """The rows of the files of all processes."""
    Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False, default_root_dir=folder, **options,
        callbacks=[ValueGuidedLearning([Stage(0, {"contrastive": 1})]), RetrievalReport(0), EmbeddingWriter()],
    ).predict(model, rows, return_predictions=False)  # fmt: skip
    files = sorted(folder.glob("embeddings-*.parquet"))
    assert [file.name for file in files] == [f"embeddings-{rank}.parquet" for rank in range(options.get("devices", 1))]
    assert not (folder / "predict-shards").exists()
    tables = [pq.read_table(file) for file in files]
    vector = pa.list_(pa.float32(), 32)
    columns = {"filename": pa.string(), "embedding": vector, "captions": pa.list_(pa.string())}
    assert all(table.schema == pa.schema({**columns, "caption_embeddings": pa.list_(vector)}) for table in tables)
    return [row for table in tables for row in table.to_pylist()]


def image_of(colour: int) -> Tensor:
    return torch.tensor([colour, 90, 60], dtype=torch.uint8)[None, :, None, None].expand(1, 3, 64, 64)


SOME = "a.png 10 a pond|b.png 20|c.png 30|d.png - |a.png 10 two ponds.|e.png 50|f.png 60|g.png 70 A ship!|c.png 30"


@ALONE_AND_TWO
def test_images_without_a_caption_are_there_and_an_image_is_one_row(
    processes: dict[str, Any], tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = predict(tmp_path, module(tiny_clip), data(SOME, max_broken=0.2), **processes)
    captions = {"a.png": ["a pond", "two ponds"], "g.png": ["a ship"]}
    colours = {"a.png": 10, "b.png": 20, "c.png": 30, "e.png": 50, "f.png": 60, "g.png": 70}
    assert [row["filename"] for row in rows] == list(colours)
    model = module(tiny_clip).model.eval()
    with torch.no_grad():
        for row in rows:
            own = captions.get(row["filename"], [])
            assert row["captions"] == own
            expected = model.encode_image(image_of(colours[row["filename"]]))[0]
            torch.testing.assert_close(torch.tensor(row["embedding"]), expected, atol=1e-5, rtol=0)
            texts = model.encode_text(own) if own else torch.zeros(0)
            torch.testing.assert_close(torch.tensor(row["caption_embeddings"]), texts, atol=1e-5, rtol=0)
    if not processes:
        assert "embeddings on 6 of the 7 images of split 'valid' (1 cannot be read)" in caplog.text
        assert "no embedding of 'd.png': it is not there" in caplog.text


@pytest.mark.parametrize("workers", [0, 2])
def test_validation_keeps_its_rule(workers: int) -> None:
    """Four of the seven images have no caption."""
    rows = data(SOME, max_broken=0.9, num_workers=workers)
    for loader, images in ((rows.val_dataloader(), [0, 7]), (rows.predict_dataloader(), [0, 1, 2, 5, 6, 7])):
        batches = list(loader)
        assert [row for batch in batches for row in batch.image_ids.tolist()] == images
        assert sorted({row for batch in batches for row in batch.owners.tolist()}) == [0, 7]
        assert all(batch.owners.dtype == batch.scenes.dtype == batch.text_ids.dtype == torch.int64 for batch in batches)
    reasons = dict.fromkeys(["b.png", "c.png", "d.png", "e.png", "f.png"], "no caption with a word in it")
    assert rows.val_dataloader().unreadable == {}
    validation = rows.val_dataloader()
    assert len(list(validation)) == 1
    assert validation.unreadable == reasons
    assert loader.unreadable == {"d.png": "it is not there"}
    with pytest.raises(DataError, match=r"5 of 7 rows of split 'valid' are broken \(such as \['b.png', 'c.png'"):
        data(SOME, max_broken=0.5).val_dataloader()
    with pytest.raises(DataError, match=r"1 of 7 rows of split 'valid' are broken.*it is not there"):
        list(data(SOME, max_broken=0.1).predict_dataloader())


def test_a_value_of_captions_is_not_asked_for_without_any(tmp_path: Path) -> None:
    def of_some(texts: list[str]) -> list[float]:
        return [max(map(len, texts)) / len(text) for text in texts]  # an error without one

    assert data("a.png 10|b.png 20", caption_values=of_some).table("valid", needs_captions=False).values == [[], []]


@ALONE_AND_TWO
def test_a_data_set_without_any_caption(processes: dict[str, Any], tmp_path: Path, tiny_clip: str) -> None:
    """The source of classes, whose validation and test are refused."""
    colours = {f"{scene}/{n}.png": 40 * n + 9 * place for place, scene in enumerate(("Beach", "Port")) for n in (1, 2)}
    for name, colour in colours.items():
        (tmp_path / "scenes" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (colour, 90, 60)).save(tmp_path / "scenes" / name)
    scenes = data(str(tmp_path / "scenes"), "classes", predict_split="test")
    rows = predict(tmp_path / "run", module(tiny_clip), scenes, **processes)
    assert [row["filename"] for row in rows] == list(colours)
    assert [(row["captions"], row["caption_embeddings"]) for row in rows] == [([], [])] * 4
    with torch.no_grad():
        expected = module(tiny_clip).model.eval().encode_image(torch.cat([*map(image_of, colours.values())]))
    torch.testing.assert_close(torch.tensor([row["embedding"] for row in rows]), expected, atol=1e-5, rtol=0)
    with pytest.raises(DataError, match=r"split 'test' has no captions"):
        scenes.test_dataloader()


class Drifting(RetrievalModule):
    """Gives an image another embedding in each batch and on each process."""

    def predict_step(self, batch: Batch) -> dict[str, Tensor]:
        self.seen = getattr(self, "seen", 10 * self.global_rank) + 1
        outputs = super().predict_step(batch)
        return {**outputs, "image": outputs["image"] + self.seen}


@ALONE_AND_TWO
def test_equal_images_have_equal_embeddings(processes: dict[str, Any], tmp_path: Path, tiny_clip: str) -> None:
    """Those of the first, whatever batch and process they are in. Two processes have four rows each."""
    colours = [10, 20, 20, 30, 10, 40, 40, 10]
    rows = predict(
        tmp_path,
        module(tiny_clip, Drifting),
        data("|".join(f"{n}.png {c}" for n, c in enumerate(colours))),
        **processes,
    )
    vectors = np.array([row["embedding"] for row in rows])
    firsts = [colours.index(colour) for colour in colours]
    np.testing.assert_array_equal(vectors, vectors[firsts])
    batches = [1, 1, 2, 2, 11, 11, 12, 12] if processes else [1, 1, 2, 2, 3, 3, 4, 4]
    with torch.no_grad():
        plain = module(tiny_clip).model.eval().encode_image(torch.cat([*map(image_of, colours)]))
    expected = plain + torch.tensor(batches)[firsts, None]
    np.testing.assert_allclose(vectors, expected, atol=1e-5)


# --- The writer by itself, on embeddings that are made up.


def stub(folder: Path, names: list[str]) -> Any:
    loaders = SimpleNamespace(dataset=SimpleNamespace(table=SimpleNamespace(names=names)))
    return SimpleNamespace(
        default_root_dir=folder, global_rank=0, world_size=1, predict_dataloaders=loaders, received_sigterm=False
    )


def batch_of(
    ids: list[int], owners: list[int], texts: list[str], keys: list[int] | None, width: int
) -> tuple[Any, Any]:
    """What ``predict_step`` gives for a batch, and the batch."""
    generator = torch.Generator().manual_seed(ids[0])
    image, text = (torch.randn(len(rows), width, generator=generator) for rows in (ids, owners))
    outputs = {"image_ids": torch.tensor(ids), "image": image, "owners": torch.tensor(owners).long(), "text": text}
    none = torch.zeros(0)
    batch = Batch(none, none, texts, none, none, none, none, image_keys=None if keys is None else torch.tensor(keys))
    return outputs, batch


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> RetrievalModule:
    folder = tmp_path_factory.mktemp("clip")
    (folder / "tinyclip.json").write_text(tiny.json.dumps(tiny.CLIP))
    return tiny.module(
        TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", str(folder / "tinyclip.json")), embed_dim=256
    )


@settings(max_examples=tiny.examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    counts=st.lists(st.integers(0, 3), min_size=1, max_size=14),
    batch_size=st.integers(1, 5),
    shard=st.integers(1, 6),
    row_group=st.integers(1, 20_000),
    copies=st.none() | st.integers(1, 4),
    shuffled=st.randoms(use_true_random=False),
)
def test_the_file_is_what_a_list_of_rows_would_be(
    counts: list[int], batch_size: int, shard: int, row_group: int, copies: int | None, shuffled: Any,
    wide: RetrievalModule, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """Whatever the sizes of batches, shards and row groups, and the order of a batch's captions."""
    folder = tmp_path_factory.mktemp("run")
    trainer: Any = stub(folder, [f"{n}.png" for n in range(len(counts))])
    expected: list[dict[str, Any]] = []
    first: dict[int, list[float]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer_module, "ShardWriter", partial(ShardWriter, rows=shard))
        patch.setattr(writer_module, "ROW_GROUP_BYTES", row_group)
        writer = EmbeddingWriter()
        writer.on_predict_start(trainer, wide)
        for start in range(0, len(counts), batch_size):
            ids = list(range(start, min(start + batch_size, len(counts))))
            owners = [row for row in ids for _ in range(counts[row])]
            shuffled.shuffle(owners)
            texts = [f"text {place} of {row}" for place, row in enumerate(owners)]
            outputs, batch = batch_of(ids, owners, texts, copies and [row % copies for row in ids], 256)
            writer.on_predict_batch_end(trainer, wide, outputs, batch, 0)
            for place, row in enumerate(ids):
                own = [number for number, owner in enumerate(owners) if owner == row]
                expected.append(
                    {
                        "filename": f"{row}.png",
                        "embedding": first.setdefault(row % (copies or 99), outputs["image"][place].tolist()),
                        "captions": [texts[number] for number in own],
                        "caption_embeddings": [outputs["text"][number].tolist() for number in own],
                    }
                )
        writer.on_predict_end(trainer, wide)
    assert pq.read_table(folder / "embeddings-0.parquet").to_pylist() == expected
    assert [file.name for file in folder.iterdir()] == ["embeddings-0.parquet"]


def peak(folder: Path, model: RetrievalModule, rows: int) -> int:
    """Bytes of Python, numpy and Arrow at once, for rows of an image and two captions, where many images are equal."""
    trainer = stub(folder, [f"{n}.png" for n in range(rows)])
    pool, before = pa.proxy_memory_pool(pa.default_memory_pool()), pa.default_memory_pool()
    writer = EmbeddingWriter()
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        writer.on_predict_start(trainer, model)
        for start in range(0, rows, 50):
            ids = list(range(start, start + 50))
            keys = [row % (rows // 2) for row in ids]
            outputs, batch = batch_of(ids, [*ids, *ids], ["a pond"] * 100, keys, 256)
            writer.on_predict_batch_end(trainer, model, outputs, batch, 0)
        writer.on_predict_end(trainer, model)
        return tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)


def test_memory_does_not_grow_with_the_rows(
    wide: RetrievalModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row's vectors are 3 kB; what may grow is its key, and what it takes to find equal ones."""
    monkeypatch.setattr(writer_module, "ShardWriter", partial(ShardWriter, rows=100))
    monkeypatch.setattr(writer_module, "ROW_GROUP_BYTES", 500_000)
    peak(tmp_path, wide, 1000)  # what is imported at the first call
    small, large = (peak(tmp_path, wide, rows) for rows in (1000, 6000))
    assert (large - small) / 5000 < 200
    assert large < 6000 * 3 * 256 * 4 / 2
    file = pq.ParquetFile(tmp_path / "embeddings-0.parquet")
    assert file.metadata.num_rows == 6000
    assert file.num_row_groups > 30
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_what_a_dead_run_left_is_removed(wide: RetrievalModule, tmp_path: Path) -> None:
    """Its own, half a shard too, and that of a process more than there are now; no file of another name."""
    folder = tmp_path / "predict-shards"
    folder.mkdir()
    for name in ("00000-000000.arrow", "00000-000007.arrow", "00003-000001.arrow", "00000-000008.arrow.77.partial"):
        (folder / name).write_bytes(b"half")
    (folder / "notes.txt").touch()
    trainer = stub(tmp_path, ["a.png"])
    writer = EmbeddingWriter()
    writer.on_predict_start(trainer, wide)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]
    outputs, batch = batch_of([0], [], [], None, 256)
    writer.on_predict_batch_end(trainer, wide, outputs, batch, 0)
    writer.on_predict_end(trainer, wide)
    (row,) = pq.read_table(tmp_path / "embeddings-0.parquet").to_pylist()
    assert row == {
        "filename": "a.png",
        "embedding": outputs["image"][0].tolist(),
        "captions": [],
        "caption_embeddings": [],
    }
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


# --- Through the command line.


@pytest.fixture
def _signals_as_they_were() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("moment", ["in a batch", "while the file is written"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.usefixtures("_signals_as_they_were")
def test_a_signal_is_the_exit_status_and_leaves_no_half_file(
    number: signal.Signals, moment: str, tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """An earlier run's file stays as it was."""
    run = tmp_path / "run"
    args = ["predict", *small_configuration(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0])]
    run.mkdir()
    (run / "embeddings-0.parquet").write_text("an earlier one")
    shards = []

    def then_signalled(function: Any) -> Any:
        @wraps(function)
        def call(*rest: Any, **more: Any) -> Any:
            outputs = function(*rest, **more)
            os.kill(os.getpid(), number)
            shards.append((run / "predict-shards").exists())
            return outputs

        return call

    owner, name = {
        "in a batch": (RetrievalModule, "predict_step"),
        "while the file is written": (pq.ParquetWriter, "write_table"),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, then_signalled(getattr(owner, name)))
        patch.setattr(writer_module, "ROW_GROUP_BYTES", 1)
        with pytest.raises(SystemExit) as end:
            cli.main(args)
    assert end.value.code == 128 + number
    assert len(shards) <= 1
    assert sorted(file.name for file in run.iterdir()) == ["embeddings-0.parquet", "lightning_logs", "predict.lock"]
    assert (run / "embeddings-0.parquet").read_text() == "an earlier one"


def test_the_command_keeps_nothing_and_runs_once_in_a_folder(
    tmp_path: Path, tiny_data: str, tiny_bert: str, tiny_clip: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning would keep the outputs of all batches."""
    monkeypatch.setattr(run_folder, "LEFT_BEHIND", 0.1)
    run = tmp_path / "run"
    args = ["predict", *small_configuration(run, tiny_data, tiny_bert, tiny_clip, CONFIGS[0])]
    returned = []
    code = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(timeout=0)"
    other = [sys.executable, "-c", code, str(run / "predict.lock")]

    @wraps(Trainer.predict)
    def predict(*rest: Any, predict: Any = Trainer.predict, **more: Any) -> None:
        returned.append(predict(*rest, **more))
        assert "Timeout" in subprocess.run(other, capture_output=True, text=True, check=False).stderr

    monkeypatch.setattr(Trainer, "predict", predict)
    cli.main(args)
    assert returned == [None]
    assert pq.read_metadata(run / "embeddings-0.parquet").num_rows == 5
    hold = [*other[:2], f"{code.replace('sys,', 'sys, time,')}; print(flush=True); time.sleep(60)", other[3]]
    with subprocess.Popen(hold, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(RuntimeError, match=r"another process predicts in .*: wait until it ends, or give this one"):
            cli.main(args)
        process.kill()
