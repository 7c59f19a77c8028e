"""The paired bootstrap: against a loop over samples, and what must hold of any difference."""

import pytest
import torch
from torch import Tensor

from rsretrieval.metrics import paired_bootstrap

KS = (1, 5)


def split(images: int, captions: int) -> dict[str, Tensor]:
    """The image of each query."""
    own = {"i2t": torch.arange(images), "t2i": torch.arange(images).repeat_interleave(captions)}
    return {f"{way}_R@{k}": rows for way, rows in own.items() for k in KS}


def model(images: dict[str, Tensor], share: float, seed: int) -> dict[str, Tensor]:
    """Queries that succeed by chance."""
    generator = torch.Generator().manual_seed(seed)
    return {name: (torch.rand(len(rows), generator=generator) < share).double() for name, rows in images.items()}


def test_the_interval_is_that_of_a_loop_over_samples() -> None:
    images = split(7, 3)
    first, second = [model(images, 0.3, 1), model(images, 0.3, 2)], [model(images, 0.35, 3)]
    found = paired_bootstrap(first, second, images, samples=600, level=0.8, seed=5)

    def mean_recall(training: dict[str, Tensor], drawn: list[int]) -> float:
        figures = []
        for name, rows in images.items():
            hits = [float(training[name][query]) for image in drawn for query in (rows == image).nonzero()[:, 0]]
            figures.append(sum(hits) / len(hits))
        return 100 * sum(figures) / len(figures)

    def difference(drawn: list[int]) -> float:
        return mean_recall(second[0], drawn) - sum(mean_recall(training, drawn) for training in first) / 2

    generator = torch.Generator().manual_seed(5)
    draws = torch.cat([torch.randint(7, (count, 7), generator=generator) for count in (256, 256, 88)]).tolist()
    values = sorted(map(difference, draws))
    wanted = torch.quantile(torch.tensor(values).double(), torch.tensor([0.1, 0.9]).double()).tolist()
    assert [found.low, found.high] == pytest.approx(wanted)
    assert found.mean == pytest.approx(difference(list(range(7))))
    assert found.p == pytest.approx(2 * min(sum(v <= 1e-9 for v in values), sum(v >= -1e-9 for v in values)) / 600)
    assert 0 < found.p < 1


def test_swapped_models_differ_by_the_sign_alone() -> None:
    images = split(40, 5)
    one, other = model(images, 0.3, 0), model(images, 0.4, 1)
    there, back = paired_bootstrap([one], [other], images), paired_bootstrap([other], [one], images)
    assert [there.mean, there.low, there.high] == pytest.approx([-back.mean, -back.high, -back.low])
    assert there.p == back.p


def test_draws_are_those_of_the_seed() -> None:
    images = split(30, 2)
    case = ([model(images, 0.3, 0)], [model(images, 0.5, 1)], images)
    found = {seed: paired_bootstrap(*case, samples=300, seed=seed) for seed in (-1, 0, 1)}
    assert paired_bootstrap(*case, samples=300) == found[0]
    assert len({row.low for row in found.values()} | {row.high for row in found.values()}) > 2


def test_equal_models_do_not_differ() -> None:
    images = split(9, 2)
    assert paired_bootstrap([model(images, 0.5, 0)], [model(images, 0.5, 0)], images) == (0, 0, 0, 1)


def test_a_model_that_is_better_on_every_image_is_sure() -> None:
    images = split(30, 2)
    zero = {name: torch.zeros(len(rows)) for name, rows in images.items()}
    half = {name: torch.full((len(rows),), 0.5) for name, rows in images.items()}
    assert paired_bootstrap([zero], [half], images) == (50, 50, 50, 0)


def test_captions_of_an_image_are_no_independent_queries() -> None:
    """Ten equal captions an image say no more than one: the interval stays, where that of a query each would shrink."""
    gain = (torch.arange(60) % 3 == 0).double()
    widths = []
    for captions in (1, 10):
        images = {"t2i_R@1": torch.arange(60).repeat_interleave(captions)}
        first = {"t2i_R@1": torch.zeros(60 * captions)}
        second = {"t2i_R@1": gain.repeat_interleave(captions)}
        found = paired_bootstrap([first], [second], images)
        widths.append(found.high - found.low)
    assert widths[0] == pytest.approx(widths[1])
    assert widths[0] == pytest.approx(2 * 196 * (1 / 3 * 2 / 3 / 60) ** 0.5, rel=0.1)  # of a share, in percent


def test_numbers_of_captions_weigh_images() -> None:
    """By hand: image 0 has one query, which is won; image 1 has three, which are not: 25 % of the queries."""
    images = {"t2i_R@1": torch.tensor([0, 1, 1, 1])}
    found = paired_bootstrap(
        [{"t2i_R@1": torch.zeros(4)}], [{"t2i_R@1": torch.tensor([1.0, 0, 0, 0])}], images, samples=999
    )
    assert found.mean == 25
    assert (found.low, found.high) == (0, 100)


def test_an_image_may_have_queries_of_one_kind_alone() -> None:
    images = {"i2t_R@1": torch.tensor([0]), "t2i_R@1": torch.tensor([1])}
    won = {name: torch.ones(1) for name in images}
    lost = {name: torch.zeros(1) for name in images}
    found = paired_bootstrap([lost], [won], images, samples=400)
    assert (found.mean, found.high, found.p) == (100, 100, 0)
    assert found.low == 50  # a sample with one of the two images twice has no query of the other kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"samples": 0}, "samples=0, level=0.95: give 1 or more samples"),
        ({"level": 1.0}, "samples=10000, level=1.0: give"),
        ({"level": 0.0}, "level=0.0"),
        ({"level": -0.5}, "level=-0.5"),
        ({"level": 1.5}, "level=1.5"),
        ({"first": []}, "0 and 1 trainings, 1 figures: give one or more of each"),
        ({"second": []}, "1 and 0 trainings"),
        ({"images": {}}, "1 and 1 trainings, 0 figures"),
        ({"second": [{"t2i_R@1": torch.zeros(3)}]}, "both models need the same queries"),
        ({"first": [{"t2i_R@5": torch.zeros(2)}]}, "both models need the same queries"),
    ],
)
def test_what_does_not_go_together_is_refused(change: dict, message: str) -> None:
    case = {"first": [{"t2i_R@1": torch.zeros(2)}], "second": [{"t2i_R@1": torch.ones(2)}]}
    case["images"] = {"t2i_R@1": torch.arange(2)}
    options = {**case, **change}
    with pytest.raises(ValueError, match=message):
        paired_bootstrap(options.pop("first"), options.pop("second"), options.pop("images"), **options)
