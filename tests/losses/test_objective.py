"""The objective: settings reach the losses, wrong ones are refused, and a stranger's loss takes part."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from rsretrieval.losses import (
    LOSSES,
    LossContext,
    Objective,
    ObjectiveConfig,
    affiliation_loss,
    contrastive_loss,
    register_loss,
    scene_adaptive_loss,
    scene_weight,
    sigmoid_loss,
    triplet_loss,
)
from rsretrieval.losses.config import FIELDS_OF_LOSSES, SIGLIP_BIAS
from rsretrieval.types import PairedEmbeddings

TAU, COUNT = 0.07, 9
BUILT_IN = (
    "contrastive", "weighted_contrastive", "affiliation", "scene_adaptive", "sigmoid", "triplet", "triplet_hardest",
)  # fmt: skip


def paired(seed: int = 0) -> PairedEmbeddings:
    """Images with several captions, captions of several images, scenes with several images."""
    generator = torch.Generator().manual_seed(seed)
    image, text = (F.normalize(torch.randn(COUNT, 5, generator=generator), dim=1).requires_grad_() for _ in range(2))
    ids = torch.randint(COUNT - 2, (COUNT,), generator=generator)
    values = torch.rand(COUNT, generator=generator)
    return PairedEmbeddings(image, text, ids, torch.arange(COUNT) // 2, ids % 3, values)


@pytest.fixture
def _restored_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone afterwards."""
    monkeypatch.setattr(LOSSES, "_entries", dict(LOSSES._entries))


@pytest.mark.parametrize("name", ["contrastive", "weighted_contrastive"])
def test_the_objective_shares_captions_where_told_to(name: str) -> None:
    pairs = paired()
    for share in (False, True):
        objective = Objective(ObjectiveConfig(temperature=TAU, share_captions=share))
        got = objective(pairs, slice(0, COUNT), {name: 1.0}, 0)[name]
        wanted = contrastive_loss(
            image=pairs.image,
            text=pairs.text,
            image_ids=pairs.image_ids,
            temperature=TAU,
            caption_values=pairs.caption_values if name == "weighted_contrastive" else None,
            text_ids=pairs.text_ids if share else None,
        )
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("global_centres", [False, True])
def test_affiliation_centres_of_the_batch_or_of_the_process(global_centres: bool) -> None:
    pairs, local = paired(), slice(2, 7)
    objective = Objective(ObjectiveConfig(global_centres=global_centres))
    with torch.no_grad():
        objective.temperature.fill_(9.0)  # the affiliation loss has its own
    rows = pairs if global_centres else pairs.map(lambda field: field[local])
    wanted = affiliation_loss(image=rows.image, text=rows.text, scenes=rows.scenes, temperature=0.07)
    torch.testing.assert_close(objective(pairs, local, {"affiliation": 1.0}, 0)["affiliation"], wanted)


def test_centres_leave_the_pair_itself_out_where_told_to() -> None:
    pairs = paired()
    found = [
        Objective(ObjectiveConfig(leave_one_out=leave))(pairs, slice(0, COUNT), {"affiliation": 1.0}, 0)["affiliation"]
        for leave in (False, True)
    ]
    fields = {"image": pairs.image, "text": pairs.text, "scenes": pairs.scenes, "temperature": TAU}
    wanted = [affiliation_loss(**fields, leave_one_out=leave) for leave in (False, True)]
    torch.testing.assert_close(found, wanted)
    assert abs(float(wanted[0] - wanted[1])) > 0.01


