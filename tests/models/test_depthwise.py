"""Depthwise convolutions in mixed precision on a processor."""

import copy

import pytest
import torch
from torch import nn

from gfocal.models.convolutions import _Depthwise5x5, keep_depthwise_float32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, 2, 2, groups=8), nn.Conv2d(8, 4, 1))


def test_a_stride_stays_in_float32_under_autocast() -> None:
    net, seen = network(), {}
    keep_depthwise_float32(net)
    for i, layer in enumerate(net):
        layer.register_forward_hook(lambda _, __, out, i=i: seen.__setitem__(i, out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        net(torch.randn(2, 3, 16, 16)).sum().backward()
    assert seen == {0: torch.bfloat16, 1: torch.float32, 2: torch.bfloat16}
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())


def test_nothing_changes_without_autocast() -> None:
    plain, kept = network(), network()
    keep_depthwise_float32(kept)
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(plain(images), kept(images))
    assert plain.state_dict().keys() == kept.state_dict().keys()


def test_a_copy_computes_with_its_own_weights() -> None:
    net = network()
    keep_depthwise_float32(net)
    twin = copy.deepcopy(net)
    images = torch.randn(2, 3, 16, 16)
    before = net(images)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    assert torch.equal(twin(images), before)


@pytest.mark.parametrize("size", [3, 5, 7])
def test_without_a_stride_gradients_are_those_of_the_plain_convolution(size: int) -> None:
    """In bf16 up to its rounding; a map smaller than the kernel too."""
    for side in (9, 2):
        torch.manual_seed(size)
        plain = nn.Conv2d(6, 6, size, padding=size // 2, groups=6, bias=False)
        changed = nn.Sequential(copy.deepcopy(plain))
        keep_depthwise_float32(changed)
        images = torch.randn(2, 6, side, side).contiguous(memory_format=torch.channels_last)
        one, other = images.clone().requires_grad_(), images.clone().requires_grad_()
        factors = torch.randn(2, 6, side, side)
        (plain(one) * factors).sum().backward()
        with torch.autocast("cpu", torch.bfloat16):
            found = changed(other)
        assert found.dtype == (torch.float32 if size == 7 else torch.bfloat16)
        (found * factors).sum().backward()
        for want, got in ((one.grad, other.grad), (plain.weight.grad, changed[0].weight.grad)):
            assert (got - want).norm() < 0.02 * want.norm()


def test_parts_add_up_to_the_weight_gradient() -> None:
    """In float64, exactly; also where the maps need no gradient."""
    maps = torch.randn(2, 3, 7, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_Depthwise5x5.apply, (maps, weight))
    (alone,) = torch.autograd.grad(_Depthwise5x5.apply(maps.detach(), weight).sum(), weight)
    (both,) = torch.autograd.grad(_Depthwise5x5.apply(maps, weight).sum(), weight)
    assert torch.equal(alone, both)
