"""Counts of every query against a loop over all scores: ties, copies on both sides, and blocks' borders."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rsretrieval.metrics import ranks, retrieval_recall
from rsretrieval.metrics.functional import hit_probability
from rsretrieval.metrics.ranks import count_ranks

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny


def reference(scores: Tensor, own: Tensor) -> Tensor:
    """``(3, Q)`` above, tied foreign and tied own of each row of ``scores``, query by query."""
    counts = []
    for row, is_own in zip(scores.tolist(), own.tolist(), strict=True):
        best = max(score for score, mine in zip(row, is_own, strict=True) if mine)
        ties = [mine for score, mine in zip(row, is_own, strict=True) if score == best]
        counts.append((sum(score > best for score in row), ties.count(False), ties.count(True)))
    return torch.tensor(counts).T


def both_ways(image: Tensor, text: Tensor, captions: Tensor, images: Tensor) -> dict[str, Tensor]:
    """:func:`reference` for images and for captions."""
    scores, own = image @ text.T, torch.zeros(len(image), len(text), dtype=torch.bool)
    own[images, captions] = True
    return {"i2t": reference(scores, own), "t2i": reference(scores.T, own.T)}


@pytest.fixture(scope="module", params=[(1, 1), (3, 4), (5, 2), (1024, 1024)], ids=str)
def blocks(request: pytest.FixtureRequest) -> object:
    """Blocks of few rows, so that small cases have many borders, and the ones in use."""
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_IMAGES", "_TEXTS"), request.param, strict=True):
            patch.setattr(ranks, name, size)
        yield


def case(seed: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Few different rows of small integers, many of them copies; captions of one image or of several."""
    rng = np.random.default_rng(seed)
    images, texts = rng.integers(1, 14), rng.integers(1, 40)
    own = rng.random((images, texts)) < 0.1
    own[np.arange(images), rng.integers(0, texts, images)] = True
    own[rng.integers(0, images, texts), np.arange(texts)] = True
    image, text = (torch.tensor(rng.integers(-2, 3, (n, 2)), dtype=dtype) for n in (images, texts))
    return image, text, *(torch.tensor(axis) for axis in np.nonzero(own)[::-1])


@settings(deadline=None, max_examples=tiny.examples(60))
@given(st.integers(0, 2**31), st.sampled_from([torch.float32, torch.float64]))
def test_counts_of_every_query(blocks: None, seed: int, dtype: torch.dtype) -> None:
    image, text, captions, images = case(seed, dtype)
    wanted = both_ways(image, text, captions, images)
    for way, counts in count_ranks(image, text, captions, images).items():
        assert torch.stack(counts).equal(wanted[way]), way


@settings(deadline=None, max_examples=tiny.examples(60))
@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from(["expected", "optimistic", "pessimistic"]))
def test_what_ends_early_fails_all_the_same(blocks: None, seed: int, enough: int, ties: str) -> None:
    inputs = case(seed)
    whole, ended = count_ranks(*inputs), count_ranks(*inputs, enough)
    for way, exact in whole.items():
        few = exact[0] < enough
        assert torch.stack(ended[way])[:, few].equal(torch.stack(exact)[:, few])
        assert (ended[way][0][~few] >= enough).all()
        for k in range(1, enough + 1):
            assert hit_probability(*ended[way], k, ties).equal(hit_probability(*exact, k, ties))


def test_copies_tie_to_the_last_bit_across_blocks() -> None:
    # Rows drawn with replacement, several blocks of them. In float64, rounded, copies tie and others do not; in float32
    # a pair in millions does by rounding, whereas copies that did not tie would be hundreds.
    generator = torch.Generator().manual_seed(0)
    distinct = torch.nn.functional.normalize(torch.randn(1500, 37, generator=generator), dim=-1)
    image = distinct[torch.randint(1500, (1500,), generator=generator)]
    text = distinct[torch.randint(1500, (3000,), generator=generator)]
    captions, images = torch.arange(3000), torch.arange(3000) % 1500
    counts = count_ranks(image, text, captions, images)
    scores = (image.double() @ text.double().T).mul(1e12).round()
    owned = torch.arange(1500)[:, None] == images
    for way, s, own in (("i2t", scores, owned), ("t2i", scores.T, owned.T)):
        best = s.masked_fill(~own, -torch.inf).amax(1, keepdim=True)
        wanted = torch.stack([(s > best).sum(1), ((s == best) & ~own).sum(1), ((s == best) & own).sum(1)])
        assert (wanted[1] > 0).sum() > 500
        assert (torch.stack(counts[way]) != wanted).sum() <= 6


def test_a_caption_of_more_images_than_a_block_has() -> None:
    image = torch.nn.functional.normalize(torch.randn(1500, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    everywhere = image[:1].expand(1500, -1)
    counts = count_ranks(image, everywhere, torch.arange(1500), torch.arange(1500))
    assert counts["i2t"][0].eq(0).all()
    assert counts["i2t"][1].eq(1499).all()
    assert counts["t2i"][0].sort().values.equal(torch.arange(1500))  # each image is one caption's own


def test_minus_zero_is_zero() -> None:
    text = torch.tensor([[0.0, 1.0], [-0.0, 1.0]])
    greater, foreign, own = count_ranks(torch.eye(2), text, torch.arange(2), torch.arange(2))["i2t"]
    assert (greater.tolist(), foreign.tolist(), own.tolist()) == ([0, 0], [1, 1], [1, 1])


def test_gradients_and_autocast_change_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(700, 8, generator=generator), torch.randn(700, 8, generator=generator)
    plain = retrieval_recall(image=image, text=text, owners=torch.arange(700))
    with torch.autocast("cpu", torch.bfloat16):
        assert retrieval_recall(image=image.requires_grad_(), text=text, owners=torch.arange(700)) == plain
    assert image.grad is None
