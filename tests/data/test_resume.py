"""Tokens and epochs in workers that stay; the data module's state in checkpoints; processes that agree."""

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch import Tensor

from rsretrieval.data import Columns, Record, RetrievalDataModule, RetrievalStream, Source, register_dataset
from rsretrieval.data import stream as stream_module
from rsretrieval.data.loader import EpochLoader
from rsretrieval.data.order import training_length
from rsretrieval.data.resume import continues
from rsretrieval.data.table import build_table
from rsretrieval.data.transforms import evaluation
from rsretrieval.types import Batch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


def tokenize(texts: Sequence[str]) -> dict[str, Tensor]:
    """Lengths of the texts, and the process that tokenised them."""
    return {
        "input_ids": torch.tensor([[len(text), len(text.split())] for text in texts]),
        "process": torch.full((len(texts), 1), os.getpid()),
    }


@register_dataset("small ponds")
class Ponds(Source):
    """60 rows of noise; as ``revision`` another one each time that somebody asks for the newest."""

    def __init__(self, path: str, columns: Columns, revision: str | None = None) -> None:
        self.revision = revision or f"asked by {os.getpid()}"

    def records(self, split: str) -> list[Record]:
        return [Record(f"pond_{n}.png", (f"the pond {n} is round", f"water {n}")) for n in range(60)]

    def read(self, split: str, block: int) -> list[Image.Image]:
        noise = np.random.default_rng(block).integers(0, 256, (20, 20, 3), np.uint8)
        return [Image.fromarray(noise)]


def module(workers: int, **options: Any) -> RetrievalDataModule:
    settings = {"source": "small ponds", "image_size": 16, "batch_size": 5, "num_workers": workers} | options
    return RetrievalDataModule(captions_per_image=1, **settings)


def trainer(**options: Any) -> Any:
    """What the data module asks of one."""
    settings = {"global_rank": 0, "world_size": 1, "current_epoch": 0, "state": SimpleNamespace(fn=TrainerFn.FITTING)}
    return SimpleNamespace(**settings | options)


def fields(batch: Batch) -> list[Any]:
    images = batch.images.contiguous().numpy().tobytes()
    return [images, batch.texts, batch.tokens["input_ids"].tolist(), batch.image_ids.tolist(), batch.skipped]


def epoch(data: RetrievalDataModule, loader: EpochLoader, number: int, batches: int = 12) -> list[Batch]:
    data.trainer.current_epoch = number
    return list(islice(loader, batches))


def test_tokens_and_epochs_are_the_same_whichever_process_makes_them() -> None:
    """Workers stay from epoch to epoch, also after an epoch that is left in its middle."""
    modules = [module(workers, word_deletion=0.3) for workers in (0, 2)]
    for data in modules:
        data.tokenizer, data.trainer = tokenize, trainer()
    loaders = [data.train_dataloader() for data in modules]
    processes = []
    for number, batches in enumerate((12, 3, 12)):
        here, of_workers = (epoch(*pair, number, batches) for pair in zip(modules, loaders, strict=True))
        new = module(2, word_deletion=0.3)
        new.tokenizer, new.trainer = tokenize, trainer()
        assert [*map(fields, of_workers)] == [*map(fields, epoch(new, new.train_dataloader(), number, batches))]
        assert [*map(fields, here)] == [*map(fields, of_workers)]
        assert all(len(batch.tokens["input_ids"]) == len(batch.texts) == 5 for batch in [*here, *of_workers])
        assert {int(p) for batch in here for p in batch.tokens["process"]} == {os.getpid()}
        processes.append({int(p) for batch in of_workers for p in batch.tokens["process"]})
    assert processes[0] == processes[1] == processes[2]
    assert len(processes[0] - {os.getpid()}) == 2


