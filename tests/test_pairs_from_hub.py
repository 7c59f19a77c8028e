"""A pair that really is trained: its weights in every layout, fetched by name, give the checkpoint's own figures."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from local_hub import local_hub
from safetensors.torch import save_file

from rsretrieval import cli
from rsretrieval.images import normalise
from rsretrieval.models.open_clip_folder import open_clip_state
from rsretrieval.models.pretrained import load_pretrained
from rsretrieval.types import CLIP_MEAN, CLIP_STD

ARCHITECTURE = {
    "embed_dim": 64,
    "vision_cfg": {
        "timm_model_name": "resnet10t", "timm_model_pretrained": False, "timm_pool": "avg", "timm_proj": "linear",
        "image_size": 64,
    },
    "text_cfg": {"context_length": 40, "vocab_size": 49408, "width": 128, "heads": 4, "layers": 2},
}  # fmt: skip
CHANCE = 2.0  # see test_learning.py
RUN = [
    "--data.num_workers=0", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
    "--report.queries=0", "--trainer.accelerator=cpu",
]  # fmt: skip
TEST_ALL = """
import json, sys
from pathlib import Path
from rsretrieval import cli

root, names, options = json.loads(sys.argv[1])
sys.argv = ["rsretrieval"]
for name in names:
    run = f"--trainer.default_root_dir={root}/{Path(name).stem}"
    cli.main(["test", "-c", "zero_shot", "--model.pretrained", name, "--data.source=synthetic", run, *options])
"""


def mr(folder: Path, key: str) -> float:
    with sorted(folder.rglob("metrics.csv"))[-1].open() as lines:
        return float([row[key] for row in csv.DictReader(lines) if row.get(key)][-1])


def write_layouts(folder: Path, state: dict[str, Any]) -> list[str]:
    """Files of one state dict in each layout of the catalogue; their names."""
    folder.mkdir(parents=True)
    torch.save(state, folder / "plain.pt")
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"epoch": 20, "name": "skyclip", "state_dict": wrapped}, folder / "checkpoint.pt")
    torch.save({"model": {"state_dict": state}}, folder / "nested.pt")
    prefixed = {f"model.{name}": tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(prefixed, folder / "prefixed.safetensors")
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "plain.safetensors")
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    torch.save(half, folder / "half.pt")
    return sorted(file.name for file in folder.iterdir())


@pytest.mark.slow
def test_a_trained_pair_in_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])
    architecture = tmp_path / "small-pair.json"
    architecture.write_text(json.dumps(ARCHITECTURE))
    side = json.dumps({"library": "open_clip", "name": str(architecture)})
    fit = [
        "-c", "quickstart", *RUN, f"--trainer.default_root_dir={tmp_path}/fit", "--trainer.max_epochs=1",
        "--data.image_size=64", f"--model.encoder.image={side}", f"--model.encoder.text={side}",
        "--model.encoder.embed_dim=null", "--model.encoder.convolutional_branch=null",
        "--schedule.stages=[{from_epoch: 0, losses: {contrastive: 1}}]",
    ]  # fmt: skip
    cli.main(["fit", *fit])
    checkpoint = tmp_path / "fit" / "checkpoints" / "last.ckpt"
    cli.main(["test", "--ckpt_path", str(checkpoint), *RUN, f"--trainer.default_root_dir={tmp_path}/own"])
    own = mr(tmp_path / "own", "test/mR")
    assert own > 3 * CHANCE

    model = load_pretrained(str(checkpoint)).model
    files = write_layouts(tmp_path / "hub" / "someone" / "pair", open_clip_state(model))
    cli.main(["export", str(checkpoint), "--to", str(tmp_path / "hub" / "someone" / "whole"), "--form=open_clip"])
    original = open_clip.create_model(f"local-dir:{tmp_path}/hub/someone/whole").eval()
    with torch.no_grad():
        tokens, images = model.tokenizer(["two ships"])["input_ids"], torch.rand(2, 3, 64, 64)
        torch.testing.assert_close(
            original.encode_text(tokens, normalize=True), model.eval().encode_text(["two ships"])
        )
        seen = normalise(images, model.config.preprocessing)
        torch.testing.assert_close(original.encode_image(seen, normalize=True), model.encode_image(images))
    names = ["someone/whole"]
    for file in files:
        entry: dict[str, Any] = {
            "library": "open_clip",
            "architecture": str(architecture),
            "hub": "someone/pair",
            "file": file,
        }
        entry["preprocessing"] = {"mean": CLIP_MEAN, "std": CLIP_STD, "resize": "squash"}  # as it was trained
        names.append(str(tmp_path / f"{file}.json"))
        Path(names[-1]).write_text(json.dumps(entry))
    with local_hub(tmp_path / "hub", tmp_path) as environment:
        what = json.dumps([str(tmp_path / "tested"), names, RUN])
        subprocess.run([sys.executable, "-c", TEST_ALL, what], env=environment, check=True)
    for name in names:
        tolerance = 0.1 if "half" in name else 0.01
        assert mr(tmp_path / "tested" / Path(name).stem, "test/mR") == pytest.approx(own, abs=tolerance), name
