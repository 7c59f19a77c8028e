"""What the report says: the protocol, the ceiling that repeated captions set, and graded figures from scene labels."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from PIL import Image

from rsretrieval import RetrievalDataModule, RetrievalModule, TowerConfig
from rsretrieval.data import Columns, Record, Source, register_dataset
from rsretrieval.data.scenes import guessed_scenes, stated_scenes
from rsretrieval.metrics import HubnessConfig, graded_retrieval, recall_ceiling, retrieval_recall
from rsretrieval.training import Stage, figures_table
from rsretrieval.training.callbacks import RetrievalReport, ValueGuidedLearning

sys.path.insert(0, str(Path(__file__).parent))
import tiny

GRADED = ["i2t_mAP@10", "i2t_nDCG@10", "t2i_mAP@10", "t2i_nDCG@10"]


@register_dataset("scenes and captions")
class ScenesAndCaptions(Source):
    """``path`` names how the rows are labelled; a caption of each row is its own, and one is that of four rows."""

    def __init__(self, path: str, columns: Columns) -> None:
        self.kind = path

    def records(self, split: str) -> list[Record]:
        names = {
            "column": lambda n: f"{n}.png", "none": lambda n: f"{n}.png", "one scene": lambda n: f"pond_{n}.png",
            "some": lambda n: f"{'pond' if n % 2 else 'pier'}_{n}.png" if n else "0.png",
            "repeated": lambda n: f"{n}.png",
        }  # fmt: skip
        shared = [(f"Water, number {n // 4}.",) for n in range(16)]
        captions = [texts if self.kind == "repeated" else (*texts, f"pond {n}") for n, texts in enumerate(shared)]
        scene = (lambda n: f"scene {n % 3}") if self.kind == "column" else lambda n: None
        return [Record(names[self.kind](n), captions[n], scene=scene(n)) for n in range(16)]

    def read(self, split: str, block: int) -> list[Image.Image]:
        return [Image.new("RGB", (8, 8), (15 * block, 90, 60))]


def data(kind: str, **options: Any) -> RetrievalDataModule:
    settings = {"image_size": 64, "batch_size": 4, "eval_batch_size": 8, "num_workers": 0, "augmentation": "none"}
    return RetrievalDataModule("scenes and captions", kind, **settings | options)


def run(
    call: str, folder: Path, clip: str, part: RetrievalDataModule, report: RetrievalReport | None = None, **options: Any
) -> tuple[dict[str, float], RetrievalModule]:
    torch.manual_seed(0)
    module = tiny.module(TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", clip), **options)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False, max_epochs=1,
        enable_checkpointing=False, num_sanity_val_steps=0, default_root_dir=folder, limit_train_batches=1,
        callbacks=[ValueGuidedLearning([Stage(0, {"contrastive": 1})]), report or RetrievalReport(0)],
    )  # fmt: skip
    getattr(trainer, call)(module, part)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}, module


@pytest.mark.parametrize("call", ["validate", "test", "fit"])
@pytest.mark.parametrize("queries", ["every", "distinct"])
def test_protocol_and_ceiling(
    call: str, queries: str, tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    figures, module = run(call, tmp_path, tiny_clip, data("column", queries=queries))
    split = module.recall.merged()
    case = {"owners": split.owners, "text_ids": split.caption_rows, "queries": queries}
    recall = retrieval_recall(image=split.image, text=split.text[split.caption_rows], **case)
    prefix = "test" if call == "test" else "val"
    assert {name: figures[f"{prefix}/{name}"] for name in recall} == pytest.approx(recall)
    table = next(message for message in caplog.messages if "i2t_R@1" in message).splitlines()
    row = next(line for line in table if line.startswith("ceiling"))
    assert [float(value) for value in row.split()[1:]] == pytest.approx(
        list(recall_ceiling(**case).values()), abs=0.006
    )
    assert all("mAP" not in line for line in table)
    said = {"every": "every caption a query", "distinct": "each distinct caption once"}[queries]
    assert table[-1].startswith(f"protocol: {said}")
    # Half of the captions are shared by four images: t2i_R@1 (1 + 1/4) / 2, and all else is 100.
    assert ("captions repeat over images: a perfect encoder reaches mR 93.75" in caplog.text) == (queries == "every")
    assert ("t2i_R@1 62.50, no more" in caplog.text) == (queries == "every")
    assert (set(GRADED) <= {name.partition("/")[2] for name in figures}) == (call != "fit")


def test_no_warning_where_few_captions_repeat(tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture) -> None:
    run("validate", tmp_path, tiny_clip, data("column", max_words=30, queries="distinct"))
    assert "captions repeat" not in caplog.text


@pytest.mark.parametrize("queries", ["every", "distinct"])
def test_graded_figures_are_those_of_the_functions(
    queries: str, tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    figures, module = run("test", tmp_path, tiny_clip, data("column", queries=queries), RetrievalReport(0, (2, 10)))
    split = module.recall.merged()
    wanted = graded_retrieval(
        image=split.image, text=split.text[split.caption_rows], owners=split.owners, scenes=torch.arange(16) % 3,
        ks=(2, 10), distinct_ids=split.caption_rows if queries == "distinct" else None,
    )  # fmt: skip
    assert {name: figures[f"test/{name}"] for name in wanted} == pytest.approx(wanted)
    table = next(message for message in caplog.messages if "i2t_mAP@2" in message).splitlines()
    assert [float(value) for value in table[1].split()[1:]] == pytest.approx(list(wanted.values()), abs=0.006)
    assert table[2] == "relevant is what is of the query's scene, of 3 scenes"


@pytest.mark.parametrize("kind", ["none", "one scene"])
def test_without_scene_labels_there_are_no_graded_figures(
    kind: str, tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    figures, _ = run("validate", tmp_path, tiny_clip, data(kind))
    assert not any("mAP" in name for name in figures)
    assert "no mAP and nDCG: the split has no scene labels" in caplog.text


def test_graded_figures_can_be_left_out(tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    figures, _ = run("validate", tmp_path, tiny_clip, data("column"), RetrievalReport(0, ()))
    assert not any("mAP" in name for name in figures)
    assert "mAP" not in caplog.text
    with pytest.raises(ValueError, match="ranks of 1 or more"):
        RetrievalReport(0, (0,))


def test_guessed_scenes_are_counted(tmp_path: Path, tiny_clip: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    run("validate", tmp_path, tiny_clip, data("some"))
    assert "of 2 scenes; that of 1 images is guessed from their captions" in caplog.text
    records = ScenesAndCaptions("none", Columns()).records("valid")
    assert guessed_scenes(stated_scenes(records)) == 0  # each is a class of its own
    assert guessed_scenes(stated_scenes(records, {"3.png": "pier"})) == 15


def test_hubness_corrected_figures_follow_the_protocol(tmp_path: Path, tiny_clip: str) -> None:
    corrected = {}
    for queries in ("every", "distinct"):
        figures, module = run(
            "validate", tmp_path, tiny_clip, data("repeated", queries=queries), hubness=HubnessConfig()
        )
        corrected[queries] = figures["val_hubness_corrected/mR"]
        assert corrected[queries] == pytest.approx(module.recall.hubness_corrected(HubnessConfig())["mR"])
    assert corrected["distinct"] > corrected["every"]


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--data.queries 'all' is unknown: possible are \['distinct', 'every'\]"):
        data("column", queries="all")


def test_a_row_may_lack_figures_of_the_first() -> None:
    table = figures_table({"test": {"i2t_nDCG@10": 1.0, "own": 2.0}, "ceiling": {"i2t_nDCG@10": 100.0}})
    assert table.splitlines() == [
        "         i2t_nDCG@10          own",
        "test            1.00         2.00",
        "ceiling       100.00",
    ]