@pytest.mark.parametrize("release", [False, True])
def test_scene_settings_and_epoch_reach_the_loss(release: bool) -> None:
    pairs = paired()
    config = ObjectiveConfig(
        temperature=0.1,
        margin=1.5,
        beta_inter=-0.5,
        beta_intra=0.3,
        exclude_positives=not release,
        truncate_weights=release,
    )
    wanted = scene_adaptive_loss(
        image=pairs.image,
        text=pairs.text,
        image_ids=pairs.image_ids,
        scenes=pairs.scenes,
        temperature=0.1,
        inter_weight=scene_weight(-0.5, 7, truncate=release),
        intra_weight=scene_weight(0.3, 7, truncate=release),
        margin=1.5,
        exclude_positives=not release,
    )
    got = Objective(config)(pairs, slice(0, COUNT), {"scene_adaptive": 1.0}, 7)["scene_adaptive"]
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize(("name", "hardest"), [("triplet", False), ("triplet_hardest", True)])
def test_triplet_margin_reaches_the_loss(name: str, hardest: bool) -> None:
    pairs = paired()
    got = Objective(ObjectiveConfig(triplet_margin=0.4))(pairs, slice(0, COUNT), {name: 1.0}, 0)[name]
    ids = pairs.image_ids
    wanted = triplet_loss(image=pairs.image, text=pairs.text, margin=0.4, hardest=hardest, image_ids=ids)
    torch.testing.assert_close(got, wanted)


def test_the_weighted_sum_and_temperatures_that_no_loss_uses() -> None:
    objective = Objective(ObjectiveConfig())
    values = objective(paired(), slice(0, COUNT), {"contrastive": 2.0, "triplet": 0.5}, 0)
    assert list(values) == ["contrastive", "triplet", "loss"]
    torch.testing.assert_close(values["loss"], 2 * values["contrastive"] + values["triplet"] / 2)
    values["loss"].backward()
    assert objective.affiliation_temperature.grad == 0  # not None, which DDP reports as an error
    assert objective.temperature.grad != 0


def test_a_fixed_temperature_has_no_gradient() -> None:
    objective = Objective(ObjectiveConfig(learn_temperature=False))
    assert [name for name, p in objective.named_parameters() if p.requires_grad] == []
    assert set(objective.state_dict()) == {"temperature", "affiliation_temperature"}


def test_autocast_does_not_reach_the_losses() -> None:
    pairs, losses = paired(), dict.fromkeys(BUILT_IN, 1.0)
    objective = Objective(ObjectiveConfig(bias=-10.0))
    wanted = objective(pairs, slice(0, COUNT), losses, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = objective(pairs, slice(0, COUNT), losses, 3)
    assert {name: value.item() for name, value in got.items()} == {name: v.item() for name, v in wanted.items()}


@pytest.mark.usefixtures("_restored_registry")
def test_a_strangers_loss_with_options() -> None:
    contexts: list[LossContext] = []

    @register_loss("uniformity")
    def uniformity(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
        """Wang & Isola, ICML 2020."""
        contexts.append(context)
        return torch.pdist(pairs.image).pow(2).mul(-context.options["t"]).exp().mean().log()

    pairs, local = paired(), slice(3, 6)
    config = ObjectiveConfig(temperature=0.2, options={"uniformity": {"t": 3.0}})
    objective = Objective(config)
    values = objective(pairs, local, {"contrastive": 1.0, "uniformity": 0.25}, 4)
    distances = [(a - b).pow(2).sum() for n, a in enumerate(pairs.image) for b in pairs.image[n + 1 :]]
    wanted = torch.stack([(-3.0 * d).exp() for d in distances]).mean().log()
    torch.testing.assert_close(values["uniformity"], wanted)
    torch.testing.assert_close(values["loss"], values["contrastive"] + 0.25 * wanted)
    (context,) = contexts
    assert (context.config, context.epoch, context.local) == (config, 4, local)
    assert context.temperature is objective.temperature
    assert context.affiliation_temperature is objective.affiliation_temperature
    Objective(ObjectiveConfig())(pairs, local, {"contrastive": 1.0}, 0)
    with pytest.raises(ValueError, match="the loss 'uniformity' is registered already"):
        register_loss("uniformity")(lambda pairs, context: pairs.image.mean())


@pytest.mark.usefixtures("_restored_registry")
def test_a_loss_without_options_gets_none_and_must_be_a_scalar() -> None:
    @register_loss("rows")
    def rows(pairs: PairedEmbeddings, context: LossContext) -> Tensor:
        assert context.options == {}
        return pairs.image.sum(1)

    with pytest.raises(ValueError, match=r"loss 'rows' returned a tensor of shape \(9,\): return a scalar"):
        Objective(ObjectiveConfig())(paired(), slice(0, COUNT), {"rows": 1.0}, 0)


def test_an_unknown_loss_names_near_ones() -> None:
    message = r"unknown loss 'contrastiv' \(did you mean 'contrastive'.*\)?; known are \['affiliation'"
    with pytest.raises(ValueError, match=message):
        Objective(ObjectiveConfig())(paired(), slice(0, COUNT), {"contrastiv": 1.0}, 0)
    with pytest.raises(ValueError, match=r"options\['tripel'\]: unknown loss 'tripel' \(did you mean 'triplet'"):
        Objective(ObjectiveConfig(options={"tripel": {}}))


def test_every_built_in_loss_has_its_settings_listed() -> None:
    assert set(BUILT_IN) == set(FIELDS_OF_LOSSES) <= set(LOSSES)
    fields = set(ObjectiveConfig.__dataclass_fields__)
    assert {field for names in FIELDS_OF_LOSSES.values() for field in names} | {
        "learn_temperature",
        "least_temperature",
        "options",
    } == fields


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"^temperature=0\.0: give a finite number above 0$"),
        ({"temperature": -0.07}, r"^temperature=-0\.07: "),
        ({"temperature": math.nan}, r"^temperature=nan: "),
        ({"temperature": math.inf}, r"^temperature=inf: "),
        ({"temperature": None, "least_temperature": 0.08}, r"^least_temperature=0\.08: .*temperature=0\.07$"),
        ({"bias": math.nan}, r"^bias=nan: give a finite number, such as -10$"),
        ({"margin": -0.5}, r"^margin=-0\.5: give a finite number, 0 or more$"),
        ({"triplet_margin": -0.2}, r"^triplet_margin=-0\.2: give a finite number, 0 or more$"),
        ({"margin": math.nan}, r"^margin=nan: "),
        ({"beta_inter": math.nan}, r"^beta_inter=nan: give a finite number"),
        ({"beta_intra": math.inf}, r"^beta_intra=inf: give a finite number"),
        ({"options": {"mine": 3}}, r"^options\['mine'\]=3: give the loss's settings as a mapping"),
        ({"options": {"triplet": {"margin": 1}}}, r"no options; its settings are the fields \['triplet_margin'\]"),
    ],
)  # fmt: skip
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectiveConfig(**settings)


