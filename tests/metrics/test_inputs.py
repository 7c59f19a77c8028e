"""What the metrics say to what they cannot take, and that arrays, lists and mixed precisions count as tensors do."""

from typing import Any

import numpy as np
import pytest
import torch

from rsretrieval.metrics import (
    CrossModalRecall,
    HubnessConfig,
    graded_retrieval,
    hub_bias,
    hubness_corrected_recall,
    paired_bootstrap,
    recall_ceiling,
    recall_of_pairs,
    retrieval_recall,
)
from rsretrieval.metrics.classification import confusion_matrix

CONFIG, OWNERS, KS = HubnessConfig("csls", neighbours=2), torch.tensor([0, 1, 2, 2]), (1, 2)
IMAGE = torch.tensor([[1.0, 0.5], [-0.5, 1.0], [0.25, -1.0]])
TEXT = torch.tensor([[1.0, 0.25], [0.5, 1.0], [0.5, -1.0], [1.0, -0.25]])
BANK = (torch.eye(2), -torch.eye(2))


def recall(image: Any = IMAGE, text: Any = TEXT, owners: Any = OWNERS, ks: Any = KS) -> dict[str, float]:
    return retrieval_recall(image=image, text=text, owners=owners, ks=ks)


def graded(image: Any = IMAGE, text: Any = TEXT, owners: Any = OWNERS, ks: Any = KS) -> dict[str, float]:
    return graded_retrieval(image=image, text=text, owners=owners, scenes=[4, 4, 5], ks=ks)


def corrected(
    image: Any = IMAGE, text: Any = TEXT, owners: Any = OWNERS, ks: Any = KS, bank: Any = BANK
) -> dict[str, float]:
    return hubness_corrected_recall(
        image=image, text=text, owners=owners, ks=ks, config=CONFIG, bank=bank, ties="expected"
    )


def of_pairs(image: Any = IMAGE, text: Any = TEXT, owners: Any = OWNERS, ks: Any = KS, ties: Any = "expected") -> dict:
    return recall_of_pairs(image=image, text=text, captions=range(4), images=owners, ks=ks, ties=ties)


def metric(image: Any = IMAGE, text: Any = TEXT, owners: Any = OWNERS, ks: Any = KS) -> dict[str, float]:
    metric = CrossModalRecall(ks)
    metric.update(
        image=image, image_ids=np.arange(3, dtype=np.int32), text=text, text_ids=range(4),
        caption_text_ids=list(range(4)), caption_image_ids=owners,
    )  # fmt: skip
    return metric.compute()


EACH = pytest.mark.parametrize("figures", [recall, graded, corrected, of_pairs, metric])


@EACH
@pytest.mark.parametrize(
    "given",
    [
        {"image": IMAGE.numpy(), "text": TEXT.numpy(), "owners": OWNERS.numpy()},
        {"image": IMAGE.tolist(), "text": TEXT.tolist(), "owners": OWNERS.tolist()},
        {"image": IMAGE.double()},
        {"text": TEXT.half(), "image": IMAGE.double().numpy()},
        {"text": TEXT.bfloat16(), "owners": OWNERS.to(torch.uint8)},
        {"owners": OWNERS.numpy().astype(np.uint16), "ks": np.array(KS)},
        {"owners": OWNERS.to(torch.int16), "ks": torch.tensor(KS)},
        {"ks": dict.fromkeys(KS).keys()},
    ],
)
def test_what_becomes_a_tensor_counts_as_one(figures: Any, given: dict) -> None:
    assert figures(**given) == pytest.approx(figures())
    assert figures(ks=(k for k in (*KS, 1))) == figures()  # read once, and each rank counted once


