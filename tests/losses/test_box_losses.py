"""The GIoU loss."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from gfocal.losses import giou_loss


def pairs(count: int = 100) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, count, 4, dtype=torch.float64, generator=generator) * 8
    a[:, 2:] += a[:, :2] + 0.1
    b[:, 2:] += b[:, :2] + 0.1
    return a, b


def test_equals_torchvision_with_gradient() -> None:
    a, b = pairs()
    ours, theirs = a.clone().requires_grad_(), a.clone().requires_grad_()
    loss, reference = giou_loss(ours, b), generalized_box_iou_loss(theirs, b)
    torch.testing.assert_close(loss, reference, rtol=1e-5, atol=1e-6)
    loss.sum().backward()
    reference.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)
    assert loss.shape == (100,)
    assert 0 <= loss.min().item() <= loss.max().item() <= 2


def test_equal_boxes_cost_nothing_and_distant_ones_nearly_two() -> None:
    a = torch.tensor([0.0, 0, 2, 2])
    assert giou_loss(a, a).item() == pytest.approx(0)
    assert giou_loss(a, a + 1000).item() == pytest.approx(2, abs=0.01)


def test_gradient_is_finite_for_boxes_without_area() -> None:
    boxes = torch.zeros(1, 4, requires_grad=True)
    giou_loss(boxes, torch.zeros(1, 4)).sum().backward()
    assert boxes.grad is not None
    assert boxes.grad.isfinite().all()


def test_gradcheck() -> None:
    a, b = pairs(10)
    assert torch.autograd.gradcheck(lambda v: giou_loss(v, b), (a.requires_grad_(),))