def test_evaluation_tokenises_every_caption() -> None:
    data = module(0)
    assert next(iter(data.val_dataloader())).tokens == {}
    data.tokenizer = tokenize
    batch = next(iter(data.val_dataloader()))
    assert batch.tokens["input_ids"].shape == (2 * 60, 2)
    assert batch.tokens["input_ids"].tolist() == tokenize(batch.texts)["input_ids"].tolist()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_rest_of_an_epoch_after_a_resume(workers: int) -> None:
    data = module(workers)
    data.tokenizer, data.trainer = tokenize, trainer(current_epoch=2)
    whole = [fields(batch) for batch in data.train_dataloader()]
    assert data.state_dict()["batches"] == 0  # after its end
    interrupted = iter(data.train_dataloader())
    for _ in range(5):
        next(interrupted)
    state = json.loads(json.dumps(data.state_dict()))
    assert (state["epoch"], state["batches"]) == (2, 5)
    again = module(workers)
    again.tokenizer, again.trainer = tokenize, trainer(current_epoch=2)
    again.load_state_dict(state)
    assert again.restart_reason(state) is None
    loader = again.train_dataloader()
    assert [fields(batch) for batch in loader] == whole[5:]
    again.trainer.current_epoch = 3
    assert len(list(loader)) == len(whole) == 12


def test_a_position_is_used_once_and_by_the_first_iteration_alone() -> None:
    data = module(0)
    loader = data.train_dataloader()
    whole = [batch.texts for batch in loader]
    next(iter(loader))  # to look at a batch eats none
    assert [batch.texts for batch in loader] == whole
    half_read = iter(loader)
    assert [next(half_read).texts for _ in range(4)] == whole[:4]
    assert [batch.texts for batch in loader] == whole
    data.load_state_dict({**data.state_dict(), "epoch": 0, "batches": 7})
    assert [batch.texts for batch in data.train_dataloader()] == whole[7:]
    assert [batch.texts for batch in data.train_dataloader()] == whole
    data.load_state_dict({**data.state_dict(), "epoch": 3, "batches": 7})
    assert [batch.texts for batch in loader] == whole  # another epoch than the checkpoint's
    data.trainer = trainer(current_epoch=3)
    assert len(list(loader)) == len(whole)  # and the position is gone


def test_who_looks_at_a_batch_during_training_changes_nothing() -> None:
    data = module(0)
    loader = data.train_dataloader()
    whole = [batch.texts for batch in loader]
    data.trainer = trainer(train_dataloader=None)  # as before Lightning has asked for the loader
    data.load_state_dict({**data.state_dict(), "epoch": 0, "batches": 5})
    assert next(iter(data.train_dataloader())).texts == whole[0]
    data.trainer.train_dataloader = loader = data.train_dataloader()
    training = iter(loader)
    assert next(training).texts == whole[5]
    assert next(iter(data.train_dataloader())).texts == whole[0]
    assert data.state_dict()["batches"] == 6
    assert next(training).texts == whole[6]


@pytest.mark.parametrize("train", [True, False])
def test_the_order_is_the_same_under_any_number_of_workers(train: bool) -> None:
    def texts(workers: int) -> list[list[str]]:
        data = module(workers, eval_batch_size=7)
        return [batch.texts for batch in (data.train_dataloader() if train else data.val_dataloader())]

    assert texts(0) == texts(2) == texts(3)


def drawn(batch: Batch) -> tuple[bytes, list[str]]:
    """What is random in a batch."""
    return batch.images.contiguous().numpy().tobytes(), batch.texts


def test_killed_with_two_workers_and_resumed_with_none_or_three() -> None:
    data = module(2)
    data.trainer = trainer(current_epoch=1)
    whole = [drawn(batch) for batch in data.train_dataloader()]
    interrupted = iter(data.train_dataloader())
    for _ in range(5):
        next(interrupted)
    state = json.loads(json.dumps(data.state_dict()))
    for workers in (0, 1, 3):
        again = module(workers)
        again.trainer = trainer(current_epoch=1)
        again.load_state_dict(state)
        assert [drawn(batch) for batch in again.train_dataloader()] == whole[5:]


NOW = {
    "epoch": -1, "batches": 0, "num_workers": 2, "batch_size": 5, "world_size": 1, "seed": 0, "captions_per_image": 1,
    "shuffle": True, "accumulate_grad_batches": 1, "limit_train_batches": 1.0, "revision": None, "by_worker": False,
    "source": ["small ponds", ""], "columns": {}, "holdout": 0.0,
}  # fmt: skip


