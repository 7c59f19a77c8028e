"""What each process computes for its own rows adds up to the loss of the whole batch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rsretrieval.losses.contrastive import contrastive_loss, contrastive_part
from rsretrieval.losses.membership import same_id
from rsretrieval.losses.sigmoid import sigmoid_loss, sigmoid_part
from rsretrieval.losses.similarity import Similarity

IDS, TEXTS = torch.tensor([4, 4, 9, 2, 9, 7, 1]), torch.tensor([0, 1, 1, 2, 3, 3, 5])
ROWS = (slice(0, 3), slice(3, 4), slice(4, 7))


def embeddings() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [
        F.normalize(torch.randn(7, 5, generator=generator, dtype=torch.float64), dim=1).requires_grad_()
        for _ in range(2)
    ]


def parts_of(image: Tensor, text: Tensor) -> list[Similarity]:
    return [Similarity(image, text, IDS, 0.07, rows) for rows in ROWS]


def agree(parts: list[Tensor], whole: Tensor, inputs: list[Tensor]) -> None:
    total = torch.stack(parts).sum()
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(torch.autograd.grad(total, inputs), torch.autograd.grad(whole, inputs))


def test_rows_are_those_of_the_whole() -> None:
    image, text = embeddings()
    whole = Similarity(image, text, IDS, 0.07)
    torch.testing.assert_close(whole.of_images, image @ text.T)
    for name in ("of_images", "of_texts", "same_image"):
        pieces = [getattr(part, name) for part in parts_of(image, text)]
        torch.testing.assert_close(torch.cat(pieces), getattr(whole, name))


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_contrastive_parts_add_up(share: bool, weighted: bool) -> None:
    image, text = embeddings()
    values = torch.linspace(0.5, 1, 7, dtype=torch.float64) if weighted else None
    texts = TEXTS if share else None
    parts = [contrastive_part(part, values, texts) for part in parts_of(image, text)]
    common = {"image": image, "text": text, "image_ids": IDS, "temperature": 0.07}
    agree(parts, contrastive_loss(**common, caption_values=values, text_ids=texts), [image, text])


@pytest.mark.parametrize("share", [False, True])
def test_sigmoid_parts_add_up(share: bool) -> None:
    image, text = embeddings()
    texts = TEXTS if share else None
    parts = [sigmoid_part(part, -3.0, texts) for part in parts_of(image, text)]
    common = {"image": image, "text": text, "image_ids": IDS, "temperature": 0.07, "bias": -3.0}
    agree(parts, sigmoid_loss(**common, text_ids=texts), [image, text])


def test_ids_of_64_bits_are_told_apart() -> None:
    """Ids of texts are hashes, which floating-point numbers would round together."""
    ids = torch.tensor([2**62, 2**62 + 1, 2**62])
    assert same_id(ids, torch.float32).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert same_id(ids, torch.float32, slice(1, 2)).tolist() == [[0, 1, 0]]
