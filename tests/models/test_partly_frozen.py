"""EfficientNets of which the upper stages train: what is below runs apart, statistics stay, depthwise in float32."""

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from rsretrieval.models import TowerConfig
from rsretrieval.models.adaptation import adapt
from rsretrieval.models.towers.stages import Depthwise, depthwise_in_float32
from rsretrieval.models.towers.timm import TimmImageTower

LITE = TowerConfig("timm", "test_efficientnet", pooling="all_stages")
IMAGES = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def tower(*, still: bool = True, **settings: Any) -> tuple[Any, list[nn.Module]]:
    """A tower in training mode, with statistics of its own, and those of its modules that stay in evaluation."""
    config = replace(LITE, **settings)
    torch.manual_seed(0)
    network = TimmImageTower(config, 64).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    kept = adapt(network, config, lambda: None)
    for module in kept * still:
        module.eval()
    return network, kept


@pytest.mark.parametrize("layers", [0, 1, 3, 5])
def test_what_runs_apart_gives_the_same(layers: int) -> None:
    network, _ = tower(frozen_layers=layers, frozen_statistics=True, correlated_stages=(2, 5))
    whole = copy.deepcopy(network)
    found, expected = network(IMAGES).pooled, whole(IMAGES.clone().requires_grad_()).pooled  # by one graph
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    target = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    for pooled in (found, expected):
        (pooled * target).sum().backward()
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    for name in trained:
        wanted = whole.get_parameter(name).grad
        torch.testing.assert_close(
            network.get_parameter(name).grad, wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0
        )
    assert len(trained) == sum(parameter.grad is not None for parameter in network.parameters())
    assert bool(layers) == (len(trained) < len(list(network.parameters())))


def test_stages_with_statistics_that_move_do_not_run_apart() -> None:
    network, kept = tower(frozen_layers=3, still=False)
    before = network.model.bn1.running_mean.clone()
    network(IMAGES)  # nobody set the frozen layers to evaluation
    assert not torch.equal(network.model.bn1.running_mean, before)
    for module in kept:
        module.eval()
    before = network.model.bn1.running_mean.clone()
    network(IMAGES)
    assert torch.equal(network.model.bn1.running_mean, before)


@pytest.mark.parametrize("still", [True, False])
def test_statistics_stay_where_that_is_asked_for(still: bool) -> None:
    network, _ = tower(frozen_layers=3, frozen_statistics=still)
    before = {name: value.clone() for name, value in network.named_buffers() if "running" in name}
    network(IMAGES).pooled.sum().backward()
    moved = {name for name, value in network.named_buffers() if name in before and not torch.equal(value, before[name])}
    assert (not moved) == still
    assert network.model.bn2.weight.grad is not None
    with pytest.raises(ValueError, match="frozen_statistics: the network has no batch norm"):
        adapt(nn.Linear(1, 1), TowerConfig("timm", "x", frozen_statistics=True), lambda: None)


def test_depthwise_convolutions_train_in_float32() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 4, 1))
    plain = copy.deepcopy(network)
    depthwise_in_float32(network)
    assert [type(module) for module in network] == [Depthwise, nn.Conv2d]
    assert network.state_dict().keys() == plain.state_dict().keys()
    images = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(network(images), plain(images), atol=0, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert network[0](images).dtype == torch.float32
        torch.testing.assert_close(network[0](images), plain[0](images.float().clone()).float(), atol=0.05, rtol=0.05)
        assert network[0](images.bfloat16()).dtype == torch.float32
        with torch.no_grad():
            assert network[0](images).dtype == torch.bfloat16
        network[0].requires_grad_(False)
        assert network[0](images).dtype == torch.bfloat16
    network.requires_grad_(True).bfloat16()(images.bfloat16()).sum().backward()  # all in half precision: as it is


def test_gradient_checkpointing_above_what_is_frozen() -> None:
    network, _ = tower(frozen_layers=3, frozen_statistics=True)
    network.model.grad_checkpointing = True
    other = copy.deepcopy(network)
    other.model.grad_checkpointing = False
    for each in (network, other):
        each(IMAGES).pooled.square().sum().backward()
    for mine, expected in zip(network.parameters(), other.parameters(), strict=True):
        if expected.grad is not None:
            torch.testing.assert_close(mine.grad, expected.grad)
