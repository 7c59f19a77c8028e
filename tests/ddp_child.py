"""One process of a gloo group: gradients of every loss, and recall over a split, on its share of a fixed batch."""

import sys
from collections.abc import Mapping
from pathlib import Path

import tiny
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from rsretrieval.data import Record, RetrievalStream, Source, Table
from rsretrieval.data.transforms import evaluation
from rsretrieval.losses import LOSSES
from rsretrieval.models import TowerConfig
from rsretrieval.training import PAPER_STAGES, RetrievalModule
from rsretrieval.types import Batch, text_ids

SHARES = {1: [12], 2: [7, 5], 3: [5, 4, 3]}  # uneven, as a last batch may be
CASES = {name: ({name: 1.0}, 5) for name in LOSSES} | {
    "stage 1": (PAPER_STAGES[0].losses, 9),
    "stage 2": (PAPER_STAGES[1].losses, 10),
}
TEXTS = [  # unlike each other: between near-equal embeddings the scene-adaptive gradient is rounding alone
    "plane", "many ships in a harbour", "green field", "two red courts side by side", "river under the bridge",
    "parked cars", "storage tanks", "a beach with white waves beside blue water", "dense houses", "desert",
    "a round church surrounded by some trees and roads", "snow",
]  # fmt: skip
IMAGES = 7  # in the split to evaluate


def batch(part: slice) -> Batch:
    """Rows of the global batch; captions of one image, and images of one scene, lie on different ranks."""
    ids = torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 1, 2, 9, 10])
    return Batch(
        images=torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(1))[part],
        image_ids=ids[part],
        texts=TEXTS[part],
        text_ids=text_ids(TEXTS[part]),
        owners=ids[part],
        scenes=(ids % 3)[part],
        caption_values=torch.linspace(0.9, 1.0, 12)[part],
    )


class Ponds(Source):
    """Images of noise."""

    def records(self, split: str) -> list[Record]:
        return [Record(f"{n}.png", (f"{n} ponds", "a pond")) for n in range(IMAGES)]

    def read(self, split: str, block: int) -> list[Image.Image]:
        noise = torch.randint(256, (64 * 64 * 3,), generator=torch.Generator().manual_seed(block)).byte()
        return [Image.frombytes("RGB", (64, 64), bytes(noise.tolist()))]


class Step(nn.Module):
    """What DDP wraps: the shared step."""

    def __init__(self, module: RetrievalModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, part: Batch, losses: Mapping[str, float], epoch: int) -> Tensor:
        return self.module.losses(part, losses, epoch)["loss"]


def results(rank: int, world: int, clip: str) -> dict[str, dict[str, Tensor]]:
    """Gradients by case and parameter, and under ``recall`` the figures and counts."""
    torch.manual_seed(0)
    branch = TowerConfig("timm", "test_resnet", frozen=True)
    chunk_size = 3 if world > 1 else None  # the same gradients
    module = tiny.module(
        TowerConfig("timm", "test_resnet"), TowerConfig("open_clip", clip), branch, query_bank=9, chunk_size=chunk_size
    ).eval()
    step = Step(module)
    runner = DistributedDataParallel(step) if world > 1 else step
    first = sum(SHARES[world][:rank])
    part = batch(slice(first, first + SHARES[world][rank]))
    found: dict[str, dict[str, Tensor]] = {}
    for name, (losses, epoch) in CASES.items():
        module.zero_grad()
        runner(part, losses, epoch).backward()
        found[name] = {k: p.grad.clone() for k, p in module.named_parameters() if p.grad is not None}
    captions = [list(record.captions) for record in Ponds().records("valid")]
    table = Table([f"{n}.png" for n in range(IMAGES)], captions, [[1.0, 1.0]] * IMAGES, [0] * IMAGES, [1] * IMAGES)
    with torch.no_grad():
        for images in RetrievalStream(Ponds(), "valid", table, evaluation(64), 2, (rank, world), train=False):
            module.validation_step(images)
    module.training = True  # so that the bank is filled, and nothing else
    with torch.no_grad():
        module.losses(part, PAPER_STAGES[0].losses, 0)
    assert module.model.bank is not None
    found["bank"] = dict(zip(("image", "text"), module.model.bank.queries(), strict=True))
    figures = {key: torch.tensor(value) for key, value in module.recall.compute().items()}
    with module.recall.sync_context():
        merged = module.recall.merged()
    found["recall"] = figures | {"images": merged.image_ids, "captions": torch.tensor(len(merged.caption_rows))}
    return found


def main() -> None:
    """``RANK WORLD CLIP FOLDER``: write the results of one process."""
    rank, world, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=world)
    torch.save(results(rank, world, sys.argv[3]), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
