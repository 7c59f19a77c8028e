"""Models as graphs: the same embeddings by onnxruntime and torch.export, for batches and texts of any length."""

from __future__ import annotations

import json
import os
import pickle
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from rsretrieval import Retriever, cli
from rsretrieval.models import DualEncoder, TowerConfig, graph_folder, graphs
from rsretrieval.models.adaptation import AdapterConfig, LoraConfig
from rsretrieval.models.graph_folder import write_graphs
from rsretrieval.models.graphs import GraphError
from rsretrieval.models.onnx_encoder import ABOUT, OnnxEncoder
from rsretrieval.models.pretrained import ModelSource, find_model
from rsretrieval.models.quantisation import quantise_texts
from rsretrieval.models.refinement import RefinementConfig
from rsretrieval.models.remote_code import RemoteCodeError
from rsretrieval.models.towers.registry import IMAGE_TOWERS, TEXT_TOWERS
from rsretrieval.settings import SettingsError
from rsretrieval.types import Preprocessing, TowerOutput

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny
from pairs import TEXTS, pictures, write_architecture, write_entry, write_transformers_pair

pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
onnx = pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")

VALIDATION = Path(__file__).parents[3] / "shared" / "data" / "rsicd"
SENTENCES = [*TEXTS, "two ships in the harbour " * 8]
RESNET = TowerConfig("timm", "test_resnet")


def source_of(kind: str, folder: Path, bert: str) -> ModelSource:
    """A small model of a kind, at random."""
    text = TowerConfig("transformers", bert, pooling="mean")
    if kind in ("open_clip", "hf text"):
        architecture = str(write_architecture(folder, "vit" if kind == "open_clip" else kind, bert))
        pair = TowerConfig("open_clip", architecture)
        return ModelSource(tiny.settings(pair, pair, embed_dim=None, prompts=("a photo of {}", "{} from above")), 64)
    if kind in ("clip", "siglip"):
        pair = TowerConfig("transformers", str(write_transformers_pair(folder / kind, kind)))
        return ModelSource(tiny.settings(pair, pair, embed_dim=None, adapter=AdapterConfig(8)), 64)
    if kind == "fgis":
        vit = TowerConfig("timm", "test_vit", options={"patch_size": 16})
        return ModelSource(tiny.settings(vit, replace(text, attention_mask=False), RESNET, eval_views=8), 64)
    if kind == "bands":
        pair = TowerConfig("open_clip", str(write_architecture(folder, "vit")), options={"bands": 5})
        preprocessing = Preprocessing(64, (500.0,) * 5, (300.0,) * 5)
        return ModelSource(tiny.settings(pair, pair, embed_dim=None, preprocessing=preprocessing), 64)
    if kind == "dual":
        return ModelSource(tiny.settings(RESNET, text), 64)
    texts = [asdict(replace(text, lora=LoraConfig(2))), asdict(replace(text, pooling="all_layers"))]
    texts.append(asdict(TowerConfig("ngrams", "words", options={"buckets": 64})))
    names = ("test_efficientnet", "test_resnet")
    images = [asdict(TowerConfig("timm", name, pooling="all_stages", correlated_stages=(3,))) for name in names]
    images = images if kind == "concat" else images[:1]
    side = TowerConfig("concat", "two")
    refined = {"refinement": RefinementConfig(0.5), "prompts": ()} if kind == "refined" else {}
    options = {"eval_views": 2, "query_bank": 4, "prompts": ("{}", "a red {}"), **refined}
    config = tiny.settings(
        replace(side, options={"towers": images}), replace(side, options={"towers": texts}),
        split_heads=True, head_weights=(2.0, 1.0, 1.0), **options,
    )  # fmt: skip
    return ModelSource(config, 64, 12, {"method": "dual_softmax", "temperature": 0.2})


def build(source: ModelSource) -> DualEncoder:
    torch.manual_seed(0)
    model = source.build()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or "adapter.up" in name or "lora_" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.1)  # what begins at zero is seen, too
    if model.bank is not None:
        model.bank.remember(*nn.functional.normalize(torch.randn(2, 4, model.width), dim=-1))
    return model


