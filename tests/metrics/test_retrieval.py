"""The metric equals the function, whatever the batches, and counts nothing twice."""

import importlib
import sys

import pytest
import torch
from torch import Tensor

import rsretrieval.metrics
from rsretrieval.metrics import (
    TIES,
    CrossModalRecall,
    HubnessConfig,
    SplitEmbeddings,
    hubness_corrected_recall,
    retrieval_recall,
)
from rsretrieval.types import text_ids

TEXTS = ["a pond", "a pier", "a pond", "a road", "two ships", "a pier"]
OWNERS = torch.tensor([0, 0, 1, 2, 3, 3])


def add(metric: CrossModalRecall, images: list[int], image: Tensor, text: dict[str, Tensor]) -> None:
    captions = [j for j, owner in enumerate(OWNERS.tolist()) if owner in images]
    fresh = sorted({TEXTS[j] for j in captions})
    metric.update(
        image=image[images],
        image_ids=torch.tensor(images) + 100,
        text=torch.stack([text[t] for t in fresh]),
        text_ids=text_ids(fresh),
        caption_text_ids=text_ids([TEXTS[j] for j in captions]),
        caption_image_ids=OWNERS[captions] + 100,
    )


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[2, 0], [3, 1]], [[3], [1], [0], [2]]])
def test_metric_equals_function(batches: list[list[int]]) -> None:
    torch.manual_seed(0)
    image, text = torch.randn(4, 5), {t: torch.randn(5) for t in TEXTS}
    metric = CrossModalRecall(ks=(1, 2))
    for batch in batches:
        add(metric, batch, image, text)
    wanted = retrieval_recall(image=image, text=torch.stack([text[t] for t in TEXTS]), owners=OWNERS, ks=(1, 2))
    assert metric.compute() == pytest.approx(wanted)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[3], [1], [0], [2]]])
def test_distinct_captions_reach_the_functions(batches: list[list[int]]) -> None:
    torch.manual_seed(0)
    image, text = torch.randn(4, 5), {t: torch.randn(5) for t in TEXTS}
    metric = CrossModalRecall(ks=(1, 2), queries="distinct")
    for batch in batches:
        add(metric, batch, image, text)
    stacked, config = torch.stack([text[t] for t in TEXTS]), HubnessConfig("csls", neighbours=2)
    case = {"image": image, "text": stacked, "owners": OWNERS, "ks": (1, 2)}
    assert metric.compute() == pytest.approx(retrieval_recall(**case, queries="distinct"))
    assert metric.compute() != pytest.approx(retrieval_recall(**case))
    case |= {"config": config, "ties": "expected"}
    wanted = hubness_corrected_recall(**case, distinct_ids=text_ids(TEXTS))
    assert metric.hubness_corrected(config) == pytest.approx(wanted)
    # The hubs are those of the distinct captions: more copies of one of them change nothing.
    copies = case | {"text": stacked[[0, *range(6)]], "owners": OWNERS[[0, *range(6)]]}
    ids = text_ids([TEXTS[0], *TEXTS])
    assert hubness_corrected_recall(**copies, distinct_ids=ids) == pytest.approx(wanted)


def test_text_ids_tell_texts_apart() -> None:
    ids = text_ids(TEXTS)
    assert ids[0] == ids[2] != ids[1]
    assert len(ids.unique()) == 4


def test_what_torchmetrics_and_its_callers_ask() -> None:
    assert CrossModalRecall.higher_is_better is True
    assert CrossModalRecall.is_differentiable is False


@pytest.mark.parametrize("ties", TIES)
def test_ties_reach_the_function(ties: str) -> None:
    image, text = torch.eye(4)[:, :1].repeat(1, 5), {t: torch.ones(5) for t in TEXTS}
    metric = CrossModalRecall(ks=(1,), ties=ties)
    add(metric, [0, 1, 2, 3], image, text)
    stacked = torch.stack([text[t] for t in TEXTS])
    assert metric.compute() == retrieval_recall(image=image, text=stacked, owners=OWNERS, ks=(1,), ties=ties)


def test_merged_has_each_image_and_text_once() -> None:
    torch.manual_seed(0)
    image, text = torch.randn(4, 5), {t: torch.randn(5) for t in TEXTS}
    metric = CrossModalRecall()
    for batch in ([3, 1], [0, 1, 2]):  # image 1 comes twice, as the sampler of two processes pads
        add(metric, batch, image, text)
    split = metric.merged()
    assert isinstance(split, SplitEmbeddings)
    assert split.image_ids.tolist() == [100, 101, 102, 103]
    assert torch.equal(split.image, image)
    assert len(split.text) == len(set(TEXTS))
    assert len(split.caption_rows) == len(split.owners) == len(TEXTS) + 1
    by_owner = {
        (owner, tuple(split.text[row].tolist()))
        for owner, row in zip(split.owners.tolist(), split.caption_rows, strict=True)
    }
    assert by_owner == {(owner, tuple(text[t].tolist())) for owner, t in zip(OWNERS.tolist(), TEXTS, strict=True)}


