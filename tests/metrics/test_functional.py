"""Recall against an independent reference that lists every ordering's hits, and against cases worked by hand."""

import sys
from itertools import permutations
from math import comb
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rsretrieval.metrics import retrieval_recall
from rsretrieval.metrics.functional import hit_probability

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


def reference(image: np.ndarray, text: np.ndarray, owners: np.ndarray, ks: tuple[int, ...], ties: str) -> dict:
    """Query by query in plain NumPy, with binomial coefficients of integers."""
    scores = image @ text.T
    out: dict[str, float] = {}
    owned = owners[None, :] == np.arange(len(image))[:, None]
    for name, s, own in (("i2t", scores, owned), ("t2i", scores.T, owned.T)):
        for k in ks:
            hits = []
            for row, is_own in zip(s, own, strict=True):
                best = row[is_own].max()
                g, t, o = (row > best).sum(), ((row == best) & ~is_own).sum(), ((row == best) & is_own).sum()
                left = int(k - g)
                if ties == "optimistic":
                    hits.append(float(left > 0))
                elif ties == "pessimistic":
                    hits.append(float(left > t))
                elif left <= 0 or left > t:
                    hits.append(float(left > 0))
                else:
                    hits.append(1 - comb(int(t), left) / comb(int(t + o), left))
            out[f"{name}_R@{k}"] = 100 * float(np.mean(hits))
    return {**out, "mR": float(np.mean(list(out.values())))}


@settings(deadline=None, max_examples=tiny.examples(60))
@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from(["expected", "optimistic", "pessimistic"]))
def test_against_reference(seed: int, images: int, ties: str) -> None:
    # Small integers: many exact ties, negative scores, and products without rounding.
    rng = np.random.default_rng(seed)
    owners = rng.permutation(np.repeat(np.arange(images), rng.integers(1, 8, images)))
    image, text = rng.integers(-2, 3, (images, 3)), rng.integers(-2, 3, (len(owners), 3))
    got = retrieval_recall(
        image=torch.tensor(image).float(),
        text=torch.tensor(text).float(),
        owners=torch.tensor(owners),
        ks=(1, 2, 5, 10),
        ties=ties,
    )
    assert got == pytest.approx(reference(image, text, owners, (1, 2, 5, 10), ties))


def distinct_reference(image: np.ndarray, text: np.ndarray, owners: np.ndarray, ids: np.ndarray, k: int) -> dict:
    """Query by query: each distinct caption once, right for all images that have it."""
    names = sorted(set(ids))
    scores = image @ np.array([text[list(ids).index(name)] for name in names]).T
    own = np.array([[name in ids[owners == n] for name in names] for n in range(len(image))])
    out: dict[str, float] = {}
    for way, s, right in (("i2t", scores, own), ("t2i", scores.T, own.T)):
        hits = []
        for row, is_own in zip(s, right, strict=True):
            orders = [np.lexsort((np.random.default_rng(n).random(len(row)), -row)) for n in range(300)]
            hits.append(np.mean([is_own[order[:k]].any() for order in orders]))
        out[f"{way}_R@{k}"] = 100 * float(np.mean(hits))
    return out


@pytest.mark.parametrize("seed", range(4))
def test_distinct_captions_against_random_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    owners, ids = np.concatenate([np.arange(6), rng.integers(0, 6, 8)]), rng.integers(0, 6, 14)
    image, text = rng.integers(-1, 2, (6, 2)), rng.integers(-1, 2, (6, 2))[ids]
    got = retrieval_recall(
        image=torch.tensor(image).float(), text=torch.tensor(text).float(), owners=torch.tensor(owners), ks=(2,),
        queries="distinct", text_ids=torch.tensor(ids),
    )  # fmt: skip
    wanted = distinct_reference(image, text, owners, ids, 2)
    assert {name: got[name] for name in wanted} == pytest.approx(wanted, abs=6)  # 300 orders a query
    assert got["mR"] == pytest.approx(sum(got[name] for name in wanted) / 2)


def test_distinct_captions_by_hand() -> None:
    # "a pier" (axis 1) describes images 0 and 1, "a pond" (axis 0) image 0, "a road" image 2. Every caption: of the
    # two "a pier" one retrieves the other image first; distinct: either is right. Image 0 ranks "a pier" (.8) before
    # "a pond" (.6): its own. Image 2 ranks "a pier" first, which is not.
    image = torch.tensor([[0.6, 0.8, 0.0], [0.0, 1.0, 0.0], [0.0, 0.8, 0.6]])
    case = {"image": image, "text": torch.eye(3)[[0, 1, 1, 2]], "owners": torch.tensor([0, 0, 1, 2]), "ks": (1, 2)}
    every, distinct = retrieval_recall(**case), retrieval_recall(**case, queries="distinct")
    assert every["t2i_R@1"] == pytest.approx(100 * (1 + 0 + 1 + 1) / 4)
    assert distinct["t2i_R@1"] == pytest.approx(100)
    # Every caption: the two equal "a pier" tie at the top of images 0 and 1, and image 2 finds "a road" third.
    assert (every["i2t_R@1"], every["i2t_R@2"]) == pytest.approx((100 * (0.5 + 0.5) / 3, 200 / 3))
    assert (distinct["i2t_R@1"], distinct["i2t_R@2"]) == pytest.approx((200 / 3, 100))


