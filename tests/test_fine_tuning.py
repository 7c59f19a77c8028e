"""Fine-tuning a pair by name from its own alignment, through the command line; and what is exported of it."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from rsretrieval import Retriever, TowerConfig, cli
from rsretrieval.models.catalogue import MODELS, known_models, register_model
from rsretrieval.models.exported import PretrainedError
from rsretrieval.models.pretrained import find_model
from rsretrieval.models.weights import WeightsError

sys.path.insert(0, str(Path(__file__).parent))
import tiny

CONFIGS = Path(__file__).parents[1] / "configs"
NAME, ARCHITECTURE, SCALE = "tiny-clip", "tiny-fine-tuned-clip", 20.0
PICTURES = [Image.effect_noise((90, 70), 90).convert("RGB"), Image.new("RGB", (64, 64), "green")]
TEXTS = ["Two ships, in the Harbour!", "a red plane"]


@pytest.fixture(autouse=True)
def _no_arguments_of_pytest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["rsretrieval"])


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pair of the catalogue, ``tiny-clip``, whose file of the hub is the one given, as long as it is there."""
    (tmp_path / f"{ARCHITECTURE}.json").write_text(json.dumps(tiny.CLIP))
    open_clip.add_model_config(tmp_path / f"{ARCHITECTURE}.json")
    torch.manual_seed(0)
    state = open_clip.create_model(ARCHITECTURE).state_dict()
    file = tmp_path / "tiny-clip.pt"
    torch.save({**state, "logit_scale": torch.tensor(SCALE).log()}, file)

    def download(repository: str, name: str) -> str:
        if not file.is_file():
            raise OSError(f"{repository} has no {name}")
        return str(file)

    known_models()
    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    register_model(NAME, library="open_clip", architecture=ARCHITECTURE, hub="acme/clips", file="tiny-clip.pt")
    return file


@pytest.fixture
def fit(tmp_path: Path, tiny_data: str) -> Callable[..., Path]:
    """Train by a shipped configuration from a pair of the catalogue; gives the run's folder."""

    def run(config: str, *options: str, name: str = NAME, folder: str = "run") -> Path:
        small = {
            "trainer": {"accelerator": "cpu", "max_epochs": 2, "default_root_dir": str(tmp_path / folder)},
            "data": {"source": "parquet", "path": tiny_data, "batch_size": 4, "num_workers": 0},
            "model": {"pretrained": name},
        }
        file = tmp_path / f"{folder}.yaml"
        file.write_text(yaml.safe_dump(small))
        cli.main(["fit", "-c", str(CONFIGS / f"{config}.yaml"), "-c", str(file), *options])
        return tmp_path / folder

    return run


def embed(retriever: Retriever) -> torch.Tensor:
    return torch.cat([retriever.encode_images(PICTURES), retriever.encode_texts(TEXTS)])


def figures(caplog: pytest.LogCaptureFixture, *arguments: str) -> list[str]:
    """The figures of the test split, as the report shows them."""
    caplog.clear()
    with caplog.at_level("INFO"):
        cli.main(["test", *arguments])
    found = re.findall(r"^test((?: +\d+\.\d\d){7})$", caplog.text, re.MULTILINE)
    assert found
    return found


@pytest.mark.parametrize(
    ("config", "added"),
    [
        ("rsicd_clip_lora", r"(image|text)_tower\..*lora_[AB]\..*"),
        ("rsicd_clip_adapter", r"(image|text)_adapter\..*|bank\..*"),
    ],
)
def test_what_is_added_is_exported_alone_and_names_its_base(
    config: str, added: str, fit: Callable[..., Path], pair: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    tiny_data: str,
) -> None:  # fmt: skip
    run = fit(config, "--trainer.max_epochs=1", "--model.optimizer.warmup=0")
    best, to = str(run / "checkpoints" / "best.ckpt"), tmp_path / "exported"
    cli.main(["export", best, "--to", str(to)])
    stored = load_file(to / "model.safetensors")
    assert stored
    assert all(re.fullmatch(added, name) for name in stored)
    settings = json.loads((to / "config.json").read_text())["encoder"]
    for side in ("image", "text"):
        assert (settings[side]["name"], settings[side]["weights"]) == (ARCHITECTURE, f"model:{NAME}")
    assert str(tmp_path) not in (to / "config.json").read_text()
    trained, original = embed(Retriever.from_pretrained(best)), embed(Retriever.from_pretrained(NAME))
    torch.testing.assert_close(embed(Retriever.from_pretrained(str(to))), trained, rtol=0, atol=2e-3)
    assert not trained.allclose(original, atol=1e-4)
    data = ["--data.source=parquet", f"--data.path={tiny_data}", "--data.num_workers=0", "--trainer.accelerator=cpu",
            f"--trainer.default_root_dir={tmp_path / 'tested'}"]  # fmt: skip
    assert figures(caplog, "--ckpt_path", best, *data) == figures(caplog, "--model.pretrained", str(to), *data)
    cli.main(["export", str(to), "--to", str(tmp_path / "alone"), "--standalone", "true"])
    pair.unlink()
    torch.testing.assert_close(embed(Retriever.from_pretrained(best)), trained)  # every tensor is in it
    torch.testing.assert_close(embed(Retriever.from_pretrained(str(tmp_path / "alone"))), trained, rtol=0, atol=4e-3)
    message = rf"'{to}' holds what was added to 'model:{NAME}', and that cannot be had: "
    with pytest.raises(WeightsError, match=f"{message}.*acme/clips"):
        Retriever.from_pretrained(str(to))
    del MODELS._entries[NAME]  # type: ignore[attr-defined]
    with pytest.raises(WeightsError, match=message):
        Retriever.from_pretrained(str(to))


