"""Losses against slow references written from the method's formulas, sample by sample: values and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rsretrieval.losses import (
    affiliation_loss,
    contrastive_loss,
    hardest_negatives,
    scene_adaptive_loss,
    scene_weight,
    sigmoid_loss,
    triplet_loss,
)

EPSILON, TAU = 6e-5, 0.07


def pairs(seed: int, count: int = 9) -> tuple[Tensor, Tensor, list[int], list[int], list[float]]:
    """Embeddings with negative cosines among them, images with several captions, scenes with several images."""
    made = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(count, 5, generator=made, dtype=torch.float64), dim=1) for _ in range(2))
    ids = torch.randint(count - 2, (count,), generator=made).tolist()
    values = torch.rand(count, generator=made, dtype=torch.float64).tolist()
    return image.requires_grad_(), text.requires_grad_(), ids, [i % 3 for i in ids], values


def cross_entropy(scores: list[Tensor], targets: list[float]) -> Tensor:
    total = torch.stack(scores).logsumexp(0)
    return sum(t / sum(targets) * (total - s) for s, t in zip(scores, targets, strict=True))


def slow_contrastive(image: Tensor, text: Tensor, ids: list[int], values: list[float]) -> Tensor:
    rows = range(len(ids))
    s = [[image[i] @ text[j] / TAU * values[j] for j in rows] for i in rows]
    targets = [[float(ids[i] == ids[j]) + EPSILON for j in rows] for i in rows]
    forth = sum(cross_entropy(s[i], targets[i]) for i in rows)
    back = sum(cross_entropy([s[i][j] for i in rows], targets[j]) for j in rows)
    return (forth + back) / (2 * len(ids))


def slow_affiliation(image: Tensor, text: Tensor, scenes: list[int], *, leave_one_out: bool = False) -> Tensor:
    rows = range(len(scenes))
    with_centre = [i for i in rows if not leave_one_out or scenes.count(scenes[i]) > 1]

    def centre(of: Tensor, i: int) -> Tensor:
        weights = [float(scenes[i] == y and not (leave_one_out and i == j)) + EPSILON for j, y in enumerate(scenes)]
        return sum(w * e for w, e in zip(weights, of, strict=True)) / sum(weights)

    total = torch.zeros((), dtype=image.dtype)
    for i in with_centre:
        to_text = torch.stack([image[i] @ centre(text, j) / TAU for j in rows])
        from_image = torch.stack([centre(image, i) @ text[j] / TAU for j in rows])
        total = total - to_text.log_softmax(0)[i] - from_image.log_softmax(0)[i]
    return total / (2 * len(with_centre))


def slow_scene(
    image: Tensor, text: Tensor, ids: list[int], scenes: list[int], inter: float, intra: float, margin: float
) -> Tensor:
    rows = range(len(ids))

    def side(query: Tensor, own: Tensor) -> Tensor:
        others = [[j for j in rows if ids[j] != ids[i]] for i in rows]
        hardest = [max(others[i], key=lambda j, i=i: float(query[i] @ own[j])) for i in rows]
        total = torch.zeros((), dtype=image.dtype)
        for i in rows:
            q = [own[i] @ own[hardest[j]] / TAU for j in rows]
            e = [torch.where(x < margin, torch.zeros_like(x), x).exp() for x in q]
            weights = [intra if scenes[i] == scenes[hardest[j]] else inter for j in rows]
            total = total + sum(x * w for x, w in zip(e, weights, strict=True)) / (sum(e) + EPSILON)
        return total / len(ids)

    return (side(image, text) + side(text, image)) / 2


def slow_triplet(image: Tensor, text: Tensor, ids: list[int], margin: float, hardest: bool) -> Tensor:
    rows = range(len(image))
    total = torch.zeros((), dtype=image.dtype)
    for i in rows:
        for query, other in ((image, text), (text, image)):
            costs = [(margin + query[i] @ other[j] - image[i] @ text[i]).clamp(min=0) for j in rows if ids[j] != ids[i]]
            total = total + (max(costs, key=float) if hardest else sum(costs))
    return total


def slow_sigmoid(image: Tensor, text: Tensor, ids: list[int], bias: float) -> Tensor:
    rows = range(len(ids))
    total = torch.zeros((), dtype=image.dtype)
    for i in rows:
        for j in rows:
            score = image[i] @ text[j] / TAU + bias
            total = total + (1 + (-score if ids[i] == ids[j] else score).exp()).log()
    return total / len(ids)


def agree(got: Tensor, wanted: Tensor, image: Tensor, text: Tensor) -> None:
    torch.testing.assert_close(got, wanted)
    gradients = (torch.autograd.grad(value, (image, text)) for value in (got, wanted))
    for ours, reference in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, reference)


@pytest.mark.parametrize("seed", range(3))
def test_contrastive_plain_and_weighted(seed: int) -> None:
    image, text, ids, _, values = pairs(seed)
    common = {"image": image, "text": text, "image_ids": torch.tensor(ids), "temperature": TAU}
    agree(contrastive_loss(**common), slow_contrastive(image, text, ids, [1.0] * len(ids)), image, text)
    weighted = contrastive_loss(**common, caption_values=torch.tensor(values, dtype=torch.float64))
    agree(weighted, slow_contrastive(image, text, ids, values), image, text)


def test_a_shared_caption_is_a_positive_of_each_of_its_images() -> None:
    image, text, *_ = pairs(0)
    count = len(image)
    common = {"image": image, "text": text, "temperature": TAU}
    shared = contrastive_loss(**common, image_ids=torch.arange(count), text_ids=torch.zeros(count).long())
    uniform = -sum(s.log_softmax(1).mean() for s in (image @ text.T / TAU, text @ image.T / TAU)) / 2
    agree(shared, uniform, image, text)
    apart = contrastive_loss(**common, image_ids=torch.arange(count), text_ids=torch.arange(count))
    torch.testing.assert_close(apart, contrastive_loss(**common, image_ids=torch.arange(count)))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_sigmoid(seed: int, bias: float) -> None:
    image, text, ids, *_ = pairs(seed)
    assert len(set(ids)) < len(ids)  # captions of one image are all positives
    got = sigmoid_loss(image=image, text=text, image_ids=torch.tensor(ids), temperature=TAU, bias=bias)
    agree(got, slow_sigmoid(image, text, ids, bias), image, text)


def test_sigmoid_by_hand() -> None:
    """Two images, three captions, the first two of one image; cosines of 1, 0 and -1; temperature 1/2, bias 1."""
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    # Scores: 3 1 -1 / 3 1 -1 / 1 3 1; positives are the four at the upper left and the last.
    costs = [-3, -1, -1, -3, -1, -1, 1, 3, -1]
    wanted = sum(math.log(1 + math.exp(cost)) for cost in costs) / 3
    common = {"image": image, "text": text, "temperature": 0.5, "bias": 1.0}
    assert float(sigmoid_loss(**common, image_ids=torch.tensor([4, 4, 9]))) == pytest.approx(wanted)
    # With the second and the third caption alike, those of the other image are positives too.
    shared = wanted + sum(math.log(1 + math.exp(-s)) - math.log(1 + math.exp(s)) for s in (3, -1)) / 3
    got = sigmoid_loss(**common, image_ids=torch.tensor([4, 4, 9]), text_ids=torch.tensor([0, 1, 1]))
    assert float(got) == pytest.approx(shared)


@pytest.mark.parametrize("seed", range(3))
def test_affiliation(seed: int) -> None:
    image, text, _, scenes, _ = pairs(seed)
    got = affiliation_loss(image=image, text=text, scenes=torch.tensor(scenes), temperature=TAU)
    agree(got, slow_affiliation(image, text, scenes), image, text)
    scenes[0] = 99  # alone
    got = affiliation_loss(image=image, text=text, scenes=torch.tensor(scenes), temperature=TAU, leave_one_out=True)
    agree(got, slow_affiliation(image, text, scenes, leave_one_out=True), image, text)
    nobody = torch.arange(len(scenes))
    assert affiliation_loss(image=image, text=text, scenes=nobody, temperature=TAU, leave_one_out=True) == 0


@pytest.mark.parametrize("epoch", [0, 1, 5, 9])
@pytest.mark.parametrize(("margin", "beta_inter"), [(0.95, -0.002), (1.15, -0.0015)])
def test_scene_adaptive(epoch: int, margin: float, beta_inter: float) -> None:
    image, text, ids, scenes, _ = pairs(epoch)
    got = scene_adaptive_loss(
        image=image,
        text=text,
        image_ids=torch.tensor(ids),
        scenes=torch.tensor(scenes),
        temperature=TAU,
        inter_weight=scene_weight(beta_inter, epoch),
        intra_weight=scene_weight(0.02, epoch),
        margin=margin,
    )
    wanted = slow_scene(image, text, ids, scenes, math.exp(beta_inter * epoch), math.exp(0.02 * epoch), margin)
    agree(got, wanted, image, text)


@pytest.mark.parametrize("own_images", [False, True])
@pytest.mark.parametrize("hardest", [False, True])
def test_triplet(hardest: bool, own_images: bool) -> None:
    """Another caption of the same image is no negative; without ids every pair has an image of its own."""
    image, text, ids, *_ = pairs(7)
    assert len(set(ids)) < len(ids)
    ids = list(range(len(ids))) if own_images else ids
    known = None if own_images else torch.tensor(ids)
    got = triplet_loss(image=image, text=text, margin=0.2, hardest=hardest, image_ids=known)
    agree(got, slow_triplet(image, text, ids, 0.2, hardest), image, text)


def test_captions_of_one_image_cost_nothing() -> None:
    """Two captions of the first image and one of the second, worked by hand: only the margin to the other image."""
    image = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    values = [triplet_loss(image=image, text=image, margin=0.2, hardest=hardest, image_ids=torch.tensor([4, 4, 9]))
              for hardest in (False, True)]  # fmt: skip
    assert [float(value) for value in values] == [0.0, 0.0]
    # As three images the first two violate the margin by 0.2 each, in both directions.
    assert float(triplet_loss(image=image, text=image, margin=0.2, hardest=True)) == pytest.approx(0.8)


def test_hardest_negatives_of_negative_cosines_are_no_positives() -> None:
    similarity = torch.tensor([[0.9, -0.8, -0.1], [-0.8, 0.9, -0.2], [-0.3, -0.4, -0.9]])
    assert hardest_negatives(similarity, torch.tensor([5, 6, 7])).tolist() == [2, 2, 0]
    assert hardest_negatives(similarity, torch.tensor([5, 6, 7]), exclude_positives=False).tolist() == [0, 1, 0]
    with pytest.raises(TypeError, match="similarity is a list: give a tensor"):
        hardest_negatives([[1.0]], torch.tensor([5]))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"similarity \(3, 3\) and image_ids \(2,\) are not of a batch of pairs"):
        hardest_negatives(similarity, torch.tensor([5, 6]))


@pytest.mark.parametrize("margin", [0.95, 1.0])
def test_scene_adaptive_by_hand(margin: float) -> None:
    """The docstring's example: Q is (0, 1), of which the second, not below the margin, counts; and 6e-5."""
    eye, ids = torch.eye(2, dtype=torch.float64), torch.arange(2)
    loss = scene_adaptive_loss(
        image=eye, text=eye, image_ids=ids, scenes=ids,
        temperature=1.0, inter_weight=0.0, intra_weight=1.0, margin=margin,
    )  # fmt: skip
    assert float(loss) == pytest.approx(math.e / (1 + math.e + EPSILON), abs=1e-12)
