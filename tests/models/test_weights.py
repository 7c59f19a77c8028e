"""Weights as people save them: wrapped, nested, compiled, half broken, whole objects; loaded, or refused in words."""

import argparse
import json
import logging
import re
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from rsretrieval import RetrievalModule, Retriever, TowerConfig, cli
from rsretrieval.models.checkpoint import starting_tensors
from rsretrieval.models.loading import load_into
from rsretrieval.models.remote_code import RemoteCodeError
from rsretrieval.models.weights import WeightsError, read_state_dict

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


@pytest.fixture
def source() -> nn.Module:
    torch.manual_seed(1)
    return timm.create_model("test_resnet", num_classes=7)


def prefixed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in state.items()}


FORMS = {
    "plain": lambda state: state,
    "ordered": OrderedDict,
    "ddp": lambda state: prefixed(state, "module."),
    "compiled": lambda state: prefixed(state, "_orig_mod."),
    "ddp over compiled": lambda state: prefixed(state, "module._orig_mod."),
    "lightning": lambda state: {"state_dict": prefixed(state, "model."), "epoch": 3, "optimizer_states": []},
    "nested twice": lambda state: {"model": {"state_dict": state}, "args": argparse.Namespace(lr=0.1)},
    "mmpretrain": lambda state: {"meta": {"epoch": 1}, "state_dict": prefixed(state, "backbone.")},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_that_load(form: str, source: nn.Module, tmp_path: Path) -> None:
    """Into a network with another head, which retrieval does not use."""
    torch.save(FORMS[form](source.state_dict()), tmp_path / "weights.pt")
    network = timm.create_model("test_resnet", num_classes=3)
    load_into(network, str(tmp_path / "weights.pt"), optional=("fc.",))
    tolerance = 1e-3 if form == "half" else 0.0
    for name, value in source.state_dict().items():
        if not name.startswith("fc."):
            torch.testing.assert_close(
                network.state_dict()[name].float(), value.float(), atol=tolerance, rtol=tolerance
            )


def test_by_position_with_a_line_in_the_log(
    source: nn.Module, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    renamed = {f"layer_{n}": value for n, value in enumerate(source.state_dict().values())}
    torch.save(renamed, tmp_path / "weights.pt")
    with caplog.at_level(logging.INFO):
        load_into(timm.create_model("test_resnet", num_classes=7), str(tmp_path / "weights.pt"))
    assert "has other names than ResNet: loaded by position" in caplog.text


class Evil:
    def __reduce__(self) -> tuple[object, ...]:
        return (Path("executed").touch, ())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (nn.Linear(2, 2), r"holds Python objects beside tensors, .* save `model\.state_dict\(\)` alone \("),
        ({"state_dict": Evil()}, "holds Python objects beside tensors"),
        ({"epoch": 3, "loss": 0.5}, r"holds no state dict but the entries \['epoch', 'loss'\]: save"),
        ([torch.ones(2)], "holds no state dict but list"),
        ({"weight": torch.tensor([[1.0, torch.inf], [0, 0]]), "bias": torch.zeros(2)}, "NaN or infinity in 1 entries"),
        ({"weight": torch.ones(2, 2).to_sparse(), "bias": torch.ones(2)}, r"\['weight'\]\) that are no dense"),
        ({0: torch.ones(2, 2), "bias": torch.zeros(2)}, r"1 entries \(\['0'\]\).*under other keys"),
        (
            {"weight": torch.ones(2, 2).to(torch.int8), "bias": torch.zeros(2)},
            r"torch\.int8 in 1 entries \(\['weight'\]\)",
        ),
        ({"weight": torch.ones(2, 2), "bias": torch.zeros(2) + 0j}, r"torch\.complex64 in 1 entries \(\['bias'\]\)"),
    ],
)
def test_forms_that_are_refused(content: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(WeightsError, match=message):
        load_into(nn.Linear(2, 2), str(tmp_path / "weights.pt"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_file_that_is_cut_off(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x02}q\x00" if name.endswith(".pt") else b"\x40\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(WeightsError, match=f"{name}.*(cannot be read as weights|Python objects)"):
        read_state_dict(str(tmp_path / name))


def test_a_file_under_another_ones_name(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "a.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "b.safetensors")
    (tmp_path / "c.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "d.bin").touch()
    for name, message in (
        ("a.pt", r"safetensors: name it \.safetensors"), ("b.safetensors", r"torch: name it \.pt"),
        ("c.safetensors", r"begins with b'version https://git-lfs"), ("d.bin", "it is empty"),
    ):  # fmt: skip
        with pytest.raises(WeightsError, match=rf"{name}' .*{message}"):
            read_state_dict(str(tmp_path / name))
    torch.save(nn.Linear(2, 2), tmp_path / "e.pt")
    with pytest.raises(WeightsError) as caught:
        read_state_dict(str(tmp_path / "e.pt"))
    assert "\x1b" not in str(caught.value)


@pytest.fixture
def checkpoint(tmp_path: Path, tiny_bert: str) -> str:
    """A checkpoint whose image tower began from a file that is there no longer."""
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "start.pt")
    image = TowerConfig("timm", "test_resnet", str(tmp_path / "start.pt"), frozen=True)
    module = tiny.module(image, TowerConfig("transformers", tiny_bert))
    (tmp_path / "start.pt").unlink()
    save(module, tmp_path / "model.ckpt")
    return str(tmp_path / "model.ckpt")


def save(module: RetrievalModule, path: Path) -> None:
    content = {
        "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams),
        "pytorch-lightning_version": "2.6.6",
    }  # fmt: skip
    torch.save(content, path)


def test_a_checkpoint_has_every_tensor_itself(
    checkpoint: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It loads, and is exported, where the file that its training began from is gone."""
    module = RetrievalModule.load_from_checkpoint(checkpoint).eval()
    with caplog.at_level(logging.INFO):
        cli.main(["export", checkpoint, "--to", str(tmp_path / "to")])
    assert re.search(r"start\.pt, .*tinybert is of this machine alone, so that every tensor is written", caplog.text)
    again = Retriever.from_pretrained(str(tmp_path / "to"))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        wanted = module.model.encode_image(images)
        torch.testing.assert_close(again.model.encode_image(images), wanted, atol=2e-3, rtol=0)


def test_starting_weights_of_a_package_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    config = tiny.settings(
        TowerConfig("timm", "test_resnet", "package:gone_towers"), TowerConfig("open_clip", "text-small")
    )
    assert starting_tensors(config) == {}
    assert "starting weights are not there, so that every tensor is written: the Python package 'gone_to" in caplog.text


def test_a_strangers_code_runs_only_where_the_caller_allows_it(checkpoint: str, tmp_path: Path) -> None:
    cli.main(["export", checkpoint, "--to", str(tmp_path / "to")])
    file = tmp_path / "to" / "config.json"
    settings = json.loads(file.read_text())
    settings["encoder"]["text"]["options"]["trust_remote_code"] = True
    file.write_text(json.dumps(settings))
    with pytest.raises(RemoteCodeError, match=r"config\.json' asks to run Python code .* trust_remote_code=True"):
        Retriever.from_pretrained(str(tmp_path / "to"))
    assert Retriever.from_pretrained(str(tmp_path / "to"), trust_remote_code=True).model.embed_dim == 32
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["encoder"]["text"]["options"]["trust_remote_code"] = True
    torch.save(content, tmp_path / "stranger.ckpt")
    for load in (
        lambda: RetrievalModule.load_from_checkpoint(tmp_path / "stranger.ckpt"),
        lambda: cli.main(["export", str(tmp_path / "stranger.ckpt"), "--to", str(tmp_path / "x")]),
    ):
        with pytest.raises(RemoteCodeError, match=r"stranger\.ckpt' asks to run Python code"):
            load()
    assert RetrievalModule.load_from_checkpoint(tmp_path / "stranger.ckpt", trust_remote_code=True) is not None