def test_frozen_towers_are_computed_once(fit: Callable[..., Path], pair: Path, tmp_path: Path) -> None:
    """Each variant of an image that came, and each caption; the next run, with other parts above, computes nothing."""

    def kept() -> dict[Path, int]:
        return {file: file.stat().st_size for file in (tmp_path / "cache" / "features").rglob("*.features")}

    fit("rsicd_clip_adapter")
    first = kept()
    assert len(first) == 2  # of images, and of texts
    fit("rsicd_clip_adapter", "--model.encoder.adapter.width=5", folder="next")
    assert kept() == first


@pytest.mark.parametrize("temperature", ["null", "0.2"])
def test_the_whole_pair_starts_from_its_alignment_at_its_temperature(
    temperature: str, fit: Callable[..., Path], pair: Path
) -> None:
    run = fit("rsicd_clip", "--model.optimizer.learning_rate=1e-30", f"--model.objective.temperature={temperature}")
    content = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    start = 1 / SCALE if temperature == "null" else 0.2
    assert content["state_dict"]["objective.temperature"].item() == pytest.approx(start)
    original = Retriever.from_pretrained(NAME)
    torch.testing.assert_close(
        embed(Retriever.from_pretrained(str(run / "checkpoints" / "last.ckpt"))), embed(original)
    )
    assert original.model.logits is not None
    assert original.model.logits.scale.item() == pytest.approx(SCALE)


def test_lora_goes_on_where_it_was(fit: Callable[..., Path], pair: Path, tmp_path: Path) -> None:
    """From the checkpoint of its first epoch, where the base is gone, to the same end as without a stop."""
    options = ["--model.objective.learn_temperature=true", "--model.encoder.image.lora.rank=2"]
    whole = fit("rsicd_clip_lora", *options, "--checkpoint.save_top_k=-1", "--checkpoint.filename={epoch}")
    pair.unlink()
    first = whole / "checkpoints" / "epoch=0.ckpt"
    again = fit("rsicd_clip_lora", *options, f"--ckpt_path={first}", folder="again")
    start, *ends = (
        torch.load(file, weights_only=True)["state_dict"]
        for file in (first, whole / "checkpoints" / "last.ckpt", again / "checkpoints" / "last.ckpt")
    )
    assert ends[0].keys() == ends[1].keys()
    assert all(tensor.equal(ends[1][name]) for name, tensor in ends[0].items())
    changed = {name for name, tensor in ends[0].items() if not tensor.equal(start[name])}
    assert changed
    assert all("lora_" in name or name == "objective.temperature" for name in changed)