def test_distinct_captions_are_told_by_their_ids() -> None:
    # Two captions that the encoder cannot tell apart are still two: they tie.
    case = {"image": torch.eye(2), "text": torch.ones(2, 2), "owners": torch.arange(2), "ks": (1,)}
    assert retrieval_recall(**case, queries="distinct", text_ids=torch.tensor([4, 9]))["i2t_R@1"] == 50
    assert retrieval_recall(**case, queries="distinct")["i2t_R@1"] == 100


def test_without_repeated_captions_the_protocols_agree() -> None:
    torch.manual_seed(2)
    image, text, owners = torch.randn(20, 4), torch.randn(50, 4), torch.arange(50) % 20
    every = retrieval_recall(image=image, text=text, owners=owners)
    assert retrieval_recall(image=image, text=text, owners=owners, queries="distinct") == pytest.approx(every)


@pytest.mark.parametrize(("foreign", "own", "places"), [(2, 1, 1), (3, 2, 2), (4, 1, 3), (0, 3, 1), (2, 2, 5)])
def test_expectation_is_the_mean_over_all_orderings(foreign: int, own: int, places: int) -> None:
    items = [False] * foreign + [True] * own
    wanted = np.mean([any(order[:places]) for order in permutations(items)])
    counts = (torch.tensor([n]) for n in (0, foreign, own))
    assert hit_probability(*counts, places, "expected").item() == pytest.approx(wanted)


def test_hand_worked() -> None:
    # Two images with two captions each, all cosines negative. Scores: image 0: -.2 -.4 | -.1 -.3, so that a foreign
    # caption is first and an own one second; image 1: -.9 -.8 | -.5 -.5, an own one first. Captions: 0, 1 and 3
    # find their image first except 3 (-.3 against -.5) and 2 (-.1 against -.5).
    image = torch.eye(2)
    text = torch.tensor([[-0.2, -0.9], [-0.4, -0.8], [-0.1, -0.5], [-0.3, -0.5]])
    got = retrieval_recall(image=image, text=text, owners=torch.tensor([0, 0, 1, 1]), ks=(1, 2))
    assert got == {"i2t_R@1": 50, "i2t_R@2": 100, "t2i_R@1": 50, "t2i_R@2": 100, "mR": 75}


def test_equal_captions_of_many_images_tie_exactly() -> None:
    # One caption for all 40 images, in float32 of a width that a matrix product splits: 10 of 40 by chance.
    torch.manual_seed(0)
    text = torch.nn.functional.normalize(torch.randn(1, 517), dim=-1).expand(40, -1)
    image = torch.nn.functional.normalize(torch.randn(40, 517), dim=-1)
    got = retrieval_recall(image=image, text=text, owners=torch.arange(40))
    assert got["i2t_R@10"] == pytest.approx(25)
    assert got["i2t_R@1"] == pytest.approx(2.5)


def test_order_of_the_data_does_not_matter() -> None:
    torch.manual_seed(1)
    image, owners = torch.randn(1300, 8), torch.arange(1300).repeat_interleave(2)  # more than one chunk
    text = image[owners] + torch.randn(2600, 8)
    rows, columns = torch.randperm(1300), torch.randperm(2600)
    moved = retrieval_recall(image=image[rows], text=text[columns], owners=rows.argsort()[owners[columns]])
    assert moved == pytest.approx(retrieval_recall(image=image, text=text, owners=owners))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"owners": torch.tensor([0, 0])}, "1 of 2 images have no caption"),
        ({"owners": torch.tensor([0, 2])}, "each is the row of the caption's image"),
        ({"owners": torch.tensor([0])}, "do not go together"),
        ({"ties": "lucky"}, "possible are"),
        ({"queries": "some"}, r"queries='some' is unknown; possible are \('every', 'distinct'\)"),
        ({"queries": "distinct", "text_ids": torch.arange(3)}, "give one a caption"),
        ({"ks": (0, 1)}, "ranks of 1 or more"),
        ({"image": torch.full((2, 2), torch.nan)}, "NaN or infinity"),
    ],
)
def test_wrong_input_is_refused(change: dict, message: str) -> None:
    good = {"image": torch.eye(2), "text": torch.eye(2), "owners": torch.arange(2)}
    with pytest.raises(ValueError, match=message):
        retrieval_recall(**(good | change))


def test_arrays_and_lists_are_taken_for_tensors() -> None:
    image, owners = np.eye(3), [0, 1, 2]
    assert retrieval_recall(image=image, text=image, owners=owners, ks=(1,)) == {  # type: ignore[arg-type]
        "i2t_R@1": 100.0, "t2i_R@1": 100.0, "mR": 100.0,
    }  # fmt: skip