def test_settings_at_the_edge_of_what_is_allowed() -> None:
    config = ObjectiveConfig(margin=0.0, triplet_margin=0.0, beta_inter=0.0, options={"mine": {}})
    assert hash(config) == hash(ObjectiveConfig(margin=0.0, triplet_margin=0.0, beta_inter=0.0))


def test_scene_weight() -> None:
    assert scene_weight(0.02, 9) == pytest.approx(math.e**0.18)
    assert [scene_weight(-0.002, e, truncate=True) for e in (0, 1, 5, 9)] == [1, 0, 0, 0]


def test_a_learned_temperature_stays_above_its_bound() -> None:
    """A step that brings it to 0 or below would turn the loss around."""
    pairs = paired()
    objective = Objective(ObjectiveConfig(temperature=TAU, least_temperature=0.05))
    with torch.no_grad():
        objective.temperature.fill_(-0.3)
        objective.affiliation_temperature.fill_(0.06)
    values = objective(pairs, slice(0, COUNT), {"contrastive": 1.0, "affiliation": 1.0}, 0)
    wanted = contrastive_loss(image=pairs.image, text=pairs.text, image_ids=pairs.image_ids, temperature=0.05)
    torch.testing.assert_close(values["contrastive"], wanted)
    assert objective.temperature.item() == pytest.approx(0.05)
    assert objective.affiliation_temperature.item() == pytest.approx(0.06)
    values["loss"].backward()
    assert objective.temperature.grad is not None
    assert objective.temperature.grad.abs() > 0
    for bound in (0.0, 0.08):
        with pytest.raises(
            ValueError, match=f"least_temperature={bound}: give a number above 0, and not above temperature"
        ):
            ObjectiveConfig(temperature=TAU, least_temperature=bound)


