"""Folders of transformers that are broken are refused by name; what their processor says is done."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rsretrieval import Retriever
from rsretrieval.models.pairs import transformers_pair
from rsretrieval.models.weights import WeightsError

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"
MODEL, CONFIG, PROCESSOR = "model.safetensors", "config.json", "preprocessor_config.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(tiny.write_hf_clip(tmp_path))


def change(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def write(name: str, content: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(content)


def without_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").unlink()


def not_finite(folder: Path) -> None:
    tensors = load_file(folder / MODEL)
    tensors["logit_scale"] = tensors["logit_scale"] * torch.nan
    save_file(tensors, folder / MODEL, {"format": "pt"})


def unknown_activation(folder: Path) -> None:
    side = json.loads((folder / CONFIG).read_text())["vision_config"]
    change(folder / CONFIG, vision_config={**side, "hidden_act": "foo"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tokenizer, "hf-clip': the folder has no tokenizer files"),
        (not_finite, r"hf-clip' hold NaN or infinity in 1 entries \(\['logit_scale'\]\)"),
        (
            write("vocab.txt", "\n".join([*tiny.WORDS, "green", "trees"])),
            "has 14 words, and config.json a vocab_size of",
        ),
        (write(MODEL, LFS), "cannot read the model at .*hf-clip' .SafetensorError"),
        (
            lambda folder: (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:1000]),
            "hf-clip' .SafetensorError",
        ),
        (write(CONFIG, "{"), "hf-clip'"),
        (write(CONFIG, "<html>"), "hf-clip'"),
        (write(CONFIG, "{}"), "hf-clip'"),
        (lambda folder: (folder / CONFIG).unlink(), "hf-clip'"),
        (lambda folder: change(folder / CONFIG, model_type="remoteclip"), "hf-clip'.*remoteclip"),
        (unknown_activation, "hf-clip'.*foo"),
        (write(PROCESSOR, "{"), "image processor at .*hf-clip'"),
        (lambda folder: change(folder / PROCESSOR, image_mean=None), f"{PROCESSOR} of .*hf-clip': image_mean is None"),
        (lambda folder: change(folder / PROCESSOR, image_std="a"), f"{PROCESSOR} of .*hf-clip': image_std is 'a'"),
    ],
)
def test_a_broken_folder_is_named(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    with pytest.raises(WeightsError, match=message):
        Retriever.from_transformers(folder)


def test_a_file_in_the_place_of_a_folder(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.safetensors'"):
        Retriever.from_transformers(folder / MODEL)


@pytest.mark.parametrize(
    ("settings", "unit"),
    [({"do_rescale": False}, 255), ({"rescale_factor": 1 / 127.5}, 2), ({"do_normalize": False}, 0)],
)
def test_the_processors_own_unit(folder: Path, settings: dict[str, object], unit: int) -> None:
    usual = transformers_pair(folder).preprocessing
    change(folder / PROCESSOR, **settings)
    own = transformers_pair(folder).preprocessing
    assert own.mean == pytest.approx([value / unit for value in usual.mean] if unit else [0, 0, 0])
    assert own.std == pytest.approx([value / unit for value in usual.std] if unit else [1, 1, 1])
