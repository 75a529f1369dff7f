"""Gradient checkpointing: the same gradients and statistics from less memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from gfocal.models.backbone import TimmBackbone

NETWORKS = ["resnet18.tv_in1k", "tf_efficientnet_lite0.in1k", "mobilenetv4_conv_small.e2400_r224_in1k"]


def trained_once(backbone: TimmBackbone, images: Tensor) -> int:
    """One pass there and back; returns the bytes that were kept for the way back."""
    kept: dict[int, int] = {}

    def pack(value: Tensor) -> Tensor:
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    torch.manual_seed(3)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = sum((m.square().mean() for m in backbone.train()(images)), torch.zeros(()))
    loss.backward()
    weights = {value.untyped_storage().data_ptr() for value in backbone.state_dict().values()}
    return sum(size for pointer, size in kept.items() if pointer not in weights)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_and_statistics_are_the_same_to_the_last_bit(name: str) -> None:
    torch.manual_seed(0)
    plain = TimmBackbone(name, pretrained=False, frozen_stages=1)
    lean = copy.deepcopy(plain)
    lean.recompute = True
    images = torch.randn(2, 3, 128, 128)
    much, little = trained_once(plain, images), trained_once(lean, images)
    assert little < 0.5 * much
    states = zip(plain.state_dict().items(), lean.state_dict().values(), strict=True)
    assert all(torch.equal(value, other) for (_, value), other in states)
    for (key, one), other in zip(plain.named_parameters(), lean.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        assert one.grad is None or torch.equal(one.grad, other.grad), key  # type: ignore[arg-type]
    assert any(one.grad is not None for one in plain.parameters())


def test_a_copy_calls_its_own_stages() -> None:
    """As the average of the weights is one."""
    lean = TimmBackbone(NETWORKS[0], pretrained=False)
    lean.recompute = True
    trained_once(lean, torch.randn(2, 3, 64, 64))
    copied = copy.deepcopy(lean)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.zero_()
    assert not any(m.any() for m in copied.eval()(torch.randn(1, 3, 64, 64)))
    assert all("forward" not in vars(module) for module in lean.modules())


def test_evaluation_is_untouched() -> None:
    lean = TimmBackbone(NETWORKS[0], pretrained=False).eval()
    images = torch.randn(1, 3, 64, 64)
    before = lean(images)
    lean.recompute = True
    assert all(torch.equal(a, b) for a, b in zip(before, lean(images), strict=True))
