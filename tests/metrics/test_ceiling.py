"""The ceiling in closed form against the recall of encoders that are perfect, and against counts of real captions."""

import sys
from collections import Counter
from itertools import product
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsretrieval.data import Columns, build_source
from rsretrieval.data.table import build_table
from rsretrieval.metrics import recall_ceiling, retrieval_recall
from rsretrieval.types import text_ids

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny

KS = (1, 2, 5)
RSICD = Path(__file__).parents[3] / "shared" / "data" / "rsicd"


def captions(seed: int) -> tuple[Tensor, Tensor]:
    """Owners and text ids of some captions; each image has one or more, some of them several times."""
    rng = np.random.default_rng(seed)
    images = int(rng.integers(1, 6))
    owners = np.concatenate([np.arange(images), rng.integers(0, images, int(rng.integers(0, 9)))])
    return torch.tensor(owners), torch.tensor(rng.integers(0, 5, len(owners)))


def recall_of(scores: Tensor, owners: Tensor, ids: Tensor, queries: str = "every") -> dict[str, float]:
    """Recall of an encoder that gives these scores ``(N, texts)``: an image is an axis, a text its column."""
    return retrieval_recall(
        image=torch.eye(len(scores)), text=scores.T[ids], owners=owners, ks=KS, queries=queries, text_ids=ids
    )


@settings(deadline=None, max_examples=tiny.examples(60))
@given(st.integers(0, 2**31))
def test_image_retrieval_is_that_of_one_hot_embeddings(seed: int) -> None:
    owners, ids = captions(seed)
    own = torch.zeros(int(owners.max()) + 1, 5).index_put((owners, ids), torch.tensor(1.0))
    ceiling, recall = recall_ceiling(owners=owners, text_ids=ids, ks=KS), recall_of(own, owners, ids)
    for k in KS:
        assert ceiling[f"t2i_R@{k}"] == pytest.approx(recall[f"t2i_R@{k}"])
        assert ceiling[f"i2t_R@{k}"] >= recall[f"i2t_R@{k}"] - 1e-9  # all own captions tie there
    assert set(recall_ceiling(owners=owners, text_ids=ids, ks=KS, queries="distinct").values()) == {100.0}
    assert recall_of(own, owners, ids, "distinct")["t2i_R@1"] == pytest.approx(100)
    assert recall_of(own, owners, ids, "distinct")["i2t_R@1"] == pytest.approx(100)


def hit(scores: np.ndarray, own: np.ndarray, k: int) -> float:
    """Probability that one of the best own items is among the first k."""
    best = scores[own].max()
    above, tied, mine = (scores > best).sum(), ((scores == best) & ~own).sum(), ((scores == best) & own).sum()
    left = int(k - above)
    return float(left > 0) if left <= 0 or left > tied else 1 - comb(int(tied), left) / comb(int(tied + mine), left)


@settings(deadline=None, max_examples=tiny.examples(15))
@given(st.integers(0, 2**31))
def test_sentence_retrieval_is_that_of_the_best_ranking(seed: int) -> None:
    """Of every ranking of the texts, ties among them, the best for each image reaches the ceiling, and none more."""
    owners, ids = (values.numpy() for values in captions(seed))
    ceiling = recall_ceiling(owners=torch.tensor(owners), text_ids=torch.tensor(ids), ks=KS)
    rankings = np.array(list(product(range(3), repeat=5)))[:, ids]
    for k in KS:
        best = [max(hit(ranking, owners == image, k) for ranking in rankings) for image in range(owners.max() + 1)]
        assert ceiling[f"i2t_R@{k}"] == pytest.approx(100 * np.mean(best))


def test_what_a_perfect_encoder_ranks_first() -> None:
    # Text 0 is image 0's alone; text 1 both have; text 2 is once image 0's and twice image 1's. Image 0 is found by
    # text 0; image 1 by text 2: 2 of 3 at one place, and surely at two. Text queries: text 0 surely, the five others
    # find their own image half of the time.
    owners, ids = torch.tensor([0, 0, 1, 0, 1, 1]), torch.tensor([0, 1, 1, 2, 2, 2])
    ceiling = recall_ceiling(owners=owners, text_ids=ids, ks=(1, 2))
    wanted = {"i2t_R@1": 500 / 6, "i2t_R@2": 100, "t2i_R@1": 100 * (1 + 5 / 2) / 6, "t2i_R@2": 100}
    assert ceiling == pytest.approx({**wanted, "mR": sum(wanted.values()) / 4})
    recall = recall_of(torch.tensor([[3.0, 1.0, 1.0], [0.0, 1.0, 2.0]]), owners, ids)
    assert recall["i2t_R@1"] == pytest.approx(ceiling["i2t_R@1"])


def test_millions_of_captions_take_no_matrix() -> None:
    # Every caption is that of two neighbours: 1,000,000 captions, any ids.
    owners = torch.arange(500_000).repeat_interleave(2) * 7 - 3
    ids = (torch.arange(1_000_000) // 2 + torch.arange(1_000_000) % 2) % 500_000 - 2**62
    ceiling = recall_ceiling(owners=owners, text_ids=ids)
    assert (ceiling["i2t_R@1"], ceiling["t2i_R@1"], ceiling["t2i_R@5"]) == pytest.approx((50, 50, 100))


@pytest.mark.skipif(not RSICD.is_dir(), reason=f"there is no {RSICD}")
def test_rsicd_counted_with_dictionaries() -> None:
    table = build_table(build_source("parquet", str(RSICD), Columns()), "valid")
    pairs = Counter((row, text) for row, texts in enumerate(table.captions) for text in texts)
    copies, images = Counter[str](), Counter[str]()
    for (_, text), count in pairs.items():
        copies[text] += count
        images[text] += 1
    ceiling = recall_ceiling(
        owners=torch.tensor([row for row, texts in enumerate(table.captions) for _ in texts]),
        text_ids=text_ids([text for texts in table.captions for text in texts]),
    )
    for k in (1, 5, 10):
        found = sum(count * min(1, k / images[text]) for (_, text), count in pairs.items())
        assert ceiling[f"t2i_R@{k}"] == pytest.approx(100 * found / pairs.total())
        best: dict[int, float] = {}
        for (row, text), own in pairs.items():
            others = copies[text] - own
            chance = 1 if k > others else 1 - comb(others, k) / comb(others + own, k)
            best[row] = max(best.get(row, 0), chance)
        assert ceiling[f"i2t_R@{k}"] == pytest.approx(100 * sum(best.values()) / len(best))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"owners": torch.arange(3)}, r"owners \(3,\) and text_ids \(2,\): give both"),
        ({"owners": torch.arange(0), "text_ids": torch.arange(0)}, "one caption or more"),
        ({"ks": (0,)}, "ranks of 1 or more"),
        ({"queries": "all"}, "possible are"),
    ],
)
def test_wrong_input_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recall_ceiling(**({"owners": torch.arange(2), "text_ids": torch.arange(2)} | change))
