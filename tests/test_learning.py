"""Training teaches: a small fit through the command line is far above chance; what is predicted is the model's own."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import torch

from rsretrieval import RetrievalDataModule, RetrievalModule, cli
from rsretrieval.metrics import retrieval_recall

SMALL = [
    "-c", "quickstart", "--data.image_size=64", "--data.num_workers=0", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--report.queries=0",
]  # fmt: skip
CHANCE = 2.0
"""mR of a model that knows nothing, on 300 images of five captions each: about 100/300 (1 + 5 + 10) / 3, both ways."""


@pytest.mark.slow
def test_a_small_fit_is_far_above_chance_and_predict_gives_its_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No broken wiring reaches this: shuffled pairs, swapped owners or a loss without gradient stay at chance."""
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    run = [*SMALL, f"--trainer.default_root_dir={tmp_path}"]
    cli.main(["fit", *run, "--trainer.max_epochs=2"])
    with next(tmp_path.rglob("metrics.csv")).open() as lines:
        figures = [float(row["val/mR"]) for row in csv.DictReader(lines) if row["val/mR"]]
    assert figures[-1] > 8 * CHANCE
    assert figures[-1] > figures[0]
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    cli.main(["predict", *run, "--ckpt_path", str(checkpoint)])
    rows = datasets.Dataset.from_parquet(str(tmp_path / "embeddings-0.parquet"))
    image = torch.tensor(rows["embedding"])
    text = torch.tensor([vector for vectors in rows["caption_embeddings"] for vector in vectors])
    owners = torch.tensor([row for row, vectors in enumerate(rows["caption_embeddings"]) for _ in vectors])
    assert retrieval_recall(image=image, text=text, owners=owners)["mR"] == pytest.approx(figures[-1], abs=0.3)
    module = RetrievalModule.load_from_checkpoint(checkpoint).eval()
    data = RetrievalDataModule(image_size=64, num_workers=0)
    batch = next(iter(data.val_dataloader()))
    assert rows["filename"][:64] == data.table("valid").names[:64]
    with torch.no_grad():
        torch.testing.assert_close(image[:64], module.model.encode_image(batch.images), atol=1e-4, rtol=0)
        torch.testing.assert_close(text[:320], module.model.encode_text(batch.texts), atol=1e-4, rtol=0)


@pytest.mark.slow
def test_everything_under_lightnings_own_ddp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes through the command line: averaged weights, bank, report, resume, writer; figures as on one."""
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run = [
        *SMALL, f"--trainer.default_root_dir={tmp_path}", "--trainer.limit_train_batches=4", "--data.batch_size=16",
        "--model.encoder.query_bank=40", "--trainer.callbacks=rsretrieval.training.callbacks.AveragedWeights",
        "--report.queries=1",
    ]  # fmt: skip

    def command(name: str, *arguments: str) -> None:
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "rsretrieval", name, *run, *arguments], env=env, capture_output=True, text=True,
            check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    command("fit", *two, "--trainer.max_epochs=1")
    command("fit", *two, "--trainer.max_epochs=2", "--ckpt_path=last")
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 8
    assert checkpoint["RetrievalDataModule"]["world_size"] == 2
    assert checkpoint["state_dict"]["model.bank.total"] == 4 * 2 * 2 * 16
    assert checkpoint["averaging_state"]["n_averaged"] > 1
    assert (tmp_path / "results-val.png").is_file()
    command("predict", *two, "--ckpt_path=last")
    parts = [datasets.Dataset.from_parquet(str(tmp_path / f"embeddings-{rank}.parquet")) for rank in (0, 1)]
    names = [name for part in parts for name in part["filename"]]
    assert names == RetrievalDataModule().table("valid").names
    command("validate", *two, "--ckpt_path=last")
    command("validate", "--ckpt_path=last")
    figures = []
    for file in sorted(tmp_path.rglob("metrics.csv"), key=lambda file: file.stat().st_mtime)[-2:]:
        with file.open() as lines:
            figures.append(
                [{k: v for k, v in row.items() if k.startswith("val/")} for row in csv.DictReader(lines)][-1]
            )
    assert figures[0] == figures[1]
