"""Tokens and epochs in workers that stay; the data module's state in checkpoints; processes that agree."""

import json
import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from PIL import Image
from torch import Tensor

from rsretrieval.data import Columns, Record, RetrievalDataModule, Source, register_dataset
from rsretrieval.data.loader import EpochLoader
from rsretrieval.data.resume import continues
from rsretrieval.types import Batch


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
        if batches == 12:  # workers take turns, each with its part of the epoch
            assert sorted(map(fields, here)) == sorted(map(fields, of_workers))
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


NOW = {"epoch": -1, "batches": 0, "num_workers": 2, "batch_size": 5, "world_size": 1, "seed": 0, "revision": None}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"revision": "abc"}, None),
        ({"num_workers": 0}, "it was written with num_workers=0, and this run has num_workers=2"),
        ({"batch_size": 100, "seed": 1}, "with batch_size=100, seed=1, and this run has batch_size=5, seed=0"),
        ({"world_size": 4}, "it was written with world_size=4, and this run has world_size=1"),
        ({"num_workers": None}, "an older version wrote it"),
    ],
)
def test_positions_that_do_not_continue_start_their_epoch_again(
    change: dict[str, Any], reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    state = {**NOW, "epoch": 3, "batches": 4} | change
    state = {key: value for key, value in state.items() if value is not None}
    assert (continues(state, NOW) or "").find(reason or "") >= 0
    assert (continues(state, NOW) is None) == (reason is None)
    assert continues({**state, "batches": 0}, NOW) is None  # in no epoch's middle
    data = module(2)
    data.trainer = trainer()
    data.load_state_dict(state)
    expected = (3, 4) if reason is None else (-1, 0)
    assert (data.state_dict()["epoch"], data.state_dict()["batches"]) == expected
    assert data.restart_reason(state) == continues(state, NOW)
    warned = f"epoch 3 is not kept, so where the run was in its middle that epoch starts again: {continues(state, NOW)}"
    assert caplog.text.count(warned) == (reason is not None)
    caplog.clear()
    data.trainer = trainer(state=SimpleNamespace(fn=TrainerFn.TESTING))
    data.load_state_dict(state)
    assert not caplog.text


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