@pytest.mark.parametrize(
    ("settings", "own", "start"),
    [
        ({}, None, (0.07, None)),
        ({}, (0.01, 0.0), (0.07, None)),
        ({"bias": -5.0}, (0.0085, -16.0), (0.07, -5.0)),
        ({"temperature": None}, None, (0.07, -10.0)),
        ({"temperature": None}, (0.01, 0.0), (0.01, -10.0)),  # a CLIP has no bias
        ({"temperature": None}, (0.0085, -16.0), (0.0085, -16.0)),  # a SigLIP has
        ({"temperature": None, "bias": -5.0}, (0.0085, -16.0), (0.0085, -5.0)),
    ],
)
def test_where_temperature_and_bias_start(
    settings: dict, own: tuple[float, float] | None, start: tuple[float, float | None]
) -> None:
    objective = Objective(ObjectiveConfig(**settings), own)
    bias = None if objective.bias is None else objective.bias.item()
    assert objective.temperature.item() == pytest.approx(start[0])
    assert objective.affiliation_temperature.item() == pytest.approx(start[0])
    assert bias == pytest.approx(start[1])


def test_a_pairs_own_temperature_is_its_own_bound() -> None:
    """SigLIP's is below CLIP's bound; and a run that goes on learns it from the checkpoint."""
    objective = Objective(ObjectiveConfig(temperature=None), (0.0085, -16.0))
    pairs = paired()
    values = objective(pairs, slice(0, COUNT), {"sigmoid": 1.0}, 0)
    assert objective.temperature.item() == pytest.approx(0.0085)
    wanted = sigmoid_loss(image=pairs.image, text=pairs.text, image_ids=pairs.image_ids, temperature=0.0085, bias=-16.0)
    torch.testing.assert_close(values["sigmoid"], wanted)
    values["loss"].backward()
    assert objective.bias is not None
    assert objective.bias.grad != 0
    again = Objective(ObjectiveConfig(temperature=None))  # the pair's weights are not there
    again.load_state_dict(objective.state_dict())
    torch.testing.assert_close(again(pairs, slice(0, COUNT), {"sigmoid": 1.0}, 0)["sigmoid"], wanted)


@pytest.mark.parametrize("share", [False, True])
def test_the_sigmoid_loss_shares_captions_where_told_to(share: bool) -> None:
    pairs = paired()
    objective = Objective(ObjectiveConfig(temperature=TAU, bias=-2.0, share_captions=share))
    wanted = sigmoid_loss(
        image=pairs.image, text=pairs.text, image_ids=pairs.image_ids, temperature=TAU, bias=-2.0,
        text_ids=pairs.text_ids if share else None,
    )  # fmt: skip
    torch.testing.assert_close(objective(pairs, slice(0, COUNT), {"sigmoid": 1.0}, 0)["sigmoid"], wanted)


def test_a_bias_that_no_loss_uses_has_a_gradient_and_without_one_it_is_fixed() -> None:
    objective = Objective(ObjectiveConfig(temperature=None))
    objective(paired(), slice(0, COUNT), {"contrastive": 1.0}, 0)["loss"].backward()
    assert objective.bias is not None
    assert objective.bias.grad == 0
    pairs = paired()
    value = Objective(ObjectiveConfig(temperature=TAU))(pairs, slice(0, COUNT), {"sigmoid": 1.0}, 0)["sigmoid"]
    wanted = sigmoid_loss(
        image=pairs.image, text=pairs.text, image_ids=pairs.image_ids, temperature=TAU, bias=SIGLIP_BIAS
    )
    torch.testing.assert_close(value, wanted)


def test_the_papers_settings_are_the_defaults() -> None:
    config = ObjectiveConfig()
    assert (config.temperature, config.margin, config.beta_inter, config.beta_intra) == (0.07, 0.95, -0.002, 0.02)
    assert (config.triplet_margin, config.least_temperature) == (0.2, 0.01)
    assert (config.learn_temperature, config.share_captions) == (True, False)
    assert (config.exclude_positives, config.truncate_weights, config.global_centres) == (True, False, True)
    assert ObjectiveConfig(temperature=0.1, least_temperature=0.1).least_temperature == 0.1
    with pytest.raises(ValueError, match=r"least_temperature=-0\.1"):
        ObjectiveConfig(least_temperature=-0.1)