def test_equal_images_have_the_embedding_of_the_first() -> None:
    """Images 0 and 2 are equal, and batches of two and of one rounded them differently: 0.8 and 0.9 beside 1's 0.85.

    The text of each is the first axis. Tied, images 0 and 2 rank behind 1 at 0.85: text query 1 succeeds at once, 0 and
    2 never at rank 1 and each every second time within 2. Untied, image 2 would be first: another figure.
    """
    axis = torch.tensor([[1.0, 0.0]])
    batches = [([0, 1], [0.8, 0.85], [-5, 6]), ([2], [0.9], [-5])]

    def recall(batches: list, *, keyed: bool = True) -> CrossModalRecall:
        metric = CrossModalRecall(ks=(1, 2))
        for ids, cosines, keys in batches:
            metric.update(
                image=torch.tensor([[cosine, (1 - cosine**2) ** 0.5] for cosine in cosines]),
                image_ids=torch.tensor(ids),
                text=axis if 0 in ids else torch.zeros(0, 2),
                text_ids=torch.tensor([7] if 0 in ids else []).long(),
                caption_text_ids=torch.tensor([7] * len(ids)),
                caption_image_ids=torch.tensor(ids),
                image_keys=torch.tensor(keys) if keyed else None,
            )
        return metric

    tied = recall(batches)
    assert tied.merged().image[0].equal(tied.merged().image[2])
    assert tied.merged().image[2, 0] == pytest.approx(0.8)
    figures = tied.compute()
    # One text describes all three images; its three captions are three queries.
    assert figures["t2i_R@1"] == pytest.approx(100 * (0 + 1 + 0) / 3)
    assert figures["t2i_R@2"] == pytest.approx(100 * (0.5 + 1 + 0.5) / 3)
    other_ranks_first = recall(batches[::-1])  # what came first, whichever process had it
    assert other_ranks_first.merged().image.equal(tied.merged().image)
    untied = recall(batches, keyed=False)
    assert untied.compute()["t2i_R@2"] == pytest.approx(100 * (0 + 1 + 1) / 3)


GOOD = {
    "image": torch.eye(2), "image_ids": torch.arange(2), "text": torch.eye(2), "text_ids": torch.tensor([5, 6]),
    "caption_text_ids": torch.tensor([5, 6, 6]), "caption_image_ids": torch.tensor([0, 0, 1]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": torch.arange(3)}, r"image \(2, 2\) and image_ids \(3,\) do not match"),
        ({"image_keys": torch.arange(1)}, r"image \(2, 2\) and image_keys \(1,\) do not match"),
        ({"text_ids": torch.arange(1)}, r"text \(2, 2\) and text_ids \(1,\) do not match"),
        ({"caption_image_ids": torch.arange(2)}, r"caption_text_ids \(3,\) and caption_image_ids \(2,\) do not match"),
        ({"caption_text_ids": torch.tensor([5, 6, 7])}, r"1 of 3 captions belong to text ids that .* such as 7"),
        ({"caption_image_ids": torch.tensor([0, -1, 1])}, r"1 of 3 captions belong to image ids that .* as -1"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(change: dict, message: str) -> None:
    metric = CrossModalRecall()
    with pytest.raises(ValueError, match=message):
        metric.update(**(GOOD | change)) or metric.merged()


@pytest.mark.parametrize("settings", [{"ks": (0,)}, {"ks": ()}, {"ties": "lucky"}, {"queries": "some"}])
def test_wrong_settings_are_refused_before_anything_is_embedded(settings: dict) -> None:
    with pytest.raises(ValueError, match=r"ranks of 1 or more|possible are"):
        CrossModalRecall(**settings)


def test_nothing_but_the_class_needs_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rsretrieval, "metrics", rsretrieval.metrics)  # restored afterwards, like the modules
    for name in [name for name in sys.modules if name.startswith("rsretrieval.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == "torchmetrics"]:
        monkeypatch.setitem(sys.modules, name, None)  # importing it now fails
    metrics = importlib.import_module("rsretrieval.metrics")
    assert metrics.retrieval_recall(image=torch.eye(2), text=torch.eye(2), owners=torch.arange(2))["mR"] == 100
    assert metrics.HubnessConfig is not None
    with pytest.raises(ImportError, match="torchmetrics"):
        metrics.CrossModalRecall  # noqa: B018 - loads it
