"""The catalogue: every row's tensors load into its architecture, by shapes alone; its entries; what it says of them."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import yaml
from open_clip.transformer import QuickGELU
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel, CLIPConfig, CLIPImageProcessor, SiglipConfig, SiglipImageProcessor

from rsretrieval import cli
from rsretrieval.models import EncoderConfig, TowerConfig
from rsretrieval.models.catalogue import (
    MODELS,
    ModelEntry,
    entry_of,
    known_models,
    pair_of,
    register_model,
    seen_in_training,
    training_sets,
)
from rsretrieval.models.pairs import OPENAI_MEAN
from rsretrieval.models.towers.open_clip import build_open_clip
from rsretrieval.models.towers.transformers import build_transformers
from rsretrieval.models.weights import WeightsError
from rsretrieval.registry import UnknownNameError
from rsretrieval.settings import SettingsError

State = dict[str, Tensor]
OPEN_CLIP = [name for name, entry in known_models().items() if entry.library == "open_clip"]
TRANSFORMERS = [name for name, entry in known_models().items() if entry.library == "transformers"]
XLM_ROBERTA_BASE = {
    "model_type": "xlm-roberta", "vocab_size": 250002, "hidden_size": 768, "num_hidden_layers": 12,
    "num_attention_heads": 12, "intermediate_size": 3072, "max_position_embeddings": 514, "type_vocab_size": 1,
}  # fmt: skip
TYPES = {torch.float32: "F32", torch.float16: "F16", torch.int64: "I64"}


def long_clip(state: State) -> State:
    helpers = {"mask1": torch.empty(248, 1, device="meta"), "mask2": torch.empty(248, 1, device="meta")}
    return {**state, "positional_embedding_res": state["positional_embedding"], **helpers}


def ms_clip(state: State) -> State:
    sides = {f"{'image' if key.startswith('visual.') else 'text'}_encoder.{key}": value for key, value in state.items()}
    return {**{f"clip_base_model.model.{key}": value for key, value in state.items()}, **sides}


LAYOUTS = {
    "plain": lambda state: state,
    "open_clip tag": lambda state: state,
    "open_clip folder": lambda state: state,
    "model.": lambda state: {f"model.{key}": value for key, value in state.items()},
    "state_dict, module.": lambda state: {
        "epoch": 20, "name": "run", "state_dict": {f"module.{key}": value for key, value in state.items()},
    },
    "Long-CLIP": long_clip,
    "clip_base_model.model.": ms_clip,
}  # fmt: skip


def write_safetensors(file: Path, state: State) -> None:
    """A file of these names and shapes that takes no room on the disk: its values are a hole."""
    header, end = {}, 0
    for name, tensor in state.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        out.truncate(8 + len(text) + end)


def shapes_alone(file: Path) -> State:
    """A safetensors file's tensors on the meta device."""
    types = {name: kind for kind, name in TYPES.items()}
    with safe_open(file, "pt") as content:
        parts = {name: content.get_slice(name) for name in content.keys()}
        return {
            name: torch.empty(part.get_shape(), dtype=types[part.get_dtype()], device="meta")
            for name, part in parts.items()
        }


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of OWNER/NAME in the hub's place, for every library: relative names are looked for there first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda name, file: str(tmp_path / name / file))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name: str(tmp_path / name))
    monkeypatch.setattr("rsretrieval.models.weights.load_file", shapes_alone)
    monkeypatch.setattr("open_clip.factory.download_pretrained", lambda *_, **__: str(tmp_path / "of_the_tag.pt"))
    (tmp_path / "xlm-roberta-base").mkdir()
    (tmp_path / "xlm-roberta-base" / "config.json").write_text(json.dumps(XLM_ROBERTA_BASE))
    logging.disable(logging.WARNING)  # no weights loaded, it says, which is so
    yield tmp_path
    logging.disable(logging.NOTSET)


def architecture_of(entry: ModelEntry) -> State:
    """Names and shapes of a row's model, by its architecture's name alone."""
    name = (entry.architecture or "xlm-roberta-base-ViT-B-32").removesuffix("-quickgelu")
    options = {"force_context_length": entry.context_length} if entry.context_length else {}
    with torch.device("meta"):
        model = open_clip.create_model(name, pretrained_text=False, device="meta", **options)
        if entry.bands != 3:
            model.visual.conv1 = nn.Conv2d(entry.bands, 768, 16, 16, bias=False)
    return model.state_dict()