def test_a_run_goes_on_where_the_folder_that_it_began_from_is_gone(
    fit: Callable[..., Path], pair: Path, tmp_path: Path
) -> None:
    cli.main(["export", NAME, "--to", str(tmp_path / "model"), "--standalone=true"])
    run = fit("rsicd_clip", name=str(tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    more = ["--trainer.max_epochs=3", "--ckpt_path=last"]
    cli.main(["fit", "-c", str(run / "config.yaml"), *more])
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 2


@pytest.mark.parametrize("form", ["{}", "[{}]"])
def test_a_model_that_a_plugin_registers(pair: Path, tmp_path: Path, tiny_data: str, form: str) -> None:
    name = f"plugged-{len(form)}"
    own = {"library": "open_clip", "architecture": ARCHITECTURE, "path": str(pair)}
    file = tmp_path / f"plug_{len(form)}.py"
    file.write_text(f"from rsretrieval.models.catalogue import register_model\nregister_model('{name}', **{own})\n")
    run = ["-c", "zero_shot", "--plugins", form.format(file), "--data.source=parquet", f"--data.path={tiny_data}"]
    root = f"--trainer.default_root_dir={tmp_path / 'run'}"
    cli.main(["test", *run, root, f"--model.pretrained={name}", "--data.num_workers=0", "--trainer.accelerator=cpu"])
    assert next((tmp_path / "run").rglob("metrics.csv")).read_text().count("test/mR") == 1


def write_pair(kind: str, folder: Path) -> str:
    """A pair of this machine, described in a file of one entry, or as a folder; gives its name."""
    if kind == "transformers":
        return tiny.write_hf_clip(folder)
    (folder / "bert").mkdir()
    texts: dict[str, Any] = {
        "hf_model_name": tiny.write_bert(folder / "bert"), "hf_tokenizer_name": str(folder / "bert"),
        "hf_pooler_type": "mean_pooler", "hf_proj_type": "linear", "context_length": 12, "hf_model_pretrained": False,
    }  # fmt: skip
    definition = {**tiny.CLIP, "text_cfg": texts} if kind == "texts of transformers" else tiny.CLIP
    (folder / "clip.json").write_text(json.dumps(definition))
    open_clip.add_model_config(folder / "clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("clip", pretrained_text=False).state_dict(), folder / "clip.pt")
    entry = {"library": "open_clip", "architecture": str(folder / "clip.json"), "path": str(folder / "clip.pt")}
    (folder / "entry.yaml").write_text(yaml.safe_dump(entry))
    return str(folder / "entry.yaml")


@pytest.mark.parametrize("kind", ["open_clip", "texts of transformers", "transformers"])
def test_a_pair_of_this_machine_is_exported_whole(kind: str, tmp_path: Path) -> None:
    """Definition, tokeniser and every tensor; it stays a pair where the original is gone and the folder has moved."""
    (tmp_path / "source").mkdir()
    name = write_pair(kind, tmp_path / "source")
    original = embed(Retriever.from_pretrained(name))
    cli.main(["export", name, "--to", str(tmp_path / "to")])
    shutil.rmtree(tmp_path / "source")
    (tmp_path / "to").rename(tmp_path / "moved")
    again = Retriever.from_pretrained(str(tmp_path / "moved"))
    assert again.model.config.is_pair
    assert again.model.config.keeps_alignment
    torch.testing.assert_close(embed(again), original, rtol=0, atol=2e-3)
    written = "".join(file.read_text() for file in (tmp_path / "moved").rglob("*.json"))
    assert str(tmp_path) not in written


def test_a_pair_by_name_is_exported_as_its_name(pair: Path, tmp_path: Path) -> None:
    cli.main(["export", NAME, "--to", str(tmp_path / "to")])
    assert load_file(tmp_path / "to" / "model.safetensors") == {}
    original = embed(Retriever.from_pretrained(NAME))
    assert embed(Retriever.from_pretrained(str(tmp_path / "to"))).equal(original)
    # Another file under its name is noticed.
    state = torch.load(pair, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, pair)
    with pytest.raises(PretrainedError, match="are not the model that was published"):
        Retriever.from_pretrained(str(tmp_path / "to"))
    pair.unlink()
    with pytest.raises(WeightsError, match="acme/clips"):
        find_model(NAME).build()


def test_an_image_tower_alone_needs_no_texts_of_its_own(tmp_path: Path) -> None:
    """Of a model whose texts are a model of transformers."""
    write_pair("texts of transformers", tmp_path)
    image = TowerConfig("open_clip", str(tmp_path / "clip.json"), str(tmp_path / "clip.pt"))
    module = tiny.module(image, TowerConfig("open_clip", "text-small"))
    content = {"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}
    torch.save(content, tmp_path / "run.ckpt")
    cli.main(["export", str(tmp_path / "run.ckpt"), "--to", str(tmp_path / "to")])
    wanted = Retriever(module.model, 64).encode_images(PICTURES)
    for path in ("bert", "clip.json", "clip.pt"):
        (tmp_path / path).rename(tmp_path / f"gone-{path}")
    got = Retriever.from_pretrained(str(tmp_path / "to")).encode_images(PICTURES)
    torch.testing.assert_close(got, wanted, rtol=0, atol=2e-3)
    assert np.isfinite(got.numpy()).all()