def test_a_position_of_older_processes_starts_its_epoch_again() -> None:
    """They had a part of the epoch each, where now their batches are together those of one process."""
    now = {**NOW, "epoch": 3, "batches": 4, "world_size": 2, "ranks_take_turns": True}
    older = {name: value for name, value in now.items() if name != "ranks_take_turns"}
    assert continues(now, now) is None
    assert continues(older, now) == "an older version wrote it, whose processes divided an epoch otherwise"
    assert continues({**older, "world_size": 1}, {**now, "world_size": 1}) is None
    assert continues(older, {**now, "ranks_take_turns": False}) is None  # of blocks, as it was


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"revision": "abc"}, None),
        ({"num_workers": 0}, None),
        ({"num_workers": 0, "by_worker": True}, "written with num_workers=0, and this run has num_workers=2"),
        ({"num_workers": 3, "by_worker": None}, "written with num_workers=3, and this run has num_workers=2"),
        ({"by_worker": None}, "an older version wrote it, whose loading processes divided an epoch otherwise"),
        ({"batch_size": 100, "seed": 1}, "with batch_size=100, seed=1, and this run has batch_size=5, seed=0"),
        ({"world_size": 4}, "it was written with world_size=4, and this run has world_size=1"),
        ({"captions_per_image": 2}, "with captions_per_image=2, and this run has captions_per_image=1"),
        ({"shuffle": False}, "with shuffle=False, and this run has shuffle=True"),
        ({"accumulate_grad_batches": 3}, "with accumulate_grad_batches=3, and this run has accumulate_grad_batches=1"),
        ({"limit_train_batches": 5}, "with limit_train_batches=5, and this run has limit_train_batches=1.0"),
        ({"source": ["small ponds", "elsewhere"]}, None),  # of the same rows
        ({"rows": "others"}, "the rows or captions of the training split have changed since"),
        ({"rows": "others", "holdout": 0.2}, "it was written with holdout=0.2, and this run has holdout=0.0"),
        ({"rows": "others", "source": ["hub", "a/b"]}, "with source=['hub', 'a/b'], and this run has source=['small"),
        ({"num_workers": None}, "an older version wrote it"),
    ],
)
def test_positions_that_do_not_continue_start_their_epoch_again(
    change: dict[str, Any], reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    data = module(2)
    data.trainer = trainer()
    data.table("train")
    now = data.state_dict()
    state = {**now, "columns": now["columns"], "epoch": 3, "batches": 4} | change
    state = {key: value for key, value in state.items() if value is not None}
    assert set(NOW) <= set(now)
    assert (continues(state, now) or "").find(reason or "") >= 0
    assert (continues(state, now) is None) == (reason is None)
    assert continues({**state, "batches": 0}, now) is None  # in no epoch's middle
    data.load_state_dict(state)
    expected = (3, 4 - 4 % state.get("accumulate_grad_batches", 1)) if reason is None else (-1, 0)
    assert (data.state_dict()["epoch"], data.state_dict()["batches"]) == expected
    warned = f"epoch 3 is not kept, so where the run was in its middle that epoch starts again: {continues(state, now)}"
    assert caplog.text.count(warned) == (reason is not None)
    caplog.clear()
    data.trainer = trainer(state=SimpleNamespace(fn=TrainerFn.TESTING))
    data.load_state_dict(state)
    assert not caplog.text
    assert data.restart_reason(state) is None


def test_a_position_between_two_steps_goes_back_to_the_last_one(caplog: pytest.LogCaptureFixture) -> None:
    data = module(0)
    data.trainer = trainer(accumulate_grad_batches=3)
    whole = [batch.texts for batch in data.train_dataloader()]
    data.load_state_dict({**data.state_dict(), "epoch": 0, "batches": 5})
    assert "middle of 3 batches whose gradients are added up: those since the last step are trained on" in caplog.text
    assert [batch.texts for batch in data.train_dataloader()] == whole[3:]


class Numbered(Source):
    """Rows in blocks of given sizes."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = sizes

    def records(self, split: str) -> list[Record]:
        return [
            Record(f"{n}.png", tuple(f"row {n} caption {c}" for c in range(1 + n % 3))) for n in range(sum(self.sizes))
        ]

    def blocks(self, split: str) -> list[int]:
        return self.sizes

    def read(self, split: str, block: int) -> list[Image.Image]:
        return [Image.new("RGB", (4, 4))] * self.sizes[block]


def lanes(stream: RetrievalStream, workers: int) -> list[list[str]]:
    """The texts of each batch, as a loader with that many workers gives them, without the processes."""

    def lane(number: int) -> Iterator[Batch]:
        iterator = iter(stream)
        info = SimpleNamespace(id=number, num_workers=workers)
        while True:
            with patch.object(stream_module, "get_worker_info", lambda: info):
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch

    if not workers:
        return [batch.texts for batch in stream]
    texts: list[list[str]] = []
    turns = [lane(number) for number in range(workers)]
    while turns:
        for turn in list(turns):
            batch = next(turn, None)
            if batch is None:
                turns.remove(turn)
            else:
                texts.append(batch.texts)
    return texts


BLOCKS = st.one_of(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(4, 30).map(lambda n: [1] * n))


@hypothesis.settings(max_examples=tiny.examples(40), deadline=None)
@hypothesis.given(st.data(), BLOCKS, st.integers(1, 4), st.sampled_from([0, 1, 2, 3]), st.sampled_from([0, 1, 2, 3]))
def test_each_remaining_sample_once_wherever_a_run_is_killed(
    draw: st.DataObject, sizes: list[int], batch_size: int, before: int, after: int
) -> None:
    world = draw.draw(st.sampled_from([1, 2]), "processes")
    shard = draw.draw(st.integers(0, world - 1), "rank"), world
    per_image = draw.draw(st.sampled_from([None, 1, 2]), "captions an image")
    source = Numbered(sizes)
    table = build_table(source, "train")
    hypothesis.assume(training_length(table, per_image, batch_size, world))

    def stream() -> RetrievalStream:
        result = RetrievalStream(
            source, "train", table, evaluation(4), batch_size, shard, train=True, captions_per_image=per_image, window=5
        )
        result.epoch = 2
        return result

    whole = lanes(stream(), before)
    assert max(Counter(text for batch in whole for text in batch).values()) == 1
    assert len(whole) == len(stream())
    killed = draw.draw(st.integers(0, len(whole) - 1), "batches before the kill")
    settings = {"batch_size": batch_size, "world_size": world, "seed": 0, "by_worker": max(sizes) > 1}
    state, now = ({**settings, "epoch": 2, "batches": killed, "num_workers": workers} for workers in (before, after))
    if killed and continues(state, now) is None:
        rest = stream()
        rest.skip = killed
        assert lanes(rest, after) == whole[killed:]
    else:
        assert not killed or max(sizes) > 1
        assert sorted(t for batch in lanes(stream(), after) for t in batch) == sorted(
            t for batch in whole for t in batch
        )


def test_the_revision_of_a_checkpoint_is_read_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    data = module(0)
    data.setup("fit")
    state = data.state_dict()
    assert (state["revision"], state["source"]) == (f"asked by {os.getpid()}", ["small ponds", ""])
    table = data.table("valid")
    data.load_state_dict(state)
    assert data.table("valid") is table
    assert not caplog.text
    data.load_state_dict({**state, "revision": "older"})
    assert data.source.revision == data.state_dict()["revision"] == "older"
    assert data.table("valid") is not table
    assert "reading revision older as the checkpoint did, not the newest, asked by" in caplog.text
    for other in (module(0, revision="pinned"), module(0, path="x")):
        other.load_state_dict({**state, "revision": "older"})
        assert other.source.revision != "older"


class Revisions(LightningModule):
    """Notes which revision each process reads."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.layer = torch.nn.Linear(1, 1)

    def validation_step(self, batch: Batch) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        (self.folder / f"rank{self.global_rank}").write_text(data.state_dict()["revision"])


def test_processes_agree_on_the_revision(tmp_path: Path) -> None:
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", limit_val_batches=1, logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.validate(Revisions(tmp_path), module(0), verbose=False)
    revisions = [(tmp_path / f"rank{rank}").read_text() for rank in range(2)]
    assert revisions[0] == revisions[1]
    assert revisions[0].startswith("asked by")
