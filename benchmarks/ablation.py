"""What each part of the method is worth: heads trained on the features of frozen towers, over several seeds.

    python benchmarks/ablation.py --path FOLDER [--rows a b c] [--seeds 0 1 2] [--epochs 12] [--set embed_dim=256]

The towers are those of ``configs/rsicd_lite.yaml``, both frozen; rows with FGIS take EfficientNet-Lite0 as its prior.
The images in their four mirrorings, one caption of each an epoch. The figure is validation mR after the last epoch
(no epoch is chosen), of averaged weights, in the mean over the views; FGIS runs in bf16. Each finished run is a line of
``--out``, and is not made again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the field's name
import yaml
from torch import Tensor

from rsretrieval.data.datamodule import RetrievalDataModule
from rsretrieval.data.stream import RetrievalStream, Table, training_pairs
from rsretrieval.metrics import retrieval_recall
from rsretrieval.models.dual_encoder import views
from rsretrieval.module import RetrievalModule
from rsretrieval.optimizer import adamw
from rsretrieval.schedule import Stage, stage_at
from rsretrieval.types import Pairs, text_ids

CONFIG = Path(__file__).parents[1] / "configs" / "rsicd_lite.yaml"
HALF = 0.5  # stage 2 begins in the middle, as in the paper
PLAIN = {"contrastive": 1.0}
ROWS: dict[str, dict[str, Any]] = {
    "a": {"title": "InfoNCE"},
    "b": {"title": "+ FGIS", "fgis": True},
    "c": {"title": "+ affiliation", "first": {**PLAIN, "affiliation": 1.0}},
    "d": {"title": "+ scene-adaptive", "first": {**PLAIN, "scene_adaptive": 1.0}},
    "d-mask": {
        "title": "+ scene-adaptive, release's mask",
        "first": {**PLAIN, "scene_adaptive": 1.0},
        "objective": {"exclude_positives": False},
    },
    "d-integer": {
        "title": "+ scene-adaptive, release's integer weights",
        "first": {**PLAIN, "scene_adaptive": 1.0},
        "objective": {"truncate_weights": True},
    },
    "d-release": {
        "title": "+ scene-adaptive, both of the release",
        "first": {**PLAIN, "scene_adaptive": 1.0},
        "objective": {"exclude_positives": False, "truncate_weights": True},
    },
    "e": {"title": "+ weighted contrastive in stage 2", "second": {"weighted_contrastive": 1.0}},
    "f": {
        "title": "all",
        "fgis": True,
        "first": {**PLAIN, "affiliation": 1.0, "scene_adaptive": 1.0},
        "second": {"weighted_contrastive": 1.0, "affiliation": 1.0},
    },
    "f-losses": {
        "title": "all losses, no FGIS",
        "first": {**PLAIN, "affiliation": 1.0, "scene_adaptive": 1.0},
        "second": {"weighted_contrastive": 1.0, "affiliation": 1.0},
    },
    "share": {"title": "+ shared captions as positives", "objective": {"share_captions": True}},
    "learned": {
        "title": "+ learned temperature from 0.07",
        "objective": {"temperature": 0.07, "learn_temperature": True},
    },
}


def build(row: dict[str, Any], options: list[str], seed: int) -> RetrievalModule:
    """The module of a row, everything but its heads frozen."""
    torch.manual_seed(seed)
    model = yaml.safe_load(CONFIG.read_text())["model"]
    model |= {"text": model["text"]["options"]["towers"][-1], "separate_heads": False}
    model["objective"] = {"temperature": 0.1, "learn_temperature": False, **row.get("objective", {})}
    if row.get("fgis"):
        lite0 = model["image"]["options"]["towers"][0]
        model |= {"prior": {"frozen": True, **{k: lite0[k] for k in ("library", "name", "weights")}}, "steady": True}
    for option in options:
        key, value = option.split("=", 1)
        model[key] = yaml.safe_load(value)
    return RetrievalModule(**model)


@torch.inference_mode()
def image_features(module: RetrievalModule, stream: RetrievalStream, count: int) -> list[list[Tensor]]:
    """Of each view, what the backbones give for every image."""
    found: list[list[list[Tensor]]] = [[] for _ in range(count)]
    with torch.autocast("cpu", torch.bfloat16):
        for batch in stream:
            for number, view in enumerate(views(batch.images, count)):
                found[number].append([part.half() for part in module.model.see(view)])
    return [[torch.cat(parts) for parts in zip(*batches, strict=True)] for batches in found]


@torch.inference_mode()
def text_features(module: RetrievalModule, texts: list[str]) -> Tensor:
    """Pooled vectors of texts."""
    tower = module.model.text_tower.eval()
    return torch.cat([tower(tower.tokenize(texts[i : i + 128])).pooled for i in range(0, len(texts), 128)])


def evaluate(module: RetrievalModule, features: list[list[Tensor]], texts: Tensor, owners: Tensor) -> float:
    """Validation mR."""
    model = module.model.eval()
    with torch.inference_mode():
        rows = range(0, len(features[0][0]), 256)
        each = [
            torch.cat([model.embed([part[i : i + 256].float() for part in view]) for i in rows]) for view in features
        ]
        image = F.normalize(torch.stack(each).mean(0), dim=1)
        text = F.normalize(model.text_projection(texts), dim=1)
    return retrieval_recall(image=image, text=text, owners=owners)["mR"]


def train(
    module: RetrievalModule,
    row: dict[str, Any],
    table: Table,
    data: dict[str, Any],
    epochs: int,
    seed: int,
    captions: int = 1,
) -> float:
    """Train the heads; gives validation mR of the averaged weights."""
    first = row.get("first", PLAIN)
    stages = [Stage(0, first), Stage(max(round(HALF * epochs), 1), row.get("second", first))]
    model, size = module.model.train(), 256
    order = [training_pairs(table, epoch, seed, captions, 1024) for epoch in range(epochs)]
    optimizer, rate = adamw(module.parameter_groups(), module.optimizer, sum(len(pairs) // size for pairs in order))
    weights = [parameter for parameter in module.parameters() if parameter.requires_grad]
    averaged = [parameter.detach().clone() for parameter in weights]
    scenes, keys = torch.tensor(table.scenes), data["keys"]
    for epoch, pairs in enumerate(order):
        losses = stages[stage_at(stages, epoch)].losses
        for chosen in np.split(pairs[: len(pairs) // size * size], len(pairs) // size):
            rows = torch.from_numpy(chosen[:, 0])
            view = torch.randint(len(data["train"]), (size,))
            seen = [
                torch.stack([data["train"][v][part][r] for v, r in zip(view.tolist(), rows.tolist(), strict=True)])
                for part in range(len(data["train"][0]))
            ]
            texts = [table.captions[r][c] for r, c in chosen.tolist()]
            with torch.autocast("cpu", torch.bfloat16, enabled=bool(row.get("fgis"))):  # halves the time of FGIS
                image = model.embed([part.float() for part in seen])
            text = F.normalize(model.text_projection(data["texts"][[keys[t] for t in texts]]), dim=1)
            values = torch.tensor([table.values[r][c] for r, c in chosen.tolist()])
            batch = Pairs(image, text, rows, text_ids(texts), scenes[rows], values)
            loss = module.objective(batch, slice(0, size), losses, epoch)["loss"]
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            rate.step()
            with torch.no_grad():
                torch._foreach_lerp_(averaged, weights, 0.01)
    for parameter, mean in zip(weights, averaged, strict=True):
        parameter.data.copy_(mean)
    return evaluate(module, data["valid"], data["valid_texts"], data["owners"])


def main() -> None:
    """Make the runs that are missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", required=True, help="folder of train-*.parquet and valid-*.parquet")
    parser.add_argument("--scene_file", help="JSON of file name to scene class")
    parser.add_argument(
        "--rows", nargs="+", default=["a", "c", "d", "d-mask", "d-integer", "d-release", "e", "f-losses"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--captions", type=int, default=1, help="of each image an epoch")
    parser.add_argument("--views", type=int, default=4, help="mirrorings: 1, 2 or 4")
    parser.add_argument("--set", nargs="+", default=[], help="settings of the model, as NAME=VALUE")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation.jsonl"))
    args = parser.parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.is_file() else []
    source = RetrievalDataModule("parquet", args.path, scene_file=args.scene_file, captions_per_image=1)
    table, valid = source.table("train"), source.table("valid")
    texts = sorted({text for each in (table, valid) for row in each.captions for text in row}, key=len)
    settings = {"epochs": args.epochs, "views": args.views, "set": args.set, "captions": args.captions}
    data: dict[str, Any] = {}
    for fgis in (False, True):
        rows = [name for name in args.rows if bool(ROWS[name].get("fgis")) == fgis]
        for name in rows:
            for seed in args.seeds:
                key = {"row": name, "seed": seed, **settings}
                if any(key.items() <= run.items() for run in done):
                    continue
                module = build(ROWS[name], args.set, seed)
                if data.get("fgis") is not fgis:
                    data = {"fgis": fgis, "keys": {text: number for number, text in enumerate(texts)}}
                    data |= {s: image_features(module, source.stream(s), args.views) for s in ("train", "valid")}
                    data["texts"] = text_features(module, texts)
                    data["valid_texts"] = data["texts"][[data["keys"][t] for row in valid.captions for t in row]]
                    data["owners"] = torch.tensor([r for r, row in enumerate(valid.captions) for _ in row])
                torch.manual_seed(seed)
                start = time.perf_counter()
                figure = train(module, ROWS[name], table, data, args.epochs, seed, args.captions)
                done.append({**key, "mR": figure, "seconds": time.perf_counter() - start})
                with args.out.open("a") as file:
                    file.write(json.dumps(done[-1]) + "\n")
    for name in args.rows:
        key = {"row": name, **settings}
        found = [run["mR"] for run in done if key.items() <= run.items()]
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        shown = f"| {name} | {ROWS[name]['title']} | {statistics.mean(found):.2f} ± {spread:.2f} | {len(found)} |"
        print(shown)  # noqa: T201 - a command's output


if __name__ == "__main__":
    main()
