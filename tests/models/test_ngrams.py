"""Texts as bags of words and runs of words."""

import sys
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
import torch

from rsretrieval.models import EncoderConfig, TowerConfig
from rsretrieval.models.tokenizers import tokenizer_of
from rsretrieval.models.towers.ngrams import IDS, NGramTextTower, NGramTokenizer
from rsretrieval.settings import build, plain

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

NGRAMS = TowerConfig("ngrams", "words", options={"buckets": 512})
IMAGE = TowerConfig("timm", "test_efficientnet", frozen=True)


def place(run: str) -> int:
    return crc32(run.encode()) % 512


def test_counts_of_runs() -> None:
    tower = NGramTextTower(NGRAMS)
    found = tower(tower.tokenizer(["A plane a plane", "", "ships"])).pooled
    expected = torch.zeros(3, 512)
    for run, count in {"a": 2, "plane": 2, "a plane": 2, "plane a": 1}.items():
        expected[0, place(run)] += count
    expected[0] /= 13**0.5
    expected[2, place("ships")] = 1
    torch.testing.assert_close(found, expected)


def test_longest() -> None:
    ids = NGramTokenizer(longest=3, buckets=512)(["in the old harbour"])[IDS][0] - 1
    runs = ["in", "the", "old", "harbour", "in the", "the old", "old harbour", "in the old", "the old harbour"]
    assert ids.tolist() == [place(run) for run in runs]
    assert NGramTokenizer(longest=1)(["", "a b"])[IDS].ne(0).tolist() == [[False, False], [True, True]]


def test_equal_in_any_company() -> None:
    model = tiny.encoder(IMAGE, NGRAMS).eval()
    with torch.no_grad():
        alone, among = model.encode_text(["two ships"]), model.encode_text(["two ships", "a red plane in the harbour"])
    torch.testing.assert_close(alone[0], among[0])
    assert (among[0] - among[1]).norm() > 1e-3


def test_beside_another_tower(tiny_bert: str) -> None:
    bert = TowerConfig("transformers", tiny_bert, pooling="mean")
    text = TowerConfig("concat", "both", options={"towers": [plain(bert), plain(NGRAMS)]})
    config = tiny.settings(IMAGE, text, split_heads=True, head_weights=[1.0, 0.5])
    assert config.heads == (2 / 3, 1 / 3)
    assert build(EncoderConfig, plain(config), "settings") == config
    tokens = tokenizer_of(config.text)(["a red plane"])
    assert sorted(tokens) == ["0.attention_mask", "0.input_ids", f"1.{IDS}"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(NGRAMS, options={"width": 3}), r"has no options \['width'\]; possible are buckets, longest"),
        (replace(NGRAMS, options={"longest": 0}), "longest=0, buckets=8192 of ngrams: give 1 or more"),
        (replace(NGRAMS, weights="pretrained"), "has nothing to load, pool or adapt: leave out weights"),
    ],
)
def test_wrong_settings(config: TowerConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NGramTextTower(config)
