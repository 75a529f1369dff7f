"""Depthwise convolutions in mixed precision on a processor."""

import copy

import torch
from torch import nn

from gfocal.models.convolutions import keep_depthwise_float32


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 5, 2, 2, groups=8), nn.Conv2d(8, 4, 1))


def test_only_depthwise_stays_in_float32_under_autocast() -> None:
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