def assert_same(ours: Retriever, model: Retriever, images: Sequence[Any]) -> None:
    for encode, inputs in (("encode_images", images), ("encode_texts", SENTENCES)):
        whole = getattr(model, encode)(inputs)
        assert (whole[0] - whole[1]).abs().max() > 1e-3, "a model whose vectors are equal shows nothing"
        torch.testing.assert_close(getattr(ours, encode)(inputs), whole, atol=1e-5, rtol=0)
        torch.testing.assert_close(getattr(ours, encode)(inputs[-1:]), whole[-1:], atol=1e-5, rtol=0)


def by_readme(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """What the program in a folder's README.md gives as ``text @ image.T``."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    Image.fromarray(picture).save(folder / "a.png")
    monkeypatch.chdir(folder)
    program = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert program is not None
    names: dict[str, Any] = {}
    exec(program[1], names)
    retriever_view = torch.from_numpy(names["text"] @ names["image"].T)
    os.remove(folder / "a.png")
    return retriever_view


def as_of_readme(retriever: Retriever) -> Tensor:
    """The same of a model."""
    picture = np.random.default_rng(0).integers(0, 256, (90, 80, 3), dtype=np.uint8)
    return retriever.encode_texts(["two ships in the harbour", "a red plane"]) @ retriever.encode_images([picture]).T


SLOW = ("refined", "open_clip", "hf text", "clip", "siglip", "fgis", "concat", "bands")


@pytest.mark.parametrize("kind", ["heads", *(pytest.param(kind, marks=pytest.mark.slow) for kind in SLOW)])
def test_every_kind_of_model(kind: str, tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(kind, tmp_path, tiny_bert)
    model = build(source)
    about = write_graphs(model, source, tmp_path / "to", "onnx")
    assert 0 < max(about["largest_difference"].values()) < 1e-5
    assert about == json.loads((tmp_path / "to" / ABOUT).read_text())
    assert sorted(tmp_path.glob("*.partial")) == []
    original = Retriever(model, 64, source.max_words)
    ours = Retriever.from_pretrained(str(tmp_path / "to"))
    assert isinstance(ours.model, OnnxEncoder)
    assert (ours.digest, ours.max_words, ours.channels) == (original.digest, source.max_words, original.channels)
    several = [np.random.default_rng(n).integers(0, 2000, (70, 80, 5)).astype(np.float32) for n in range(3)]
    assert_same(ours, original, several if kind == "bands" else pictures())
    mask = [value for value in about["inputs"]["text"] if value["name"].startswith("attention_mask")]
    assert len(mask) == {"open_clip": 0, "hf text": 0, "bands": 0, "concat": 2, "heads": 2, "refined": 2}.get(kind, 1)
    fixed = {"open_clip": 32, "hf text": 20, "siglip": 32, "bands": 32}
    length = fixed.get(kind, "length_0" if kind in ("concat", "heads", "refined") else "length")
    assert about["inputs"]["text"][0]["shape"] == ["batch", length]
    if kind != "bands":
        tolerance = 1e-5 if kind in ("heads", "refined") else 1e-3  # pairs have other squares than the program's
        torch.testing.assert_close(by_readme(tmp_path / "to", monkeypatch), as_of_readme(ours), atol=tolerance, rtol=0)
    if kind == "heads":
        assert ours.hubness.temperature == 0.2
        gallery = original.encode_images(pictures())
        assert torch.equal(ours.hub_bias(gallery), Retriever(model, 64, hubness=ours.hubness).hub_bias(gallery))
        assert torch.equal(ours.hub_bias(gallery, "images").isfinite(), torch.ones(4, dtype=torch.bool))
    if kind == "refined":
        for queries, expected in zip(ours.model.bank.queries(), model.bank.queries(), strict=True):
            torch.testing.assert_close(queries, expected)
    templates = ["a red {}", "{} in the harbour"]
    torch.testing.assert_close(
        ours.encode_texts(SENTENCES, templates=templates), original.encode_texts(SENTENCES, templates=templates),
        atol=0.1 if kind == "refined" else 1e-5, rtol=0,  # a mean of refined vectors is not the refined mean
    )  # fmt: skip


@pytest.fixture
def small(tmp_path: Path) -> str:
    """The name of a small model."""
    return write_entry(tmp_path)


@pytest.fixture
def folder(small: str, tmp_path: Path) -> Path:
    """Of its graphs."""
    cli.main(["export", small, "--to", str(tmp_path / "graphs"), "--form", "onnx"])
    return tmp_path / "graphs"


def test_programs_of_torch_export(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of("dual", tmp_path, tiny_bert)
    model = build(source)
    about = write_graphs(model, source, tmp_path / "to", "torch_export")
    assert max(about["largest_difference"].values()) < 1e-5
    own = as_of_readme(Retriever(model, 64, source.max_words))
    torch.testing.assert_close(by_readme(tmp_path / "to", monkeypatch), own, atol=1e-5, rtol=0)
    with pytest.raises(GraphError, match="holds programs of torch_export"):
        Retriever.from_pretrained(str(tmp_path / "to"))


def test_a_folder_in_use(
    small: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    model = Retriever.from_pretrained(str(folder)).model
    again = pickle.loads(pickle.dumps(model))
    images = torch.randint(0, 256, (11, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    for refused in (model.state_dict, lambda: model.to("cuda"), lambda: model.image_tower(images)):
        with pytest.raises(GraphError, match=r"graphs of ONNX"):
            refused()
    for command in (["export", str(folder), "--to", "again"], ["test", "--model.pretrained", str(folder)]):
        with pytest.raises((GraphError, SystemExit)) as refusal:
            cli.main(command)
        assert "graphs of ONNX" in str(refusal.value) + capsys.readouterr().err
    with pytest.raises(GraphError, match="not empty"):
        cli.main(["export", small, "--to", str(folder), "--form", "onnx"])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--form onnx --int8 true", "--calibrate"),
        ("--form torch_export --int8 true", "no graphs in eight bits"),
        ("--form onnx --calibrate .", "no effect"),
        ("--form onnx --standalone true", "standalone already"),
        ("--form onnx --push a/b", "neither push nor licence"),
    ],
)
def test_options_that_do_not_go_together(options: str, reason: str, small: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        cli.main(["export", small, "--to", str(tmp_path / "to"), *options.split()])
    assert not (tmp_path / "to").exists()


class Untraceable(nn.Module):
    """A tower that looks at what is in an image."""

    pooled_width = token_width = 3

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, images: Tensor) -> TowerOutput:
        means = images.mean((2, 3))
        return TowerOutput(self.layer(means) if means.sum() > 0 else means, means[:, None])


class OwnText(nn.Module):
    """A text tower with a tokeniser of its own."""

    pooled_width = token_width = 3

    def __init__(self, *_: Any) -> None:
        super().__init__()
        self.layer = nn.Embedding(300, 3)

    @staticmethod
    def tokenizer(texts: Sequence[str]) -> dict[str, Tensor]:
        return {"input_ids": torch.tensor([[len(text)] for text in texts])}

    def forward(self, tokens: dict[str, Tensor]) -> TowerOutput:
        return TowerOutput(self.layer(tokens["input_ids"]).mean(1), None)


def test_what_cannot_be_exported_is_named(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(IMAGE_TOWERS._entries, "untraceable", Untraceable)
    monkeypatch.setitem(TEXT_TOWERS._entries, "own", OwnText)
    text = TowerConfig("transformers", tiny_bert)
    source = ModelSource(tiny.settings(TowerConfig("untraceable", "looks"), text), 64)
    with pytest.raises(GraphError, match=r"the image side of this model .'looks' of untraceable"):
        write_graphs(build(source), source, tmp_path / "to", "torch_export")
    source = ModelSource(tiny.settings(RESNET, TowerConfig("own", "counts")), 64)
    with pytest.raises(ValueError, match="tokeniser of 'counts'"):
        write_graphs(build(source), source, tmp_path / "to", "torch_export")
    assert list(tmp_path.glob("to*")) == []


def test_other_embeddings_are_not_written(tmp_path: Path, tiny_bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ModelSource(tiny.settings(RESNET, TowerConfig("transformers", tiny_bert)), 64)
    model = build(source)
    monkeypatch.setattr(graph_folder, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(GraphError, match="do not give the model's embeddings"):
        write_graphs(model, source, tmp_path / "to", "torch_export")
    assert list(tmp_path.glob("to*")) == []


def test_folders_and_models_that_are_none(folder: Path, small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "LARGEST", 1000)
    source = find_model(small)
    with pytest.raises(GraphError, match="give --form torch_export"):
        write_graphs(source.build(), source, folder.with_name("large"), "onnx")
    about = json.loads((folder / ABOUT).read_text())
    about["encoder"]["text"]["options"] = {"trust_remote_code": True}
    (folder / ABOUT).write_text(json.dumps(about))
    with pytest.raises(RemoteCodeError, match="trust_remote_code"):
        Retriever.from_pretrained(str(folder))
    (folder / ABOUT).write_text("{}")
    with pytest.raises(SettingsError, match="does not describe graphs"):
        Retriever.from_pretrained(str(folder))


@pytest.mark.slow
def test_eight_bits(small: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number, picture in enumerate(pictures()):
        picture.save(tmp_path / f"{number}.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    to = tmp_path / "to"
    cli.main(["export", small, "--to", str(to), "--form", "onnx", "--int8", "true", "--calibrate", f"{tmp_path}/*.png"])
    about = json.loads((to / ABOUT).read_text())
    assert about["numbers"] == "int8"
    assert about["calibrated_on"] == 4
    assert "broken.png cannot be read" in caplog.text
    original, ours = Retriever.from_pretrained(small), Retriever.from_pretrained(str(to))
    assert ours.digest == about["digest"] != original.digest
    assert (ours.encode_images(pictures()) * original.encode_images(pictures())).sum(1).min() > 0.98
    assert (ours.encode_texts(TEXTS) * original.encode_texts(TEXTS)).sum(1).min() > 0.98
    assert min(about["least_cosine_to_float32"].values()) > 0.98
    weights = sum(tensor.numel() for tensor in original.model.state_dict().values())
    assert sum(file.stat().st_size for file in to.glob("*.onnx")) < 2 * weights


@pytest.mark.slow
def test_products_with_a_bank_stay_in_float32(tmp_path: Path, tiny_bert: str) -> None:
    source = source_of("refined", tmp_path, tiny_bert)
    write_graphs(build(source), source, tmp_path / "to", "onnx")
    before = Retriever.from_pretrained(str(tmp_path / "to")).encode_texts(SENTENCES)
    quantise_texts(tmp_path / "to" / "text.onnx")
    kinds = {node.name: node.op_type for node in onnx.load(tmp_path / "to" / "text.onnx").graph.node}
    assert "MatMulInteger" in kinds.values()
    for product in ("node_matmul", "node_matmul_1", "node_matmul_2"):  # the memory's two, and that of hub biases
        assert kinds[product] == "MatMul"
    after = Retriever.from_pretrained(str(tmp_path / "to")).encode_texts(SENTENCES)
    assert (before * after).sum(1).min() > 0.98


@pytest.mark.slow
def test_the_published_model(tmp_path: Path) -> None:
    source = find_model("rsicd-lite")
    model = source.build()
    about = write_graphs(model, source, tmp_path / "to", "onnx")
    assert max(about["largest_difference"].values()) < 1e-4
    original, ours = (
        Retriever(model, source.image_size, source.max_words),
        Retriever.from_pretrained(str(tmp_path / "to")),
    )
    assert original.digest == ours.digest == Retriever.from_pretrained("rsicd-lite").digest
    images: list[Any] = pictures()
    texts = list(SENTENCES)
    if VALIDATION.is_dir():
        rows = next(pq.ParquetFile(next(VALIDATION.glob("valid*.parquet"))).iter_batches(24)).to_pylist()
        images += [row["image"]["bytes"] for row in rows]
        texts += [caption for row in rows for caption in row["captions"]]
    for encode, inputs in (("encode_images", images), ("encode_texts", texts)):
        assert (getattr(ours, encode)(inputs) - getattr(original, encode)(inputs)).abs().max() < 1e-4
