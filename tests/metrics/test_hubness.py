"""Hubness correction against a slow reference, query by query."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from rsretrieval.metrics import (
    CrossModalRecall,
    HubnessConfig,
    hub_bias,
    hubness_corrected_recall,
    retrieval_recall,
)
from rsretrieval.metrics.hubness import HUBNESS_METHODS
from rsretrieval.types import text_ids


def slow_bias(queries: torch.Tensor, item: torch.Tensor, config: HubnessConfig) -> float:
    scores = [float(query @ item) for query in queries]
    if config.method == "csls":
        return sum(sorted(scores)[-config.neighbours :]) / config.neighbours / 2
    bias = config.temperature * math.log(sum(math.exp(score / config.temperature) for score in scores))
    return bias / 2 if config.method == "dual_softmax" else bias


@pytest.mark.parametrize("banked", [False, True])
@pytest.mark.parametrize("method", HUBNESS_METHODS)
def test_against_loops(method: str, banked: bool) -> None:
    torch.manual_seed(0)
    image = normalize(torch.randn(12, 8) + torch.randn(8), dim=1)  # with a common direction: there are hubs
    owners = torch.arange(12).repeat_interleave(3)
    text = normalize(image[owners] + torch.randn(36, 8), dim=1)
    config = HubnessConfig(method, neighbours=4)
    bank = (normalize(torch.randn(9, 8), dim=1), normalize(torch.randn(7, 8), dim=1)) if banked else None
    got = hubness_corrected_recall(
        image=image, text=text, owners=owners, config=config, bank=bank, ks=(1, 3), ties="expected"
    )
    banks = dict(zip(("i2t", "t2i"), bank or (image, text), strict=True))
    hits: dict[str, list[float]] = {name: [] for name in got if name != "mR"}
    for way, queries, gallery in (("i2t", image, text), ("t2i", text, image)):
        biases = [slow_bias(banks[way], item, config) for item in gallery]
        for number, query in enumerate(queries):
            order = sorted(range(len(gallery)), key=lambda g: biases[g] - float(query @ gallery[g]))
            own = {g for g in range(len(gallery)) if (owners[g] == number if way == "i2t" else owners[number] == g)}
            for k in (1, 3):
                hits[f"{way}_R@{k}"].append(100.0 * bool(own & set(order[:k])))
    assert {k: v for k, v in got.items() if k != "mR"} == pytest.approx(
        {name: sum(values) / len(values) for name, values in hits.items()}
    )
    assert got["mR"] == pytest.approx(sum(v for k, v in got.items() if k != "mR") / 4)
    assert got != retrieval_recall(image=image, text=text, owners=owners, ks=(1, 3))


def test_a_hub_gives_way() -> None:
    """Worked by hand: text 0 is 0.8 from image 0 and 0.7 from image 1, text 1 is 0.1 and 0.6, so it is never found."""
    image, text = torch.eye(2), torch.tensor([[0.8, 0.7], [0.1, 0.6]])
    owners = torch.arange(2)
    plain = retrieval_recall(image=image, text=text, owners=owners, ks=(1,))
    assert plain["i2t_R@1"] == 50
    config = HubnessConfig("csls", neighbours=2)  # biases 0.375 and 0.175: image 1 scores 0.325 and 0.425
    assert hub_bias(image, text, config).tolist() == pytest.approx([0.375, 0.175])
    got = hubness_corrected_recall(image=image, text=text, owners=owners, config=config, ks=(1,), ties="expected")
    assert got["i2t_R@1"] == 100


def test_equal_captions_stay_tied() -> None:
    torch.manual_seed(1)
    image = normalize(torch.randn(4, 8), dim=1)
    text = normalize(torch.randn(1, 8), dim=1).repeat(4, 1)
    got = hubness_corrected_recall(
        image=image, text=text, owners=torch.arange(4), config=HubnessConfig(), ks=(1,), ties="expected"
    )
    assert got["i2t_R@1"] == pytest.approx(25)


def test_the_metric() -> None:
    metric = CrossModalRecall(ks=(1,))
    ids = text_ids(["a", "b"])
    metric.update(
        image=torch.eye(2), image_ids=torch.arange(2), text=torch.eye(2), text_ids=ids,
        caption_text_ids=ids, caption_image_ids=torch.arange(2),
    )  # fmt: skip
    assert metric.hubness_corrected(HubnessConfig()) == metric.compute()
    bank = (torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    corrected = metric.hubness_corrected(HubnessConfig(temperature=1.0), bank)
    # Worked by hand: text 1 loses 1, so that image 1 scores 0 - 0 and 1 - 1: a tie; the other direction likewise.
    assert corrected == {"i2t_R@1": 75, "t2i_R@1": 75, "mR": 75}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"method": "x"},
            r"^unknown hubness correction 'x'; known are \['csls', 'dual_softmax', 'inverted_softmax'\]$",
        ),
        ({"method": "dual_sofmax"}, r"did you mean 'dual_softmax'"),
        ({"temperature": 0.0}, r"^temperature=0\.0: give a finite number above 0$"),
        ({"temperature": math.nan}, r"^temperature=nan: "),
        ({"neighbours": 0}, r"^neighbours=0: give a number of queries, 1 or more$"),
        ({"queries": "some"}, r"^queries='some': give one of \['all', 'bank'\]$"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HubnessConfig(**settings)


def test_no_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="there are no queries to estimate hubs from"):
        hub_bias(torch.zeros(0, 2), torch.eye(2), HubnessConfig())


def test_more_neighbours_than_queries_are_all_of_them() -> None:
    gallery = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        hub_bias(torch.eye(2), gallery, HubnessConfig("csls", neighbours=99)), gallery.mean(1) / 2
    )
