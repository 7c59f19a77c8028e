"""The numbers of the authors' code: losses, hardest negatives and FGIS against reference inputs and outputs.

The folder named by RSRETRIEVAL_GOLDEN_DIR holds them, by default ``../shared/golden`` beside the checkout, else a small
copy (losses alone) in ``tests/data/golden``, which its ``make_copy.py`` writes.
"""

import os
import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rsretrieval.losses import (
    affiliation_loss,
    contrastive_loss,
    hardest_negatives,
    scene_adaptive_loss,
    scene_weight,
    triplet_loss,
)
from rsretrieval.metrics import localization_figures
from rsretrieval.models import FGIS

SHARED, COPY = Path(__file__).parents[2] / "shared" / "golden", Path(__file__).parent / "data" / "golden"
GOLDEN = Path(os.environ.get("RSRETRIEVAL_GOLDEN_DIR", SHARED if SHARED.is_dir() else COPY))
LOSS_FILES = sorted(GOLDEN.glob("losses*.npz"))
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def read(path: Path) -> dict[str, Tensor]:
    with np.load(path) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def scene_loss(g: dict[str, Tensor], epoch: int, release: bool) -> Tensor:
    return scene_adaptive_loss(
        image=g["image"],
        text=g["text"],
        image_ids=g["image_id"],
        scenes=g["scene"],
        temperature=g["temperature"],
        inter_weight=scene_weight(-0.002, epoch, truncate=release),
        intra_weight=scene_weight(0.02, epoch, truncate=release),
        margin=0.95,
        exclude_positives=not release,
    )


def contrastive(g: dict[str, Tensor], values: Tensor | None) -> Tensor:
    return contrastive_loss(
        image=g["image"],
        text=g["text"],
        image_ids=g["image_id"],
        temperature=g["temperature"],
        caption_values=values,
    )


LOSSES: dict[str, Callable[[dict[str, Tensor]], Tensor]] = {
    "contrastive": lambda g: contrastive(g, None),
    "weighted_contrastive": lambda g: contrastive(g, g["caption_weight"]),
    "affiliation": lambda g: affiliation_loss(
        image=g["image"], text=g["text"], scenes=g["scene"], temperature=g["temperature"]
    ),
    "triplet_sum": lambda g: triplet_loss(image=g["image"], text=g["text"], margin=0.2, hardest=False),
    "triplet_hardest": lambda g: triplet_loss(image=g["image"], text=g["text"], margin=0.2, hardest=True),
    **{f"scene_epoch{e}": lambda g, e=e: scene_loss(g, e, release=False) for e in (0, 5, 9)},
    **{f"scene_release_epoch{e}": lambda g, e=e: scene_loss(g, e, release=True) for e in (0, 1, 5, 9)},
}


def test_there_are_reference_numbers() -> None:
    assert LOSS_FILES, f"no losses*.npz in '{GOLDEN}': set RSRETRIEVAL_GOLDEN_DIR to a folder that has them"


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"there is no {SHARED}")
def test_the_copy_is_what_its_script_writes(tmp_path: Path) -> None:
    script = runpy.run_path(str(COPY / "make_copy.py"))
    script["make_copy"](SHARED, tmp_path)
    written = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_bytes() for path in COPY.glob("*.npz")}
    with pytest.raises(FileNotFoundError, match="set RSRETRIEVAL_GOLDEN_DIR"):
        script["make_copy"](tmp_path / "nowhere", tmp_path)


