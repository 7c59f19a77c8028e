"""Graded figures against a slow reference that goes through every order of the ties, and against cases by hand."""

import sys
from itertools import permutations, product
from math import log2
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsretrieval.metrics import graded, graded_retrieval

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


def orders(scores: np.ndarray) -> list[list[int]]:
    """Every ranking that the scores allow."""
    groups = [np.flatnonzero(scores == value) for value in sorted(set(scores), reverse=True)]
    return [[row for part in parts for row in part] for parts in product(*(permutations(group) for group in groups))]


def average_precision(relevant: np.ndarray, k: int) -> float:
    precisions = [relevant[: j + 1].mean() for j in range(min(k, len(relevant))) if relevant[j]]
    return sum(precisions) / min(k, relevant.sum())


def normalised_gain(relevant: np.ndarray, k: int) -> float:
    def gain(order: np.ndarray) -> float:
        return sum(float(r) / log2(j + 2) for j, r in enumerate(order[:k]))

    return gain(relevant) / gain(np.sort(relevant)[::-1])


def reference(scores: np.ndarray, relevant: np.ndarray, k: int) -> tuple[float, float]:
    """Mean over the queries of the mean over all orders, in percent."""
    each = [
        np.mean([(average_precision(r[order], k), normalised_gain(r[order], k)) for order in orders(row)], axis=0)
        for row, r in zip(scores, relevant, strict=True)
    ]
    return tuple(100 * np.mean(each, axis=0))


@settings(deadline=None, max_examples=tiny.examples(25))
@given(st.integers(0, 2**31), st.sampled_from(["every", "distinct"]))
def test_against_every_order_of_the_ties(seed: int, queries: str) -> None:
    # Small integers: many exact ties, scores of 0 and below. Distinct captions have several images, of several scenes.
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.concatenate([np.arange(4), rng.integers(0, 4, 2)]))
    image, scenes = rng.integers(-1, 2, (4, 2)), rng.integers(0, 3, 4)
    ids = rng.integers(0, 4, len(owners))
    text = rng.integers(-1, 2, (4, 2))[ids]
    got = graded_retrieval(
        image=torch.tensor(image).float(), text=torch.tensor(text).float(), owners=torch.tensor(owners),
        scenes=torch.tensor(scenes), ks=(1, 3, 9), distinct_ids=torch.tensor(ids) if queries == "distinct" else None,
    )  # fmt: skip
    captions = [[m] for m in range(len(ids))] if queries == "every" else [np.flatnonzero(ids == n) for n in set(ids)]
    rows = [same[0] for same in captions]
    relevant = np.array([[scenes[n] in scenes[owners[same]] for same in captions] for n in range(4)])
    scores = image @ text[rows].T
    for k in (1, 3, 9):
        assert (got[f"i2t_mAP@{k}"], got[f"i2t_nDCG@{k}"]) == pytest.approx(reference(scores, relevant, k))
        assert (got[f"t2i_mAP@{k}"], got[f"t2i_nDCG@{k}"]) == pytest.approx(reference(scores.T, relevant.T, k))


def test_hand_worked_on_negative_cosines() -> None:
    # The query "t0" (scene 0) ranks the images -.1 (scene 1), -.2 and -.3 (scene 0): AP@3 is (1/2 + 2/3) / 2, and the
    # gain 1/log2(3) + 1/log2(4) over 1 + 1/log2(3). At one place nothing is right.
    image = torch.tensor([[-0.2, -0.1], [-0.3, -0.1], [-0.1, 0.9]])
    text = torch.eye(2)[[0, 1, 1]]
    figures = graded_retrieval(
        image=image, text=text, owners=torch.tensor([0, 1, 2]), scenes=torch.tensor([0, 0, 1]), ks=(1, 3)
    )
    # "t1" of image 1 (scene 0): image 2 first, then a tie of images 0 and 1; "t1" of image 2 (scene 1): image 2 first.
    precision = [(1 / 2 + 2 / 3) / 2, (1 / 2 + 2 / 3) / 2, 1]
    assert figures["t2i_mAP@3"] == pytest.approx(100 * sum(precision) / 3)
    gain = (1 / log2(3) + 1 / 2) / (1 + 1 / log2(3))
    assert figures["t2i_nDCG@3"] == pytest.approx(100 * (2 * gain + 1) / 3)
    assert figures["t2i_mAP@1"] == pytest.approx(100 / 3)


def test_the_divisor_is_what_the_first_k_could_hold() -> None:
    # All five captions are relevant to the image: the first two places are all that can be right.
    figures = graded_retrieval(
        image=torch.eye(1), text=torch.ones(5, 1), owners=torch.zeros(5).long(), scenes=torch.tensor([3]), ks=(2,)
    )
    assert set(figures.values()) == {100.0}


def test_chunks_and_the_order_of_the_data_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    image, owners, scenes = torch.randn(50, 4), torch.arange(50).repeat_interleave(3), torch.arange(50) % 7
    text = image[owners] + 2 * torch.randn(150, 4)
    whole = graded_retrieval(image=image, text=text, owners=owners, scenes=scenes)
    monkeypatch.setattr(graded, "_CHUNK", 16)
    rows, columns = torch.randperm(50), torch.randperm(150)
    parts = graded_retrieval(
        image=image[rows], text=text[columns], owners=rows.argsort()[owners[columns]], scenes=100 - scenes[rows]
    )
    assert parts == pytest.approx(whole)
    assert list(whole) == ["i2t_mAP@10", "i2t_nDCG@10", "t2i_mAP@10", "t2i_nDCG@10"]
    assert 0 < min(whole.values()) < max(whole.values()) < 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scenes": torch.arange(3)}, "give a label an image"),
        ({"owners": torch.tensor([0, 0])}, "1 of 2 images have no caption"),
        ({"image": torch.full((2, 2), torch.nan)}, "NaN or infinity"),
        ({"ks": ()}, "ranks of 1 or more"),
        ({"distinct_ids": torch.arange(3)}, "give one a caption"),
    ],
)
def test_wrong_input_is_refused(change: dict, message: str) -> None:
    good = {"image": torch.eye(2), "text": torch.eye(2), "owners": torch.arange(2), "scenes": torch.arange(2)}
    with pytest.raises(ValueError, match=message):
        graded_retrieval(**(good | change))
