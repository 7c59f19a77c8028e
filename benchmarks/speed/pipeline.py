"""From parquet to batches of images, against the same loading processes decoding JPEGs and nothing else."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np
from ratios import Row
from torch.utils.data import DataLoader

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.images import decode

sys.path.append(str(Path(__file__).parents[1]))
from data import Decoding, measure, module, write_images

IMAGES, ROUNDS = 4096, 5
MUST = {"rsicd": ">= 0.35", "none": ">= 0.8"}
SETTINGS = argparse.Namespace(path=None, size=224, workers=max((os.cpu_count() or 2) - 1, 1), batch_size=128)


def check(plain: RetrievalDataModule) -> None:
    """A batch's images are the decoded ones."""
    stream = plain.stream("train", train=True)
    batch = next(iter(stream))
    for image, row in zip(batch.images, batch.image_ids.tolist(), strict=True):
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(decode(stream.encoded(row))))


def rows() -> Iterator[Row]:
    """A row for each augmentation, all measured by turns: the middle half of an epoch, once workers are at work."""
    with tempfile.TemporaryDirectory() as folder:
        write_images(Path(folder), IMAGES, SETTINGS.size)
        modules = {name: module(SETTINGS, folder, name) for name in MUST}
        check(modules["none"])
        alone = Decoding(modules["none"].stream("train", train=True))
        loaders = {
            "": DataLoader(alone, batch_size=None, num_workers=SETTINGS.workers),
            **{name: data.train_dataloader() for name, data in modules.items()},
        }
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(ROUNDS):
            for name, loader in loaders.items():
                rates[name].append(measure(loader)[0])
    for name, must in MUST.items():
        ratios = [rate / decoding for rate, decoding in zip(rates[name], rates[""], strict=True)]
        yield Row(
            f"an image of 224 px from parquet to batch, augmentation {name}",
            "JPEG decode alone, as many workers",
            *(1 / median(rates[name]), 1 / median(rates[""]), median(ratios), must),
        )