@EACH
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"owners": OWNERS.float()}, TypeError, "has torch.float32: give integers"),
        ({"owners": OWNERS > 0}, TypeError, "has torch.bool: give integers"),
        ({"owners": ["a", "b", "c", "d"]}, TypeError, "is a list that makes no tensor"),
        ({"image": IMAGE[:, :0], "text": TEXT[:, :0]}, ValueError, r"image \(3, 0\) and text \(4, 0\) do not go"),
        ({"image": IMAGE[:, :1]}, ValueError, r"image \(3, 1\) and text \(4, 2\) do not go together"),
        ({"image": list(IMAGE)}, TypeError, "image is a list that makes no tensor .*torch.stack"),
        ({"image": None}, TypeError, "image is a NoneType"),
        ({"image": IMAGE.to_sparse()}, TypeError, "image is a tensor of torch.float32, torch.sparse_coo: give a dense"),
        ({"text": TEXT * 1j}, TypeError, "text is a tensor of torch.complex64"),
        ({"text": TEXT * torch.nan}, ValueError, "NaN or infinity"),
        ({"image": IMAGE * 1e20, "text": TEXT * 1e20}, ValueError, r"up to 1e\+20 .* divide each row by its norm"),
        ({"image": IMAGE * 1e-20, "text": TEXT * 1e-20}, ValueError, "divide each row by its norm"),
        *[({"ks": ks}, ValueError, "ranks of 1 or more") for ks in (5, "15", ("1",), (True,), (1.5,), (), (0,), None)],
    ],
)  # fmt: skip
def test_what_cannot_be_ranked_is_refused(figures: Any, given: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        figures(**given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ties": "foo"}, "ties='foo' is unknown"),
        ({"owners": OWNERS + 1}, "images run from 1 to 3, the images from 0 to 2"),
        ({"owners": OWNERS[:3]}, r"captions \(4,\) and images \(3,\): give one of each a pair"),
        ({"owners": OWNERS[None]}, r"images \(1, 4\): give \(P,\), the image.s row for each caption"),
        ({"text": torch.cat([TEXT, TEXT[:1]])}, r"1 of 5 captions have no image \(rows \[4\]\)"),
        ({"text": TEXT[:3]}, "captions run from 0 to 3, the captions from 0 to 2"),
    ],
)
def test_pairs_that_are_none(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        of_pairs(**given)


def test_hubs_of_what_becomes_a_tensor() -> None:
    wanted = hub_bias(TEXT, IMAGE, CONFIG)
    for queries in (TEXT.numpy(), TEXT.tolist(), TEXT.half(), TEXT.double()):
        torch.testing.assert_close(hub_bias(queries, IMAGE, CONFIG).float(), wanted)
    assert corrected(bank=(BANK[0].numpy(), BANK[1].double())) == pytest.approx(corrected())
    for queries, message in ((TEXT * torch.nan, "NaN or infinity"), (torch.eye(3), r"queries \(3, 3\) and gallery")):
        with pytest.raises(ValueError, match=message):
            hub_bias(queries, IMAGE, CONFIG)
        with pytest.raises(ValueError, match=message):
            corrected(bank=(queries, queries))


def test_the_metric_before_and_between_batches() -> None:
    metric = CrossModalRecall()
    with pytest.warns(UserWarning, match="before"), pytest.raises(ValueError, match="give one batch or more to update"):
        metric.compute()
    ids = {"image_ids": OWNERS[:3], "text_ids": OWNERS[:3], "caption_text_ids": OWNERS, "caption_image_ids": OWNERS}
    metric.update(image=IMAGE, text=TEXT[:3], **ids)
    for name in ids:
        with pytest.raises(TypeError, match=f"{name} has torch.float32: give integers"):
            metric.update(image=IMAGE, text=TEXT[:3], **(ids | {name: ids[name].float()}))
    with pytest.raises(ValueError, match="a width of 3, those before of 2: reset the metric"):
        metric.update(image=torch.eye(3), text=torch.eye(3), **ids)
    assert len(metric.image) == 1  # what was refused is not there


HITS, OF = {"t2i_R@1": torch.tensor([0.0, 1.0])}, {"t2i_R@1": torch.arange(2)}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"first": [{"t2i_R@1": [0.0, torch.nan]}]}, ValueError, "first has hits of t2i_R@1 from nan .* and no NaN"),
        ({"second": [{"t2i_R@1": [0.0, 100.0]}]}, ValueError, "second has hits .* from 0 to 100: .* not in percent"),
        ({"first": [{"t2i_R@1": [-1, 0]}]}, ValueError, "from -1 to 0"),
        ({"first": HITS}, TypeError, "first is a dict: give a list of mappings"),
        ({"second": [1.0]}, TypeError, "second is a list: give a list of mappings"),
        ({"images": [0, 1]}, TypeError, "images is a list: give a mapping"),
        ({"images": {"t2i_R@1": [0.0, 1.0]}}, TypeError, r"images\['t2i_R@1'\] has torch.float32: give integers"),
        ({"images": {"t2i_R@1": [0, -1]}}, ValueError, r"images\['t2i_R@1'\]=.* counted from 0"),
        ({"images": {"t2i_R@1": []}}, ValueError, "of 1 or more"),
    ],
)
def test_a_bootstrap_of_what_is_no_queries(given: dict, error: type[Exception], message: str) -> None:
    case: dict[str, Any] = {"first": [HITS], "second": [HITS], "images": OF, **given}
    with pytest.raises(error, match=message):
        paired_bootstrap(case["first"], case["second"], case["images"])


def test_a_bootstrap_of_arrays() -> None:
    arrays = [[{name: value.numpy()} for name, value in one.items()] for one in (HITS, {"t2i_R@1": torch.ones(2)})]
    wanted = paired_bootstrap([HITS], [{"t2i_R@1": torch.ones(2)}], OF)
    assert paired_bootstrap(arrays[0], arrays[1], {"t2i_R@1": np.arange(2)}) == wanted  # type: ignore[dict-item,arg-type]


def test_ids_and_classes_are_integers_everywhere() -> None:
    assert recall_ceiling(owners=[0, 1], text_ids=np.array([5, 5]), ks=[1])["t2i_R@1"] == 50  # type: ignore[arg-type]
    for case in (
        lambda: recall_ceiling(owners=OWNERS, text_ids=OWNERS.float()),
        lambda: retrieval_recall(image=IMAGE, text=TEXT, owners=OWNERS, queries="distinct", text_ids=OWNERS.float()),
        lambda: graded_retrieval(image=IMAGE, text=TEXT, owners=OWNERS, scenes=IMAGE[:, 0]),
        lambda: confusion_matrix(OWNERS.float(), OWNERS, 3),
    ):
        with pytest.raises(TypeError, match=r"has torch\.float32: give integers"):
            case()
