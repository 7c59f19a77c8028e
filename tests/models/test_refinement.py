"""Embeddings refined by the query bank: the formula against loops, where it holds, and who refuses it."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from rsretrieval import Retriever, TowerConfig, cli
from rsretrieval.models import DualEncoder
from rsretrieval.models.config import EncoderConfig
from rsretrieval.models.digest import digest_of
from rsretrieval.models.graphs import GraphError, sides_of
from rsretrieval.models.open_clip_folder import check_is_open_clip
from rsretrieval.models.projections import split_heads
from rsretrieval.models.query_bank import QueryBank
from rsretrieval.models.refinement import RefinementConfig, refine
from rsretrieval.models.tokens import TokensError, cell_vectors

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny
from pairs import pictures, write_architecture, write_entry

CONFIG = RefinementConfig(memory=0.4, memory_temperature=0.3, hubs=0.7, hub_temperature=0.2)
TEXTS = ["two ships in the harbour", "a red plane", "a plane"]


def units(*shape: int, seed: int = 0) -> Tensor:
    return normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def with_memory(vector: Tensor, own: Tensor, other: Tensor) -> Tensor:
    shares = [math.exp(float(vector @ near) / CONFIG.memory_temperature) for near in own]
    remembered = sum((share * row for share, row in zip(shares, other, strict=True)), torch.zeros(len(vector)))
    return normalize(vector + CONFIG.memory * remembered / sum(shares), dim=0)


def hub_bias(vector: Tensor, other: Tensor) -> float:
    mean = sum(math.exp(float(vector @ query) / CONFIG.hub_temperature) for query in other) / len(other)
    return CONFIG.hubs * CONFIG.hub_temperature * math.log(mean)


def test_cosines_against_loops() -> None:
    image, text, images, texts = units(3, 6), units(4, 6, seed=1), units(9, 6, seed=2), units(9, 6, seed=3)
    bank = QueryBank.holding(texts, images, CONFIG)
    refined, sentences = bank.refine(image, is_image=True), bank.refine(text, is_image=False)
    assert refined.shape == (3, 10)
    for vectors in (refined, sentences):
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(len(vectors)))
    for i, picture in enumerate(image):
        for j, sentence in enumerate(text):
            x, y = with_memory(picture, images, texts), with_memory(sentence, texts, images)
            expected = float(x @ y) - hub_bias(x, texts) - hub_bias(y, images)
            assert float(refined[i] @ sentences[j]) == pytest.approx(expected / (1 + 2 * CONFIG.hubs), abs=1e-6)


def test_images_among_themselves_keep_their_order_nearly() -> None:
    image, text = units(9, 64, seed=2), units(9, 64, seed=3)
    refined = QueryBank.holding(text, image, replace(CONFIG, memory=0)).refine(image, is_image=True)
    expected = (image @ image.T + 2 * CONFIG.hubs) / (1 + 2 * CONFIG.hubs)
    assert 0 < float((refined @ refined.T - expected).abs().max()) < 0.01


def test_the_halves_of_it() -> None:
    image, text = units(5, 6), units(5, 6, seed=1)
    memory = refine(image, image, text, replace(CONFIG, hubs=0), is_image=True)
    assert memory.shape == (5, 6)
    torch.testing.assert_close(memory[0], with_memory(image[0], image, text))
    both_zero = refine(image, image, text, RefinementConfig(memory=0, hubs=0), is_image=True)
    assert both_zero.equal(image)


def test_what_is_not_there_has_no_say() -> None:
    vectors, own, other = units(3, 6), units(5, 6, seed=1), units(5, 6, seed=2)
    expected = refine(vectors, own, other, CONFIG, is_image=False)
    filled = [torch.cat([rows, torch.zeros(2, 6)]) for rows in (own, other)]
    torch.testing.assert_close(refine(vectors, *filled, CONFIG, is_image=False), expected)
    empty = refine(vectors, torch.zeros(4, 6), torch.zeros(4, 6), CONFIG, is_image=False)
    assert empty.isfinite().all()
    torch.testing.assert_close(empty[:, :6] * (1 + 2 * CONFIG.hubs) ** 0.5, vectors)


@pytest.mark.parametrize("wrong", [{"memory": -1}, {"hubs": math.inf}, {"hub_temperature": 0}])
def test_wrong_settings(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RefinementConfig(**wrong)


@pytest.fixture
def text(tiny_bert: str) -> TowerConfig:
    return TowerConfig("transformers", tiny_bert, pooling="mean")


def model_of(text: TowerConfig, **options: object) -> DualEncoder:
    """With a bank of eight pairs."""
    torch.manual_seed(0)
    towers = {"towers": [{"library": "transformers", "name": text.name}, {"library": "ngrams", "name": "words"}]}
    sides = TowerConfig("timm", "test_resnet"), TowerConfig("concat", "two", options=towers)
    model = tiny.encoder(*sides, split_heads=True, query_bank=8, refinement=CONFIG, **options)
    model.bank.remember(units(8, model.width), units(8, model.width, seed=1))
    return model


def test_a_model_refines_in_evaluation_and_trains_without(text: TowerConfig) -> None:
    model = model_of(text)
    images, tokens = torch.rand(3, 3, 64, 64), model.tokenizer(TEXTS)
    assert (model.width, model.embed_dim) == (64, 68)
    assert model.encode_image(images).shape == model.encode_tokens(tokens).shape == (3, 64)
    model.eval()
    raw = model(images, tokens)
    assert [vectors.shape for vectors in raw] == [(3, 64)] * 2
    torch.testing.assert_close(split_heads(raw[0], model.heads)[0].norm(dim=1), torch.ones(3))
    encoded = model.encode_image(images), model.encode_tokens(tokens)
    for vectors, own, is_image in zip(encoded, raw, (True, False), strict=True):
        torch.testing.assert_close(vectors, model.bank.refine(own, is_image=is_image))
    queries = model.bank.queries()
    assert [part.shape for part in queries] == [(8, 68)] * 2  # as the model would give them
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(model.bank.refine(raw[0], is_image=True), encoded[0])


def test_which_model_it_is_depends_on_the_bank(text: TowerConfig) -> None:
    models = [model_of(text) for _ in range(3)]
    models[1].bank.remember(units(2, 64, seed=5), units(2, 64, seed=6))
    models[2].config = replace(models[2].config, refinement=replace(CONFIG, memory=0))
    assert len({digest_of(model, 64, 20) for model in models}) == 3


def test_any_model_is_refined_by_a_bank(tiny_data: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = write_entry(tmp_path)
    arguments = ["bank", entry, f"--captions=parquet:{tiny_data}", "--refinement.memory=0.4", "--refinement.hubs=0.7"]
    cli.main([*arguments, f"--to={tmp_path / 'one'}"])
    assert "a bank of 16 captions and 16 images; the model with it:" in capsys.readouterr().out
    before, after = Retriever.from_pretrained(entry), Retriever.from_pretrained(str(tmp_path / "one"))
    image, sentences = before.encode_images(pictures()), before.encode_texts(TEXTS)
    bank = after.model.bank
    torch.testing.assert_close(after.encode_images(pictures()), bank.refine(image, is_image=True), atol=5e-3, rtol=0)
    torch.testing.assert_close(after.encode_texts(TEXTS), bank.refine(sentences, is_image=False), atol=5e-3, rtol=0)
    assert bank.refinement == after.model.config.refinement == RefinementConfig(0.4, hubs=0.7)
    with pytest.raises(ValueError, match="have the correction for hubs in them"):
        after.hub_bias(image)
    # A new bank is of vectors as they are, and refines as the model did.
    cli.main(["bank", str(tmp_path / "one"), f"--captions=parquet:{tiny_data}", f"--to={tmp_path / 'two'}"])
    again = Retriever.from_pretrained(str(tmp_path / "two"))
    torch.testing.assert_close(again.model.bank.text, bank.text, atol=5e-3, rtol=0)
    torch.testing.assert_close(again.encode_texts(TEXTS), after.encode_texts(TEXTS), atol=2e-2, rtol=0)


def test_who_refuses_it(text: TowerConfig, tmp_path: Path) -> None:
    resnet = TowerConfig("timm", "test_resnet")
    with pytest.raises(ValueError, match="refinement needs a bank to refine by: set query_bank"):
        tiny.settings(resnet, text, refinement=CONFIG)
    pair = TowerConfig("open_clip", str(write_architecture(tmp_path, "vit")))
    with pytest.raises(ValueError, match="open_clip has no place for refinement"):
        check_is_open_clip(EncoderConfig(pair, pair, None, refinement=CONFIG, query_bank=4))
    with pytest.raises(TokensError, match="refined by what it remembers"):
        cell_vectors(model_of(text).eval(), torch.rand(1, 3, 64, 64))
    with pytest.raises(GraphError, match="without prompts, or without refinement"):
        sides_of(model_of(text, prompts=("{}", "a {}")).eval(), 64)
    (tmp_path / "one.txt").write_text("a pond")
    with pytest.raises(ValueError, match=r"has no images, and a memory is of pairs: .* --refinement\.memory 0"):
        cli.main([
            "bank", write_entry(tmp_path), f"--captions={tmp_path / 'one.txt'}", "--refinement.hubs=1",
            f"--to={tmp_path / 'to'}",
        ])  # fmt: skip