@pytest.mark.parametrize("path", LOSS_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradients(path: Path, name: str) -> None:
    g = read(path)
    image, text = g["image"].requires_grad_(), g["text"].requires_grad_()
    value = LOSSES[name](g)
    torch.testing.assert_close(value, g[name], **TOLERANCE)
    for got, side in zip(torch.autograd.grad(value, (image, text)), ("image", "text"), strict=True):
        torch.testing.assert_close(got, g[f"{name}.grad_{side}"], **TOLERANCE)


@pytest.mark.parametrize("path", LOSS_FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize(("suffix", "exclude"), [("release", False), ("positives_masked", True)])
def test_hardest_negatives(path: Path, suffix: str, exclude: bool) -> None:
    g = read(path)
    similarity = g["image"] @ g["text"].T / g["temperature"]
    for scores, side in ((similarity, "text"), (similarity.T, "image")):
        got = hardest_negatives(scores, g["image_id"], exclude_positives=exclude)
        assert torch.equal(got, g[f"hardest_{side}_{suffix}"])


def released_names() -> dict[str, str]:
    """Our parameter names to the release's; its attention crosses its names (query is ``linear_k`` and so on)."""
    blocks = {"reduce": "conv_filter"} | {
        f"branches.{i}": f"sfgs.conv2d_block_{k}" for i, k in enumerate(("11", "33", "55"))
    }
    names = {"sfgs.fusion": "local.sfgs.wsa.fmp_weight"}
    for ours, theirs in blocks.items():
        names[f"sfgs.{ours}.0.weight"] = f"local.{theirs}.0.weight"
        for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            names[f"sfgs.{ours}.1.{key}"] = f"local.{theirs}.1.{key}"
    wsa = "local.sfgs.wsa"
    layers = {
        "sfgs.project.0": "local.sfgs.fc.linear",
        "sfgs.attention.query": f"{wsa}.mhatt.linear_k",
        "sfgs.attention.key": f"{wsa}.mhatt.linear_v",
        "sfgs.attention.value": f"{wsa}.mhatt.linear_q",
        "sfgs.attention.merge": f"{wsa}.mhatt.linear_merge",
        "sfgs.attention.feed_forward.0": f"{wsa}.ffn.net.0",
        "sfgs.attention.feed_forward.3": f"{wsa}.ffn.net.3",
        "sfgs.attention.norm1": f"{wsa}.norm1",
        "sfgs.attention.norm2": f"{wsa}.norm2",
        "head": "head",
    }
    for step in range(2):
        for ours, theirs in (("query", "graph_query_w"), ("key", "graph_key_w"), ("update", "sim_graph_w")):
            layers[f"graph.{step}.{ours}"] = f"gcn{step}.{theirs}"
    return names | {f"{o}.{kind}": f"{t}.{kind}" for o, t in layers.items() for kind in ("weight", "bias")}


@pytest.mark.skipif(not (GOLDEN / "fgis.npz").is_file(), reason=f"the 8 MB of FGIS are not in {GOLDEN}")
def test_fgis() -> None:
    # In double precision: in single the reference's own steps are off by up to 5e-5, and ours by more or less, as the
    # processor adds.
    g = {key: value.double() for key, value in read(GOLDEN / "fgis.npz").items()}
    fgis = FGIS(early_channels=g["stem"].shape[1]).eval().double()
    shapes = {key: value.shape for key, value in fgis.state_dict().items()}
    fgis.load_state_dict({o: g[f"param.{t}"].reshape(shapes[o]) for o, t in released_names().items()})
    with torch.no_grad():
        sfgs = fgis.sfgs(g["stem"])
        nodes = torch.cat([torch.stack([g["conv_global"], sfgs], 1), g["tokens"]], 1)
        first = fgis.graph[0](nodes)
        second = fgis.graph[1](first)
        output = fgis(g["stem"], g["conv_global"], g["tokens"][:, 0], g["tokens"][:, 1:])
    for got, name in ((sfgs, "sfgs"), (output, "output")):
        torch.testing.assert_close(got, g[name], **TOLERANCE)
    for got, name in ((first, "graph_step1"), (second, "graph_step2")):
        torch.testing.assert_close(got, g[name], rtol=1e-4, atol=6e-5)


@pytest.mark.skipif(not (GOLDEN / "localization.npz").is_file(), reason=f"the maps are not in {GOLDEN}")
def test_localization() -> None:
    with np.load(GOLDEN / "localization.npz") as file:
        maps = sum(name.startswith("map") for name in file.files)
        for number in range(maps):
            found = localization_figures(file[f"map{number}"], list(file[f"regions{number}"]))
            np.testing.assert_allclose(found, file[f"measures{number}"], **TOLERANCE)
    assert maps > 5
