"""Pre-trained pairs as they are: cosines from pictures and raw sentences are those of the original's own library."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from rsretrieval import Retriever, TowerConfig
from rsretrieval.models.conversions import to_open_clip
from rsretrieval.models.dual_encoder import DualEncoder
from rsretrieval.models.pairs import open_clip_pair, transformers_pair

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny
from pairs import (
    ARCHITECTURES,
    TEXTS,
    cosines,
    open_clip_cosines,
    pictures,
    random_model,
    transformers_cosines,
    write_architecture,
    write_clip_tokenizer,
    write_transformers_pair,
)

TOLERANCE = 1e-5


def assert_equals(retriever: Retriever, original: Tensor) -> None:
    ours = retriever.encode_images(pictures()) @ retriever.encode_texts(TEXTS).T
    torch.testing.assert_close(ours, original, atol=TOLERANCE, rtol=0)
    assert original.max() - original.min() > 1e-3, "a model of which all cosines are equal shows nothing"


@pytest.fixture
def saved(tmp_path: Path) -> tuple[str, Any]:
    """Configuration of a small ViT, and such a model whose weights are in ``weights.pt`` beside it."""
    file = write_architecture(tmp_path, "vit")
    model = random_model(file.stem)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    return str(file), model


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_every_kind_of_open_clip(kind: str, tmp_path: Path) -> None:
    (tmp_path / "bert").mkdir()
    file = write_architecture(tmp_path, kind, tiny.write_bert(tmp_path / "bert"))
    model = random_model(file.stem)
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    retriever = Retriever.from_open_clip(str(file), str(tmp_path / "weights.pt"))
    assert_equals(retriever, open_clip_cosines(file.stem, str(tmp_path / "weights.pt")))
    scale, bias = retriever.model.logits.scale, retriever.model.logits.bias
    assert scale.item() == pytest.approx(model.logit_scale.exp().item())
    assert bias.item() == (0 if model.logit_bias is None else pytest.approx(model.logit_bias.item()))


@pytest.mark.parametrize("form", ["half", "module.", "model. in safetensors"])
def test_forms_of_the_file(form: str, saved: tuple[str, Any], tmp_path: Path) -> None:
    architecture, model = saved
    state, weights = model.state_dict(), tmp_path / ("again.safetensors" if "safetensors" in form else "again.pt")
    if form == "half":
        state = {key: value.half() for key, value in state.items()}
        model.load_state_dict(state)
        torch.save(state, weights)
    elif form == "module.":
        torch.save({"epoch": 20, "state_dict": {f"module.{key}": value for key, value in state.items()}}, weights)
    else:
        save_file({f"model.{key}": value for key, value in state.items()}, weights)
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    original = open_clip_cosines(Path(architecture).stem, str(tmp_path / "plain.pt"))
    assert_equals(Retriever.from_open_clip(architecture, str(weights)), original)


PREPARATIONS: dict[str, dict[str, Any]] = {
    "stated": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"},
    "longest": {"mean": [0.4] * 3, "std": [0.3] * 3, "interpolation": "bicubic", "resize_mode": "longest"},
    "none": {},
}


@pytest.fixture(params=PREPARATIONS)
def folder(request: pytest.FixtureRequest, saved: tuple[str, Any], tmp_path: Path) -> Path:
    """A folder in open_clip's form; its tokeniser is one of transformers beside it, or else open_clip's own."""
    has_tokenizer = request.param != "none"
    folder = tmp_path / "acme" / ("clip" if has_tokenizer else "siglip")  # whose name is no word about its tokeniser
    folder.mkdir(parents=True)
    settings = json.loads(Path(saved[0]).read_text())
    if has_tokenizer:
        settings["text_cfg"]["hf_tokenizer_name"] = "acme/clip"
        write_clip_tokenizer(folder, 32)
    content = {"model_cfg": settings, "preprocess_cfg": PREPARATIONS[request.param]}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(saved[1].state_dict(), folder / f"open_clip_{'' if has_tokenizer else 'pytorch_'}model.safetensors")
    torch.save({"of": torch.ones(1)}, folder / "pytorch_model.bin")  # of transformers, which is not taken
    return folder


def test_folders_of_open_clip_and_such_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = open_clip_cosines(f"local-dir:{folder}")
    assert_equals(Retriever.from_pretrained(str(folder)), original)
    if PREPARATIONS["stated"] not in json.loads((folder / "open_clip_config.json").read_text()).values():
        return  # the ways to name it are the same for all
    hub = {"acme/clip": str(folder)}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: hub[name])
    for load in (
        lambda: Retriever.from_pretrained("acme/clip"),
        lambda: Retriever.from_open_clip(f"local-dir:{folder}"),
        lambda: Retriever.from_open_clip("hf-hub:acme/clip"),
    ):
        assert_equals(load(), original)


@pytest.mark.parametrize("resample", [2, 3])
@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_pairs_of_transformers(kind: str, resample: int, tmp_path: Path) -> None:
    folder = write_transformers_pair(tmp_path / "pair", kind, {"resample": resample})
    load = Retriever.from_transformers if resample == 3 else Retriever.from_pretrained
    assert_equals(load(str(folder)), transformers_cosines(folder))


def test_an_entry_of_ones_own_and_a_folder_within_a_folder(saved: tuple[str, Any], tmp_path: Path) -> None:
    architecture, _ = saved
    own = {"library": "open_clip", "architecture": architecture, "path": str(tmp_path / "weights.pt")}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(own))
    original = open_clip_cosines(Path(architecture).stem, str(tmp_path / "weights.pt"))
    assert_equals(Retriever.from_pretrained(str(tmp_path / "own.yaml")), original)
    (tmp_path / "copy").mkdir()
    inner = write_transformers_pair(tmp_path / "copy" / "transformers", "clip")
    entry = {"library": "transformers", "path": str(tmp_path / "copy"), "file": "transformers"}
    (tmp_path / "copy.json").write_text(json.dumps(entry))
    assert_equals(Retriever.from_pretrained(str(tmp_path / "copy.json")), transformers_cosines(inner))


def test_long_clips_two_tables(saved: tuple[str, Any], tmp_path: Path) -> None:
    """Rows 0 to 19 are of the first table, rows 20 to 247 of the second."""
    name = Path(saved[0]).stem
    model = random_model(name, force_context_length=248)
    first, second = torch.randn(2, 248, 32).mul(0.1)
    state = {**model.state_dict(), "positional_embedding": first, "positional_embedding_res": second}
    torch.save({**state, "mask1": torch.ones(248, 1), "mask2": torch.ones(248, 1)}, tmp_path / "long.pt")
    with torch.no_grad():
        for row in range(248):
            model.positional_embedding[row] = first[row] if row < 20 else second[row]
    torch.save(model.state_dict(), tmp_path / "by_hand.pt")
    texts = [" ".join(["a red ship"] * 60), " ".join(["a red ship"] * 61)]  # which differ beyond 77 tokens
    retriever = Retriever.from_open_clip(saved[0], str(tmp_path / "long.pt"), context_length=248)
    assert_equals(retriever, open_clip_cosines(name, str(tmp_path / "by_hand.pt"), force_context_length=248))
    tokens = open_clip.get_tokenizer(name, 248)(texts)
    with torch.no_grad():
        wanted = model.encode_text(tokens, normalize=True)
    torch.testing.assert_close(retriever.encode_texts(texts), wanted, atol=TOLERANCE, rtol=0)
    assert (wanted[0] - wanted[1]).abs().max() > 1e-4


def ten_band_file(name: str, file: Path) -> tuple[Any, Tensor]:
    """A model for ten bands and its first weights ``(64, 10, 16, 16)``, saved in the layout of Llama3-MS-CLIP."""
    model = random_model(name)
    model.visual.conv1 = nn.Conv2d(10, 64, 16, 16, bias=False)
    state = model.state_dict()
    sides = {f"image_encoder.{key}": value for key, value in state.items() if key.startswith("visual.")}
    sides |= {f"text_encoder.{key}": value for key, value in state.items() if not key.startswith("visual.")}
    torch.save({**{f"clip_base_model.model.{key}": value for key, value in state.items()}, **sides}, file)
    return model, model.visual.conv1.weight


def test_ten_bands(saved: tuple[str, Any], tmp_path: Path) -> None:
    """The first convolution written out: a patch times its weights, summed over bands and pixels."""
    model, weight = ten_band_file(Path(saved[0]).stem, tmp_path / "bands.pt")
    mean, std = [100.0 * (band + 1) for band in range(10)], [50.0 + band for band in range(10)]
    entry = {
        "library": "open_clip", "architecture": saved[0], "path": str(tmp_path / "bands.pt"), "bands": 10,
        "preprocessing": {"mean": mean, "std": std},
    }  # fmt: skip
    (tmp_path / "bands.yaml").write_text(yaml.safe_dump(entry))
    retriever = Retriever.from_pretrained(str(tmp_path / "bands.yaml"))
    images = np.random.default_rng(0).integers(0, 4000, (3, 64, 64, 10)).astype(np.float32)
    seen = torch.from_numpy((images - np.array(mean)) / np.array(std)).permute(0, 3, 1, 2).float()
    by_hand = torch.zeros(3, 64, 4, 4)
    for row in range(4):
        for column in range(4):
            patch = seen[:, :, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            by_hand[:, :, row, column] = (patch[:, None] * weight[None]).sum((2, 3, 4)).detach()
    taken: list[Tensor] = []
    first = retriever.model.image_tower.model.visual.conv1
    first.register_forward_hook(lambda module, inputs, output: taken.append(output))
    embeddings = retriever.encode_images(list(images))
    torch.testing.assert_close(taken[0], by_hand, atol=1e-3, rtol=1e-4)
    tokens = open_clip.get_tokenizer(Path(saved[0]).stem)(TEXTS)
    ours = embeddings @ retriever.encode_texts(TEXTS).T
    torch.testing.assert_close(ours, cosines(model, seen, tokens), atol=TOLERANCE, rtol=0)


def test_prompts_are_averaged(saved: tuple[str, Any], tmp_path: Path) -> None:
    prompts = ["a satellite image of {}", "{}, seen from above", "{}"]
    config = open_clip_pair(saved[0], str(tmp_path / "weights.pt"))
    plain = Retriever(DualEncoder(config), 64)
    each = [plain.encode_texts([prompt.replace("{}", text) for text in TEXTS]) for prompt in prompts]
    wanted = normalize(sum(each) / 3, dim=1)  # type: ignore[arg-type]
    torch.testing.assert_close(plain.encode_texts(TEXTS, templates=prompts), wanted, atol=1e-6, rtol=0)
    of_the_model = Retriever(DualEncoder(replace(config, prompts=tuple(prompts))), 64)
    torch.testing.assert_close(of_the_model.encode_texts(TEXTS), wanted, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"the prompt 'a photo' needs one '\{\}'"):
        plain.encode_texts(TEXTS, templates=["a photo"])


@pytest.mark.parametrize(
    "added", [{"projection": "identity"}, {"convolutional_branch": TowerConfig("timm", "test_resnet", frozen=True)}]
)
def test_what_is_added_changes_nothing_before_training(
    added: dict[str, Any], saved: tuple[str, Any], tmp_path: Path
) -> None:
    config = replace(open_clip_pair(saved[0], str(tmp_path / "weights.pt")), **added)
    original = open_clip_cosines(Path(saved[0]).stem, str(tmp_path / "weights.pt"))
    model = DualEncoder(config)
    own = {name for name, _ in model.named_parameters() if not name.startswith(("image_tower.", "text_tower."))}
    assert own, "nothing was added"
    assert_equals(Retriever(model, 64), original)


def test_texts_stay_as_they_are_written(tmp_path: Path) -> None:
    """By a tokeniser of words that tells case and punctuation apart."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = write_transformers_pair(tmp_path / "pair", "siglip")
    for file in ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / file).unlink(missing_ok=True)
    words = ["<pad>", "<unk>", "Red", "red", "plane", "!", "a"]
    own = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="<pad>", unk_token="<unk>", model_max_length=32
    ).save_pretrained(folder)
    texts = ["a Red plane !", "a red plane"]
    config = transformers_pair(str(folder))
    retriever = Retriever(DualEncoder(config), 64)
    ours = retriever.encode_images(pictures()) @ retriever.encode_texts(texts).T
    torch.testing.assert_close(ours, transformers_cosines(folder, texts), atol=TOLERANCE, rtol=0)
    assert (ours[:, 0] - ours[:, 1]).abs().max() > 1e-3
    cleaned = Retriever(DualEncoder(replace(config, texts="cleaned")), 64).encode_texts(texts)
    assert torch.equal(cleaned[0], cleaned[1])


def test_a_state_dict_of_no_special_layout_stays_as_it_is(saved: tuple[str, Any]) -> None:
    state = saved[1].state_dict()
    converted = to_open_clip(dict(state), saved[1])
    assert list(converted) == list(state)
    assert all(torch.equal(converted[key], state[key]) for key in state)