def publish(hub: Path, entry: ModelEntry, state: State) -> None:
    """Put a row's file where it is looked for, in its layout."""
    file = hub / "of_the_tag.pt" if entry.tag else hub / entry.hub / (entry.file or "open_clip_model.safetensors")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not entry.file and not entry.tag:
        settings = open_clip.get_model_config("xlm-roberta-base-ViT-B-32")
        (file.parent / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    content: Any = LAYOUTS[entry.layout](state)
    if file.suffix == ".safetensors":
        write_safetensors(file, content)
    else:
        torch.save(content, file)


def build(name: str) -> Any:
    """A row's model by the code that loads it, on the meta device."""
    tower = pair_of(name).image
    with torch.device("meta"):
        return build_open_clip(replace(tower, options={**tower.options, "device": "meta"}))


@pytest.mark.parametrize("name", OPEN_CLIP)
def test_every_row_of_open_clip_loads(name: str, hub: Path) -> None:
    """Nothing missing, nothing left over, of the activation, the context and the bands that the entry states."""
    entry, wanted = known_models()[name], architecture_of(known_models()[name])
    publish(hub, entry, wanted)
    model = build(name)
    loaded = model.state_dict()
    assert {key: value.shape for key, value in loaded.items()} == {key: value.shape for key, value in wanted.items()}
    quick = any(isinstance(module, QuickGELU) for module in model.modules())
    assert quick == (entry.activation == "quick_gelu")
    config = pair_of(name)
    assert config.is_pair
    assert config.keeps_alignment
    assert not config.cleans_texts
    assert config.preprocessing.channels == entry.bands
    has_both = f"{entry.architecture}-quickgelu" in open_clip.list_models()
    assert entry.activation or not has_both, "its activation is to be stated"
    lacking = dict(list(wanted.items())[:-1])
    publish(hub, entry, lacking)
    with pytest.raises((WeightsError, RuntimeError), match=r"missing 1 |Missing key"):
        build(name)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_every_row_of_transformers_loads(name: str, hub: Path) -> None:
    entry = known_models()[name]
    folder = hub / entry.hub / entry.file
    folder.mkdir(parents=True)
    large = "vit-l" in name or "large" in name
    vision = {"patch_size": 14 if "vit-l" in name else 32 if "vit-b-32" in name else 16}
    if large:
        vision |= {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
        }  # fmt: skip
    config: Any
    if "git-rsclip" in name:
        text = {**vision, "projection_size": 1024, "bos_token_id": 1, "eos_token_id": 1} if large else {}
        config = SiglipConfig(vision_config={**vision, "image_size": 256}, text_config=text)
        half = [0.5] * 3
        SiglipImageProcessor(size={"height": 256, "width": 256}, image_mean=half, image_std=half).save_pretrained(
            folder
        )
    else:
        text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12} if large else {}
        config = CLIPConfig(vision_config=vision, text_config=text, projection_dim=768 if large else 512)
        CLIPImageProcessor().save_pretrained(folder)
    config.save_pretrained(folder)
    with torch.device("meta"):
        wanted = AutoModel.from_config(config, dtype=getattr(torch, entry.precision)).state_dict()
    write_safetensors(folder / "model.safetensors", wanted)
    pair = pair_of(name)
    assert pair.is_pair
    expected = (256, (0.5, 0.5, 0.5), "squash") if "git-rsclip" in name else (224, OPENAI_MEAN, "shortest")
    own = pair.preprocessing
    assert (own.image_size, tuple(own.mean), own.resize) == expected
    on_meta = replace(pair.image, options={**pair.image.options, "device_map": "meta"})
    model, _ = build_transformers(on_meta)
    loaded = model.state_dict()
    assert {key: value.shape for key, value in loaded.items()} == {key: value.shape for key, value in wanted.items()}
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    write_safetensors(folder / "model.safetensors", dict(list(wanted.items())[:-2]))
    with pytest.raises(WeightsError, match=r"lack 2 entries of its (CLIP|Siglip)Model"):
        build_transformers(on_meta)


