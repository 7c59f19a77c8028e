"""Defaults and edges of the metrics that the surviving mutants asked for."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from rsretrieval.losses import hardest_negatives, scene_weight
from rsretrieval.losses.config import ObjectiveConfig
from rsretrieval.losses.registry import LossContext
from rsretrieval.losses.similarity import Similarity
from rsretrieval.metrics import (
    CrossModalRecall,
    HubnessConfig,
    SplitEmbeddings,
    graded_retrieval,
    hubness_corrected_recall,
    paired_bootstrap,
    recall_ceiling,
    retrieval_recall,
)
from rsretrieval.metrics.protocol import relevant_pairs

KEYS = ["i2t_R@1", "i2t_R@5", "i2t_R@10", "t2i_R@1", "t2i_R@5", "t2i_R@10", "mR"]
EYE, OWNERS = torch.eye(3), torch.arange(3)


def test_the_fields_ranks_are_the_default_everywhere() -> None:
    assert list(retrieval_recall(image=EYE, text=EYE, owners=OWNERS)) == KEYS
    corrected = hubness_corrected_recall(
        image=EYE, text=EYE, owners=OWNERS, config=HubnessConfig(neighbours=1), ties="expected"
    )
    assert list(corrected) == KEYS
    assert CrossModalRecall().ks == (1, 5, 10)
    assert CrossModalRecall.full_state_update is False


def test_defaults_of_hubness() -> None:
    config = HubnessConfig()
    assert (config.method, config.temperature, config.neighbours, config.queries) == (
        "inverted_softmax",
        0.1,
        10,
        "all",
    )


def test_double_precision_tells_what_single_does_not() -> None:
    """The second text is nearer to the first image by less than float32 has digits for."""
    image = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    text = torch.tensor([[1.0, 0.0], [1.0 + 1e-10, 0.0]], dtype=torch.float64)
    figures = [retrieval_recall(image=i, text=t, owners=torch.arange(2), ks=(1,)) for i, t in (
        (image, text), (image.float(), text.float()), (image.long(), text.float()),
    )]  # fmt: skip
    assert [row["i2t_R@1"] for row in figures] == [25.0, 50.0, 50.0]


@pytest.mark.parametrize(
    ("image", "text", "owners"),
    [
        (torch.ones(3), EYE, OWNERS),
        (EYE, torch.ones(3), OWNERS),
        (EYE[:, :2], EYE, OWNERS),
        (EYE, EYE[:, :2], OWNERS),
        (EYE, EYE, OWNERS[:2]),
        (EYE, EYE, torch.arange(4)),
    ],
)
def test_shapes_that_do_not_go_together(image: torch.Tensor, text: torch.Tensor, owners: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="do not go together"):
        retrieval_recall(image=image, text=text, owners=owners)


@pytest.mark.parametrize("owner", [-1, 3, 7])
def test_an_owner_that_is_no_row(owner: int) -> None:
    with pytest.raises(ValueError, match="owners run from"):
        retrieval_recall(image=EYE, text=EYE, owners=torch.tensor([0, 1, owner]))


def test_what_messages_count() -> None:
    with pytest.raises(ValueError, match=r"owners run from 0 to 3, the images from 0 to 2: "):
        retrieval_recall(image=EYE, text=EYE, owners=torch.tensor([0, 1, 3]))
    with pytest.raises(ValueError, match=r"6 of 7 images have no caption \(rows \[1, 2, 3, 4, 5\]\)"):
        retrieval_recall(image=torch.eye(7), text=torch.eye(7)[:1], owners=torch.tensor([0]))
    with pytest.raises(ValueError, match="temperature"):
        HubnessConfig(temperature=-1.0)


def test_the_fields_ranks_are_those_of_the_ceiling() -> None:
    owners = torch.arange(3)
    assert list(recall_ceiling(owners=owners, text_ids=owners)) == KEYS


def test_double_precision_grades_what_single_does_not() -> None:
    """For the first text the second image, of another scene, is nearer by less than float32 has digits for."""
    image = torch.tensor([[1.0, 0.0], [1.0 + 1e-10, 0.0]], dtype=torch.float64)
    text = torch.eye(2, dtype=torch.float64)
    pair = torch.arange(2)
    figures = [
        graded_retrieval(image=i, text=t, owners=pair, scenes=pair, ks=(1,))["t2i_mAP@1"]
        for i, t in ((image, text), (image.float(), text.float()))
    ]
    assert figures == [25.0, 50.0]  # the second text ties both


def test_what_a_mutant_would_let_through() -> None:
    with pytest.raises(ValueError, match="do not go together"):
        retrieval_recall(image=EYE, text=EYE[:, :, None], owners=OWNERS)
    with pytest.raises(ValueError, match="do not go together"):
        retrieval_recall(image=EYE[:, :, None], text=EYE, owners=OWNERS)
    with pytest.raises(ValueError, match=r"owners \(3, 3\) and text_ids \(3, 3\): give both for each caption"):
        recall_ceiling(owners=EYE.long(), text_ids=EYE.long())
    alike = Similarity(EYE, EYE, OWNERS, 1.0)
    with pytest.raises(FrozenInstanceError):
        LossContext(ObjectiveConfig(), EYE[0, 0], EYE[0, 0], 0, alike, {}).epoch = 1  # type: ignore[misc]
    recall = CrossModalRecall()
    ids = {"text_ids": OWNERS, "caption_text_ids": OWNERS, "caption_image_ids": torch.tensor([0, 8, 9])}
    recall.update(image=EYE, image_ids=OWNERS, text=EYE, **ids)
    with pytest.raises(ValueError, match="2 of 3 captions belong to image ids that were not added, such as 8"):
        recall.merged()
    with pytest.raises(FrozenInstanceError):
        HubnessConfig().neighbours = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        CrossModalRecall().update(EYE, OWNERS, EYE, OWNERS, OWNERS, OWNERS)  # type: ignore[misc]


def test_settings_go_by_their_names() -> None:
    with pytest.raises(TypeError, match="positional"):
        hardest_negatives(EYE, OWNERS, False)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        scene_weight(0.02, 1, True)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        paired_bootstrap([{}], [{}], {}, 10)  # type: ignore[misc]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"1 of 3 images have no caption \(rows \[0\]\)"):
        retrieval_recall(image=EYE, text=EYE[1:], owners=OWNERS[1:])
    with pytest.raises(ValueError, match=r"owners \(2,\) and text_ids \(3,\): give both"):
        recall_ceiling(owners=OWNERS[:2], text_ids=OWNERS)


def test_what_embeddings_are_asked() -> None:
    split = SplitEmbeddings(EYE, OWNERS, EYE, OWNERS.flip(0), OWNERS)
    assert split.asked("every")["distinct_ids"] is None
    assert split.asked("distinct")["distinct_ids"].tolist() == [2, 1, 0]
    assert split.asked("every")["text"].tolist() == EYE.flip(0).tolist()


@pytest.mark.parametrize("count", [2, 4])
def test_too_few_and_too_many_labels(count: int) -> None:
    with pytest.raises(ValueError, match=rf"ids of texts \({count},\) and owners \(3,\) differ"):
        relevant_pairs(OWNERS, torch.arange(count))
    with pytest.raises(ValueError, match="scenes"):
        graded_retrieval(image=EYE, text=EYE, owners=OWNERS, scenes=torch.arange(count))


def test_a_single_sample_is_enough_to_draw() -> None:
    of, none, one = ({"t2i_R@1": values} for values in (OWNERS, torch.zeros(3), torch.ones(3)))
    assert paired_bootstrap([none], [one], of, samples=1) == (100, 100, 100, 0)
