"""Heads on features that are on disk, of both sides, against the same run with its frozen towers."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from ratios import Row, compare
from step import MINILM, batch, config_of

from rsretrieval.training import RetrievalModule

BATCH = 64
BATCHES = 2
"""Of each epoch."""


def rows() -> Iterator[Row]:
    """Steps of an epoch that sees nothing new: forward, losses, backward, with nothing of the data's."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["RSRETRIEVAL_CACHE"] = folder
        frozen = config_of(Path(folder), "tf_efficientnet_lite0", None, MINILM, frozen=True)
        modules = {}
        for cached in (True, False):
            torch.manual_seed(0)
            modules[cached] = RetrievalModule(replace(frozen, cache_features=cached)).train()
        batches = [batch(BATCH, seed) for seed in range(BATCHES)]

        def epoch(cached: bool) -> list[float]:
            losses = []
            for number, data in enumerate(batches):
                modules[cached].zero_grad()
                torch.manual_seed(number)
                loss = modules[cached].losses(data, modules[cached].stage.losses, 0)["loss"]
                loss.backward()  # type: ignore[no-untyped-call]
                losses.append(loss.item())
            return losses

        torch.testing.assert_close(epoch(True), epoch(False), rtol=1e-4, atol=1e-5)
        yield compare(
            f"{BATCHES} steps of heads on cached features, EfficientNet-Lite0 and MiniLM, batches of {BATCH}",
            "the same without a cache", lambda: epoch(True), lambda: epoch(False),
            must=">= 50", rounds=3, faster=True,
        )  # fmt: skip