def test_rows_are_whole() -> None:
    for name, entry in known_models().items():
        assert name == name.lower(), name
        assert entry.checked, name
        assert entry.layout in (*LAYOUTS, "transformers folder"), name
        assert set(entry.figures) <= {"rsicd", "rsitmd"}, name
    assert known_models()["remoteclip-vit-l-14"].figures == {"rsicd": 36.35, "rsitmd": 50.52}
    assert known_models()["georsclip-vit-b-32-ret-2"].trained_on == ("rs5m", "rsicd", "rsitmd")


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["models", "list"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["name", "library", "architecture", "where"]
    names = {*known_models(), "rsicd-lite", "rsicd-tiny"}
    assert {line.split()[0] for line in lines[1 : len(names) + 1]} == names
    row = next(line for line in lines if line.startswith("georsclip-vit-b-32-ret-2 "))
    assert row.split() == [
        "georsclip-vit-b-32-ret-2", "open_clip", "ViT-B-32", "Zilun/GeoRSCLIP/ckpt/RS5M_ViT-B-32_RET-2.pt", "CC",
        "rs5m", "rsicd", "rsitmd", "inferred",
    ]  # fmt: skip
    cli.main(["models", "list", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["openai-vit-b-32"]["tag"] == "openai"
    assert shown["rsicd-lite"]["library"] == "rsretrieval"


def test_one_of_the_list_is_an_entry_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, entry in known_models().items():
        cli.main(["models", "list", name])
        shown = capsys.readouterr().out
        (tmp_path / "own.yaml").write_text(shown)
        assert entry_of(str(tmp_path / "own.yaml")) == entry
        for data, figure in entry.figures.items():
            command = f"# rsretrieval test -c zero_shot --model.pretrained {name} --data.source {data}"
            assert f"{command}  # published: {figure:.2f}" in shown.splitlines()
        if entry.activation and not entry.tag and entry.bands == 3:
            other = "gelu" if entry.activation == "quick_gelu" else "quick_gelu"
            assert f"with activation: {other}, and run\n# rsretrieval test -c zero_shot" in shown
    cli.main(["models", "list", "rsicd-lite"])
    assert "comes with the package" in capsys.readouterr().out
    with pytest.raises(UnknownNameError, match=r"'remote-clip-b-32' \(did you mean 'remoteclip-vit-b-32'"):
        cli.main(["models", "list", "remote-clip-b-32"])


def test_an_entry_of_a_plugin(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plugin = tmp_path / "own_models_of_a_test.py"
    plugin.write_text(
        "from rsretrieval.models.catalogue import register_model\n"
        "register_model('harbour-clip', library='open_clip', architecture='ViT-B-32-quickgelu', path='harbour.pt',\n"
        "               trained_on=['ucm'])\n"
    )
    try:
        cli.main(["models", "list", "--plugins", str(plugin)])
        row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("harbour-clip"))
        assert row.split() == ["harbour-clip", "open_clip", "ViT-B-32-quickgelu", "harbour.pt", "-", "ucm", "-"]
        with pytest.raises(ValueError, match="'remoteclip-rn50' is registered already: give yours another name"):
            register_model("remoteclip-rn50", library="open_clip", architecture="RN50", path="mine.pt")
    finally:
        MODELS._entries.pop("harbour-clip", None)


def test_what_a_model_was_trained_on(tmp_path: Path) -> None:
    assert seen_in_training(training_sets(pair_of("remoteclip-rn50")), "hub gzqy1026/rsitmd") == "rsitmd"
    assert seen_in_training(training_sets(pair_of("remoteclip-rn50")), "nwpu") is None
    tower = TowerConfig("transformers", "BiliSakura/Remote-CLIP-ViT-L-14", "pretrained")
    assert training_sets(EncoderConfig(tower, tower, None)) == ("ret3", "rsicd", "rsitmd", "ucm")
    own = {"library": "open_clip", "architecture": "RN50", "path": "a.pt", "activation": "gelu", "trained_on": ["ucm"]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    assert seen_in_training(training_sets(pair_of(str(tmp_path / "own.yaml"))), "ucm") == "ucm"
    assert training_sets(pair_of("openai-vit-b-32")) == ()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no place": ({"library": "open_clip", "architecture": "RN50"}, r"names none: hub, path or tag"),
    "two places": ({"library": "open_clip", "architecture": "RN50", "path": "a", "tag": "b"}, r"\['path', 'tag'\]"),
    "no architecture": ({"library": "open_clip", "hub": "a/b", "file": "c.pt"}, "needs its architecture"),
    "unknown library": ({"library": "timm", "path": "a"}, r"\['open_clip', 'transformers'\]. Got value: timm"),
    "unknown field": ({"library": "transformers", "path": "a", "colour": "red"}, "colour"),
    "no library": ({"path": "a"}, "describes no model: it needs library"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_entries(case: str, tmp_path: Path) -> None:
    settings, message = WRONG[case]
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(SettingsError, match=rf"wrong\.yaml.*{message}"):
        entry_of(str(tmp_path / "wrong.yaml"))


def test_a_file_that_is_no_entry(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("a: [")
    with pytest.raises(SettingsError, match=r"wrong\.yaml' is no YAML"):
        entry_of(str(tmp_path / "wrong.yaml"))
    assert entry_of(str(tmp_path / "absent.yaml")) is None
