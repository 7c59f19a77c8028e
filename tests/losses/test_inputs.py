"""What the losses say to what they cannot take, and that they take every precision, within autocast too."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rsretrieval.losses import (
    LOSSES,
    Objective,
    ObjectiveConfig,
    affiliation_loss,
    contrastive_loss,
    hardest_negatives,
    register_loss,
    scene_adaptive_loss,
    sigmoid_loss,
    triplet_loss,
)
from rsretrieval.losses.membership import same_id
from rsretrieval.types import PairedEmbeddings

COUNT = 6
IDS, VALUES = torch.tensor([0, 0, 1, 2, 3, 3]), torch.linspace(0.5, 1, COUNT)
WEIGHTS = {"inter_weight": 0.9, "intra_weight": 1.1, "margin": 0.95}
ID_FIELDS = ("image_ids", "text_ids", "scenes", "caption_values")
TAU = {"temperature": 0.07}
CASES: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "contrastive": (contrastive_loss, {**TAU, "image_ids": IDS, "text_ids": IDS, "caption_values": VALUES}),
    "affiliation": (affiliation_loss, {**TAU, "scenes": IDS}),
    "scene_adaptive": (scene_adaptive_loss, {**TAU, "image_ids": IDS, "scenes": IDS, **WEIGHTS}),
    "sigmoid": (sigmoid_loss, {**TAU, "image_ids": IDS, "text_ids": IDS, "bias": -3.0}),
    "triplet": (triplet_loss, {"image_ids": IDS, "margin": 0.2, "hardest": True}),
}


def embeddings(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    image, text = (F.normalize(torch.randn(COUNT, 4, generator=generator), dim=1).to(dtype) for _ in range(2))
    return image.requires_grad_(), text.requires_grad_()


def value_and_gradients(name: str, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    (image, text), (loss, options) = embeddings(dtype), CASES[name]
    value = loss(image=image, text=text, **options)
    return [value, *torch.autograd.grad(value, (image, text))]


@pytest.mark.parametrize("name", ["contrastive", "scene_adaptive", "sigmoid"])
def test_autocast_changes_nothing(name: str) -> None:
    wanted = value_and_gradients(name)
    with torch.autocast("cpu", torch.bfloat16):
        image, text = embeddings()
        loss, options = CASES[name]
        value = loss(image=image, text=text, **options)
        assert torch.equal(value, wanted[0])
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(value, (image, text)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_every_precision_is_the_embeddings_own(name: str, dtype: torch.dtype) -> None:
    for got, wanted in zip(value_and_gradients(name, dtype), value_and_gradients(name), strict=True):
        assert got.dtype == dtype
        torch.testing.assert_close(got.float(), wanted, rtol=0.05, atol=0.02)


def test_a_half_tells_many_images_apart() -> None:
    assert same_id(torch.arange(300), torch.bfloat16).sum() == 300
    similarity = torch.eye(3, dtype=torch.float16) - 0.5
    assert hardest_negatives(similarity, torch.tensor([7, 7, 8])).tolist() == [2, 2, 0]


WRONG: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"image": [[1.0, 0.0]]}, TypeError, "image is a list: give a tensor"),
    ({"text": np.eye(COUNT)}, TypeError, "text is a ndarray: give a tensor"),
    ({"image": torch.ones(COUNT, 3)}, ValueError, r"image \(6, 3\) and text \(6, 4\) are no batch of pairs"),
    ({"image": torch.ones(5, 4)}, ValueError, r"image \(5, 4\) and text \(6, 4\)"),
    ({"image": torch.ones(0, 4), "text": torch.ones(0, 4)}, ValueError, r"\(0, 4\) are no batch .* 1 or more each"),
    ({"image": torch.ones(4), "text": torch.ones(4)}, ValueError, r"image \(4,\) and text \(4,\)"),
    ({"image": torch.ones(COUNT, 4).half()}, ValueError, "image is torch.float16 and text torch.float32: give both in"),
    ({"image": torch.ones(COUNT, 4).long(), "text": torch.ones(COUNT, 4).long()}, ValueError, "one floating-point"),
]


@pytest.mark.parametrize(("change", "error", "message"), WRONG)
@pytest.mark.parametrize("name", CASES)
def test_embeddings_that_are_no_pairs(name: str, change: dict, error: type[Exception], message: str) -> None:
    loss, options = CASES[name]
    image, text = embeddings()
    with pytest.raises(error, match=message):
        loss(**{"image": image, "text": text, **options, **change})


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name, (_, options) in CASES.items()
        for field in ("temperature", *ID_FIELDS)
        if field in options
    ],
)
def test_other_arguments_that_do_not_fit(name: str, field: str) -> None:
    (loss, options), (image, text) = CASES[name], embeddings()
    if field == "temperature":
        wrong = [(number, ValueError, f"temperature={number}: give") for number in (0.0, -0.07, 0, float("nan"))]
    else:
        shapes = rf"{field} \(5,\) and image \(6, 4\) differ in length"
        wrong = [(options[field][:5], ValueError, shapes), (options[field].tolist(), TypeError, f"{field} is a list")]
    for value, error, message in wrong:
        with pytest.raises(error, match=message):
            loss(image=image, text=text, **{**options, field: value})


def pairs() -> PairedEmbeddings:
    return PairedEmbeddings(*embeddings(), IDS, IDS, IDS, VALUES)


def test_pairs_of_other_lengths_are_named_by_the_objective() -> None:
    with pytest.raises(ValueError, match=r"scenes \(5,\) and image \(6, 4\) differ in length"):
        Objective(ObjectiveConfig())(pairs()._replace(scenes=IDS[:5]), slice(0, COUNT), {"affiliation": 1.0}, 0)


@pytest.fixture
def _restored_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))


@pytest.mark.usefixtures("_restored_registry")
@pytest.mark.parametrize("term", [lambda pairs: pairs, lambda pairs, context, power: pairs, lambda: None, 3])
def test_a_loss_with_other_arguments_is_refused_by_its_name(term: Any) -> None:
    with pytest.raises(
        TypeError, match=r"the loss 'mine' cannot be called with pairs and context .*: write a function"
    ):
        register_loss("mine")(term)
    assert "mine" not in LOSSES


@pytest.mark.usefixtures("_restored_registry")
@pytest.mark.parametrize(("value", "what"), [(0.5, "float"), (None, "NoneType"), (torch.ones(2), "tensor of shape")])
def test_a_loss_that_returns_no_scalar_is_named(value: object, what: str) -> None:
    register_loss("mine")(lambda pairs, context, power=2: value)  # type: ignore[arg-type,return-value]
    with pytest.raises(ValueError, match=rf"the loss 'mine' returned a {what}.*: return a scalar"):
        Objective(ObjectiveConfig())(pairs(), slice(0, COUNT), {"mine": 1.0}, 0)
