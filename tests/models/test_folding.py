"""Batch norms folded where nothing trains."""

import copy
from typing import Any

import pytest
import timm
import torch
from timm.layers import create_conv2d
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from rsretrieval.models.towers.folding import SamePadding, for_inference

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> Any:
    torch.manual_seed(0)
    network = timm.create_model("test_efficientnet", num_classes=0).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    return network


def folded(network: Any) -> Any:
    with torch.no_grad():
        return for_inference(network)


def test_equal_without_batch_norms(network: Any) -> None:
    copied = folded(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in copied.modules())
    with torch.no_grad():
        expected = network(IMAGES)
        assert expected.std() > 0.01
        torch.testing.assert_close(copied(IMAGES), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
    assert folded(network) is copied
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_made_anew_when_a_tensor_changes(network: Any) -> None:
    before = folded(network)
    with torch.no_grad():
        network.bn1.running_mean.add_(1)
    after = folded(network)
    assert after is not before
    with torch.no_grad():
        torch.testing.assert_close(after(IMAGES), network(IMAGES), atol=1e-3, rtol=1e-4)
    other = copy.deepcopy(network)
    assert folded(other) is not after


def test_not_where_it_would_be_wrong(network: Any) -> None:
    assert for_inference(network) is network  # gradients are taken
    resnet = timm.create_model("test_resnet").eval()
    assert folded(resnet) is resnet
    network.train()
    assert folded(network) is network
    network.eval()
    with torch.inference_mode():
        inside = copy.deepcopy(network)
        assert for_inference(inside) is inside


def test_of_what_is_frozen_where_the_rest_trains(network: Any) -> None:
    network.requires_grad_(False)
    with torch.inference_mode():
        copied = for_inference(network)
    assert for_inference(network) is copied is not network
    images = IMAGES.clone().requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(copied(images).sum(), images)[0],
        torch.autograd.grad(network(images).sum(), images)[0],
        atol=1e-4,
        rtol=1e-3,
    )


@pytest.mark.parametrize("size", [(64, 64), (65, 65), (64, 65), (13, 13), (2, 2)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (4, 2), (3, 1), (2, 3)])
def test_tensorflows_padding_without_a_copy(size: tuple[int, int], kernel: int, stride: int) -> None:
    convolution = create_conv2d(6, 6, kernel, stride=stride, padding="same", depthwise=True, bias=True)
    maps = torch.randn(2, 6, *size, generator=torch.Generator().manual_seed(0))
    same: Any = Conv2dSame(6, 6, kernel, stride=stride, groups=6)
    same.load_state_dict(convolution.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(SamePadding(same)(maps), same(maps), atol=1e-6, rtol=1e-5)


def test_a_tensorflow_network_has_it() -> None:
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    copied = folded(network)
    assert sum(isinstance(module, SamePadding) for module in copied.modules()) == 5
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
        torch.testing.assert_close(copied(images), expected, atol=1e-4 * float(expected.abs().max()), rtol=0)
