"""A stranger's file with a data set, two towers and a loss trains from a configuration, the package untouched."""

import csv
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

PLUGIN = '''
"""Everything that can be registered, once."""

import torch
from PIL import Image
from torch import nn

from rsretrieval import register_dataset, register_image_tower, register_loss, register_text_tower
from rsretrieval.data import Record, Source
from rsretrieval.types import TowerOutput


@register_dataset("harbours")
class Harbours(Source):
    """Pictures of one colour; their captions say how red they are. The path says how many there are."""

    def __init__(self, path, columns):
        self.rows = int(path)

    def records(self, split):
        return [Record(f"{split}_{n}.png", (f"red {n}", f"harbour {n}"), "harbour") for n in range(self.rows)]

    def read(self, split, block):
        return [Image.new("RGB", (20, 20), (10 * block, 0, 0))]


class Means(nn.Module):
    pooled_width = token_width = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, images):
        return TowerOutput(images.mean((2, 3)) * self.scale, images.flatten(2).transpose(1, 2))


@register_image_tower("means")
def means(config, image_size):
    assert config.options == {"anything": 1}
    return Means()


def tokenize(texts):
    return {"input_ids": torch.tensor([[len(text), int(text.split()[-1])] for text in texts])}


class Numbers(nn.Module):
    pooled_width = token_width = 2

    def __init__(self):
        super().__init__()
        self.tokenizer = tokenize

    def forward(self, tokens):
        return TowerOutput(tokens["input_ids"].float(), tokens["input_ids"][:, None].float())


@register_text_tower("numbers")
def numbers(config):
    return Numbers()


@register_loss("distance")
def distance(pairs, context):
    return (pairs.image - pairs.text).norm(dim=1).pow(context.options["power"]).mean()
'''
CONFIG = """
plugins: [PLUGIN]
trainer: {accelerator: cpu, max_epochs: 2, default_root_dir: run, log_every_n_steps: 1}
data: {source: harbours, path: "12", image_size: 8, batch_size: 4, num_workers: 1, augmentation: none, word_deletion: 0}
model:
  encoder:
    image: {library: means, name: mean colour, weights: null, options: {anything: 1}}
    text: {library: numbers, name: numbers, weights: null}
    convolutional_branch: null
    embed_dim: 4
  objective: {options: {distance: {power: 2}}}
  optimizer: {learning_rate: 0.01}
schedule: {stages: [{from_epoch: 0, losses: {contrastive: 1, distance: 0.5}}]}
report: {queries: 1}
"""


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rsretrieval", *arguments]
    return subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_strangers_file_trains(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "harbour_parts.py").write_text(PLUGIN)
    (tmp_path / "own.yaml").write_text(CONFIG.replace("PLUGIN", "mine/harbour_parts.py"))
    done = run(tmp_path, "fit", "-c", "own.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    with next((tmp_path / "run").rglob("metrics.csv")).open() as lines:
        rows = list(csv.DictReader(lines))
    distances = [float(row["train/distance"]) for row in rows if row.get("train/distance")]
    assert len(distances) == 2 * (24 // 4)
    assert 0 < distances[-1] <= 4
    assert (tmp_path / "run" / "results-val.png").is_file()
    keys = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert "model.image_tower.scale" in keys
    # What is registered serves other commands too.
    plugin = ["--plugins", "mine/harbour_parts.py"]
    done = run(tmp_path, "export", "run/checkpoints/last.ckpt", "--to", "to", *plugin)
    assert (tmp_path / "to" / "config.json").is_file(), done.stderr[-3000:]
    done = run(tmp_path, "data", "prepare", "harbours", "--path", "3", "--to", "copy", *plugin)
    assert (tmp_path / "copy" / "train-00000-of-00001.parquet").is_file(), done.stderr[-3000:]


OWN_CLASSES = '''
"""Another module and another data module, through LightningCLI's subclass mode."""

import torch
from lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from rsretrieval import RetrievalModule


class Line(LightningModule):
    """Fits a line, and logs a figure of its own."""

    def __init__(self, rate: float = 0.1):
        super().__init__()
        self.rate, self.layer = rate, torch.nn.Linear(1, 1)

    def training_step(self, batch):
        return (self.layer(batch) - 2 * batch).pow(2).mean()

    def validation_step(self, batch):
        self.log("val/loss", self.training_step(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.rate)


class Points(LightningDataModule):
    def __init__(self, count: int = 8):
        super().__init__()
        self.count = count

    def train_dataloader(self):
        return DataLoader(torch.linspace(-1, 1, self.count)[:, None], 4)

    val_dataloader = train_dataloader


class Doubled(RetrievalModule):
    """Ours with another learning rate."""

    def configure_optimizers(self):
        made = super().configure_optimizers()
        for group in made["optimizer"].param_groups:
            group["lr"] *= 2
        return made
'''


def test_another_module_and_another_data_module(tmp_path: Path) -> None:
    (tmp_path / "own_classes.py").write_text(OWN_CLASSES)
    arguments = [
        "--trainer.accelerator=cpu", "--trainer.max_epochs=3", "--trainer.default_root_dir=run",
        "--checkpoint.monitor=val/loss", "--checkpoint.mode=min",
    ]  # fmt: skip
    done = run(
        tmp_path, "fit", "--model=own_classes.Line", "--model.rate=0.3", "--data=own_classes.Points", "--data.count=12",
        *arguments,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)["global_step"] == 9


@pytest.mark.slow
def test_a_subclass_of_the_module_by_class_path(tmp_path: Path) -> None:
    (tmp_path / "own_classes.py").write_text(OWN_CLASSES)
    (tmp_path / "mine.yaml").write_text(
        """
model:
  class_path: own_classes.Doubled
  init_args:
    encoder:
      image: {library: timm, name: test_vit, weights: null, options: {embed_dim: 16, depth: 1, num_heads: 2}}
      text: {library: open_clip, name: text-small, weights: null}
      convolutional_branch: null
      preprocessing: {image_size: 64}
      embed_dim: 8
data: {source: synthetic, image_size: 64, batch_size: 4, num_workers: 0, augmentation: none}
trainer: {accelerator: cpu, max_epochs: 1, limit_train_batches: 2, limit_val_batches: 1, default_root_dir: run}
report: {queries: 0}
"""
    )
    done = run(tmp_path, "fit", "-c", "mine.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        ("no_such_module", "cannot be imported: No module named"),
        ("broken.py", "imported: SyntaxError: "),
        ("json.py", "has the name of another module"),
    ],
)
def test_plugins_that_cannot_be_imported(tmp_path: Path, plugin: str, message: str) -> None:
    from rsretrieval.cli.plugins import load_plugins

    (tmp_path / "json.py").write_text("")
    (tmp_path / "broken.py").write_text("def")
    logging.getLogger(plugin)
    with pytest.raises(ImportError, match=message):
        load_plugins([str(tmp_path / plugin) if plugin.endswith(".py") else plugin])
