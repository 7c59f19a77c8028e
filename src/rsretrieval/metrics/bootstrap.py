"""Whether two models differ on the same queries: a paired bootstrap over images.

Images are drawn, each with all its captions, since the queries of one image succeed and fail together. Drawn queries
are the same for both models (Koehn, EMNLP 2004; Efron and Tibshirani, 1993).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rsretrieval.metrics.inputs import dense, integers

SAMPLES = 10_000
_CHUNK = 256  # samples drawn at a time
_ROUNDING = 1e-6  # by which a probability may be off


class Difference(NamedTuple):
    """How much higher the second model's mean recall is.

    Attributes:
        mean: of the queries as they are, in percent.
        low: of the interval of confidence.
        high: of it.
        p: two-sided: twice the share of samples, at most 1, in which the difference has the other sign or is 0.
    """

    mean: float
    low: float
    high: float
    p: float


def paired_bootstrap(
    first: Sequence[Mapping[str, Tensor]],
    second: Sequence[Mapping[str, Tensor]],
    images: Mapping[str, Tensor],
    *,
    samples: int = SAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Difference:
    """The difference in mR of two models, and how sure it is.

    Several trainings of a model, which differ by their seed, are averaged query by query: the interval is about
    queries, not about seeds.

    Args:
        first: of each training of a model, figure (as in ``t2i_R@5``) to ``(Q,)``, the probability from 0 to 1 that a
            query succeeds.
        second: the same queries, asked of another model.
        images: figure to ``(Q,)`` integers, the image that each query is of, counted from 0.
        samples: bootstrap samples.
        level: of confidence.
        seed: of what is drawn.

    Raises:
        TypeError: for other kinds of arguments.
        ValueError: if figures, queries or numbers do not go together; for hits that are no probabilities.

    Example:
        The second model finds one of two images more; drawn with replacement, that image is left out of a quarter of
        the samples:

        >>> import torch
        >>> of = {"t2i_R@1": torch.arange(2)}
        >>> none, one = ({"t2i_R@1": torch.tensor(hits)} for hits in ([0.0, 0.0], [1.0, 0.0]))
        >>> paired_bootstrap([none], [one], of, samples=1000, level=0.4)
        Difference(mean=50.0, low=50.0, high=50.0, p=0.532)
    """
    if samples < 1 or not 0 < level < 1:
        raise ValueError(f"samples={samples}, level={level}: give 1 or more samples, and a level between 0 and 1")
    images = _images(images)
    gains = _gains(_hits("first", first), _hits("second", second), images)
    count = 1 + max(int(rows.max()) for rows in images.values())
    sums = torch.stack([torch.zeros(count, dtype=torch.float64).index_add(0, images[k], gains[k]) for k in images])
    sizes = torch.stack([torch.bincount(rows, minlength=count).double() for rows in images.values()])
    generator, drawn = torch.Generator().manual_seed(seed), []
    for start in range(0, samples, _CHUNK):
        rows = torch.randint(count, (min(_CHUNK, samples - start), count), generator=generator)
        times = torch.zeros(rows.shape, dtype=torch.float64).scatter_add(
            1, rows, torch.ones(1).double().expand_as(rows)
        )
        # A sample may draw no image that has a query of a kind; such a figure counts for nothing in it.
        drawn.append((times @ sums.T / (times @ sizes.T).clamp(min=1)).mean(1))
    values = (100 * torch.cat(drawn)).round(decimals=9)  # what is 0 but for rounding is 0
    low, high = torch.quantile(values, torch.tensor([(1 - level) / 2, (1 + level) / 2]).double()).tolist()
    mean = 100 * float((sums.sum(1) / sizes.sum(1)).mean())
    p = min(1.0, 2 * float(min((values <= 0).double().mean(), (values >= 0).double().mean())))
    return Difference(mean, low, high, p)


def _images(images: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The images of the queries, as int64."""
    if not isinstance(images, Mapping):
        raise TypeError(
            f"images is a {type(images).__name__}: give a mapping of figures to the images of their queries"
        )
    numbers = {name: integers(f"images[{name!r}]", rows).cpu() for name, rows in images.items()}
    for name, rows in numbers.items():
        if rows.ndim != 1 or not len(rows) or int(rows.min()) < 0:
            raise ValueError(
                f"images[{name!r}]={rows}: give (Q,), the image of each query counted from 0, of 1 or more"
            )
    return numbers


def _hits(model: str, trainings: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
    """What a model's trainings gave, as float64, probabilities all."""
    if not isinstance(trainings, Sequence) or not all(isinstance(training, Mapping) for training in trainings):
        raise TypeError(
            f"{model} is a {type(trainings).__name__}: give a list of mappings, one a training of the model"
        )
    tables = [{name: dense(name, hits).cpu().double() for name, hits in one.items()} for one in trainings]
    for name, hits in (item for table in tables for item in table.items()):
        if not ((hits - 0.5).abs() <= 0.5 + _ROUNDING).all():  # NaN is not either
            raise ValueError(
                f"{model} has hits of {name} from {float(hits.min()):.3g} to {float(hits.max()):.3g}: give the "
                "probability that each query succeeds, from 0 to 1, not in percent, and no NaN"
            )
    return tables


def _gains(
    first: Sequence[Mapping[str, Tensor]], second: Sequence[Mapping[str, Tensor]], images: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Figure to ``(Q,)`` float64, what each query gains."""
    if not first or not second or not images:
        raise ValueError(f"{len(first)} and {len(second)} trainings, {len(images)} figures: give one or more of each")
    for training in (*first, *second):
        shapes = {name: tuple(hits.shape) for name, hits in training.items()}
        wanted = {name: tuple(rows.shape) for name, rows in images.items()}
        if shapes != wanted:
            raise ValueError(f"queries {shapes} and their images {wanted} differ: both models need the same queries")

    def mean(trainings: Sequence[Mapping[str, Tensor]], name: str) -> Tensor:
        return torch.stack([training[name] for training in trainings]).mean(0)

    return {name: mean(second, name) - mean(first, name) for name in images}
