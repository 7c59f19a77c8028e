"""The losses of stage 1 against the method followed sample by sample, and against their matrix products alone."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from statistics import median

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F  # noqa: N812 - the field's name
from ratios import Row, compare, growth
from torch import Tensor

from rsretrieval.distributed import gather, rows_of_ranks
from rsretrieval.losses import Objective, ObjectiveConfig
from rsretrieval.losses.membership import EPSILON
from rsretrieval.training import PAPER_STAGES
from rsretrieval.types import PairedEmbeddings

WIDTH, SCENES, EPOCH = 512, 31, 5


def pairs_of(batch: int, width: int = WIDTH) -> PairedEmbeddings:
    """A batch as in training: images near their captions, a few of them twice, scenes of RSICD's number."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(batch * 4, (batch,), generator=generator)
    centre = torch.randn(batch, width, generator=generator)
    image, text = (
        F.normalize(centre + torch.randn(batch, width, generator=generator), dim=1).requires_grad_() for _ in range(2)
    )
    return PairedEmbeddings(image, text, ids, torch.arange(batch), ids % SCENES, torch.ones(batch))


def stage_one(pairs: PairedEmbeddings, objective: Objective) -> list[Tensor]:
    """Forward and backward of the package's losses: their sum and the gradients."""
    rows = slice(0, len(pairs.image))
    loss = objective(pairs, rows, PAPER_STAGES[0].losses, EPOCH)["loss"]
    return [loss.detach(), *torch.autograd.grad(loss, [pairs.image, pairs.text])]


def sample_by_sample(pairs: PairedEmbeddings, config: ObjectiveConfig, temperature: float) -> list[Tensor]:
    """The same, written as the method is: sums over samples are loops, a row is one product."""
    image, text = pairs.image, pairs.text
    loss = (
        contrastive(image, text, pairs.image_ids, temperature)
        + affiliation(image, text, pairs.scenes, temperature)
        + scene_adaptive(image, text, pairs, config, temperature)
    )
    return [loss.detach(), *torch.autograd.grad(loss, [image, text])]


def contrastive(image: Tensor, text: Tensor, ids: Tensor, temperature: float) -> Tensor:
    """L_c."""
    total = image.new_zeros(())
    for queries, items in ((image, text), (text, image)):
        for i in range(len(queries)):
            target = (ids == ids[i]).float() + EPSILON
            target = target / target.sum()
            total = total - (target * F.log_softmax(items @ queries[i] / temperature, dim=0)).sum()
    return total / len(image) / 2


def affiliation(image: Tensor, text: Tensor, scenes: Tensor, temperature: float) -> Tensor:
    """L_a."""
    centres: list[list[Tensor]] = [[], []]
    for i in range(len(image)):
        weights = (scenes == scenes[i]).float() + EPSILON
        weights = weights / weights.sum()
        for of_modality, embeddings in zip(centres, (text, image), strict=True):
            of_modality.append((weights[:, None] * embeddings).sum(0))
    of_texts, of_images = map(torch.stack, centres)
    total = image.new_zeros(())
    for queries, items in ((image, of_texts), (of_images, text)):
        for i in range(len(queries)):
            total = total - F.log_softmax(items @ queries[i] / temperature, dim=0)[i]
    return total / len(image) / 2


def scene_adaptive(
    image: Tensor, text: Tensor, pairs: PairedEmbeddings, config: ObjectiveConfig, temperature: float
) -> Tensor:
    """L_s."""
    inter, intra = (torch.tensor(beta * EPOCH).exp() for beta in (config.beta_inter, config.beta_intra))
    total = image.new_zeros(())
    for queries, items in ((image, text), (text, image)):
        hardest = []
        for i in range(len(queries)):
            scores = (items @ queries[i]).detach()
            scores[pairs.image_ids == pairs.image_ids[i]] = -torch.inf
            hardest.append(int(scores.argmax()))
        for i in range(len(queries)):
            confusion = items[hardest] @ items[i] / temperature
            confusion = torch.where(confusion < config.margin, 0.0, confusion).exp()
            share = confusion / (confusion.sum() + EPSILON)
            same = pairs.scenes[hardest] == pairs.scenes[i]
            total = total + (share * torch.where(same, intra, inter)).sum()
    return total / len(image) / 2


def products(batch: int, width: int = WIDTH, device: str = "cpu") -> Callable[[], object]:
    """Forward and backward of three products of ``batch x width`` with its like, nothing else."""
    generator = torch.Generator().manual_seed(1)
    sides = [torch.randn(batch, width, generator=generator).to(device).requires_grad_() for _ in range(6)]
    above = torch.randn(batch, batch, generator=generator).to(device)

    def run() -> object:
        found = [left @ right.T for left, right in zip(sides[::2], sides[1::2], strict=True)]
        return torch.autograd.grad(found, sides, [above] * 3)

    return run


def rows(batch: int = 512) -> Iterator[Row]:
    """Both ratios, and what a rank of 2 and of 4 has to do."""
    pairs = pairs_of(batch)
    config = ObjectiveConfig()
    objective = Objective(config)
    temperature = objective.temperature.item()
    torch.testing.assert_close(
        stage_one(pairs, objective), sample_by_sample(pairs, config, temperature), rtol=1e-3, atol=1e-5
    )
    what = f"losses of stage 1, forward and backward, B = {batch}, d = {WIDTH}"
    yield compare(
        what, "loops over samples", lambda: stage_one(pairs, objective),
        lambda: sample_by_sample(pairs, config, temperature), must=">= 30", faster=True,
    )  # fmt: skip
    yield compare(
        what, "three products B x B x d", lambda: stage_one(pairs, objective), products(batch), must="<= 1.3", rounds=31
    )
    yield from of_ranks(4 * batch)


def of_a_rank(rank: int, world: int, batch: int, port: int, results: dict[int, tuple[float, int]]) -> None:
    """One process of a group: CPU seconds and bytes of a step's losses, gathering included."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    share = batch // world
    own = pairs_of(batch).map(lambda field: field[rank * share :][:share].detach())
    image, text = own.image.requires_grad_(), own.text.requires_grad_()
    objective = Objective(ObjectiveConfig())

    def step() -> None:
        sizes = rows_of_ranks(image)
        pairs = own._replace(image=image, text=text).map(lambda field: gather(field, sizes))
        rows = slice(rank * share, (rank + 1) * share)
        loss = objective(pairs, rows, PAPER_STAGES[0].losses, EPOCH)["loss"]
        torch.autograd.grad(loss, [image, text])

    memory = growth(step)
    times = []
    for _ in range(5):
        dist.barrier()
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    results[rank] = (median(times), memory)
    dist.destroy_process_group()


def of_a_group(world: int, batch: int) -> tuple[float, float]:
    """Processor seconds and bytes of a rank among so many gloo processes of one thread each."""
    results = mp.Manager().dict()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(of_a_rank, (world, batch, port, results), nprocs=world)
    times, memory = zip(*results.values(), strict=True)
    return median(times), median(memory)


def of_ranks(batch: int) -> Iterator[Row]:
    """What a rank does of a global batch, on 2 and 4 processes, against one."""
    found = {world: of_a_group(world, batch) for world in (1, 2, 4)}
    for world in (2, 4):
        for kind, unit in enumerate(("s", "bytes")):
            ours, alone = found[world][kind], found[1][kind]
            what = f"{'processor time' if unit == 's' else 'memory'} of a rank of {world}, global B = {batch:,}"
            yield Row(what, "one process", ours, alone, ours / alone, unit=unit, note="gloo, one thread each")
