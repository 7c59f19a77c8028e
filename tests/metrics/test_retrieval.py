"""The metric equals the function, whatever the batches, and counts nothing twice."""

import pytest
import torch

from rsretrieval.metrics import RetrievalRecall, retrieval_recall
from rsretrieval.types import text_ids

TEXTS = ["a pond", "a pier", "a pond", "a road", "two ships", "a pier"]
OWNERS = torch.tensor([0, 0, 1, 2, 3, 3])


def add(metric: RetrievalRecall, images: list[int], image: torch.Tensor, text: dict[str, torch.Tensor]) -> None:
    mine = [j for j, owner in enumerate(OWNERS.tolist()) if owner in images]
    fresh = sorted({TEXTS[j] for j in mine})
    metric.update(
        image=image[images],
        image_ids=torch.tensor(images) + 100,
        text=torch.stack([text[t] for t in fresh]),
        text_ids=text_ids(fresh),
        captions=torch.stack([text_ids([TEXTS[j] for j in mine]), OWNERS[mine] + 100], dim=1),
    )


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[2, 0], [3, 1]], [[3], [1], [0], [2]]])
def test_metric_equals_function(batches: list[list[int]]) -> None:
    torch.manual_seed(0)
    image, text = torch.randn(4, 5), {t: torch.randn(5) for t in TEXTS}
    metric = RetrievalRecall(ks=(1, 2))
    for batch in batches:
        add(metric, batch, image, text)
    wanted = retrieval_recall(image=image, text=torch.stack([text[t] for t in TEXTS]), owners=OWNERS, ks=(1, 2))
    assert metric.compute() == pytest.approx(wanted)


def test_text_ids_tell_texts_apart() -> None:
    ids = text_ids(TEXTS)
    assert ids[0] == ids[2] != ids[1]
    assert len(ids.unique()) == 4
