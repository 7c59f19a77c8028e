"""Value-guided stages as a function of the epoch, and the weights of scenes, which grow with it."""

import math
from dataclasses import FrozenInstanceError

import pytest

from rsretrieval.losses import LOSSES, scene_weight
from rsretrieval.training.schedule import PAPER_STAGES, Stage, check_stages, stage_at


def test_value_schedule() -> None:
    losses = [set(PAPER_STAGES[stage_at(PAPER_STAGES, epoch)].losses) for epoch in range(20)]
    assert (
        losses
        == [{"contrastive", "affiliation", "scene_adaptive"}] * 10 + [{"weighted_contrastive", "affiliation"}] * 10
    )
    assert {weight for stage in PAPER_STAGES for weight in stage.losses.values()} == {1.0}
    for epoch in (0, 1, 5, 9):
        assert scene_weight(0.02, epoch) == pytest.approx(math.e ** (0.02 * epoch))
    # The release keeps integers: below 1 that is 0.
    assert [scene_weight(-0.002, e, truncate=True) for e in (0, 1, 5, 9)] == [1, 0, 0, 0]
    assert [scene_weight(0.02, e, truncate=True) for e in (0, 1, 5, 9)] == [1, 1, 1, 1]


def test_a_stage_holds_from_its_first_epoch_to_the_next_ones() -> None:
    stages = [Stage(0, {"contrastive": 1.0}), Stage(1, {"triplet": 1.0}), Stage(4, {"contrastive": 0.5})]
    assert [stage_at(stages, epoch) for epoch in range(6)] == [0, 1, 1, 1, 2, 2]
    assert stage_at(stages, 100) == 2
    assert [stage_at(PAPER_STAGES, epoch) for epoch in (0, 9, 10, 19)] == [0, 0, 1, 1]
    check_stages(stages, LOSSES)
    check_stages(stages[:1], LOSSES)


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], r"start at epochs \[\]; they must start at 0 and rise strictly: set `from_epoch`"),
        ([Stage(1, {"contrastive": 1.0})], r"start at epochs \[1\]"),
        ([Stage(0, {"contrastive": 1.0}), Stage(0, {"triplet": 1.0})], r"start at epochs \[0, 0\]"),
        ([Stage(0, {"contrastive": 1.0}), Stage(3, {"triplet": 1.0}), Stage(2, {"triplet": 1.0})], r"\[0, 3, 2\]"),
        ([Stage(0, {"contrastive": 1.0}), Stage(2, {})], "stage 2 names no loss; known are .* give at least one"),
        ([Stage(0, {"focal": 1.0})], r"unknown loss 'focal'; known are \['affiliation'"),
    ],
)
def test_stages_that_are_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_stages(stages, LOSSES)


def test_stages_begin_at_epoch_0_and_do_not_change() -> None:
    check_stages(PAPER_STAGES, LOSSES)
    with pytest.raises(ValueError, match=r"start at epochs \[-1\]"):
        check_stages([Stage(-1, {"contrastive": 1.0})], LOSSES)
    with pytest.raises(FrozenInstanceError):
        PAPER_STAGES[0].from_epoch = 3  # type: ignore[misc]
