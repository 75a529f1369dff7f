"""The GIoU loss, and the loss of the mean, which does not bend distributions."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import generalized_box_iou_loss

from gfocal.losses import distribution_focal_loss, giou_loss
from gfocal.losses.box import BoxLoss, mean_loss, overlap_loss
from gfocal.ops.boxes import boxes_from_distances, distances_to_edges
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Points


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


EDGE = GeneralDistribution(16)
SHARE = (0.3, 0.7)  # of the two labels below


def points_at(xy: torch.Tensor, strides: torch.Tensor) -> Points:
    """Points of no grid in particular."""
    return Points(xy, strides, torch.zeros(len(xy), 2, dtype=torch.int64), ((1, len(xy)),), (8,))


def two_labels(count: int = 6) -> tuple[Points, torch.Tensor]:
    """Boxes in pixels of objects whose right edge is at one of two places: points (count), boxes (2, count, 4)."""
    generator = torch.Generator().manual_seed(0)
    strides = torch.tensor([8.0, 16, 32]).repeat(count // 3).double()
    xy = 100 + 50 * torch.rand(count, 2, generator=generator, dtype=torch.float64)
    ltrb = 2 + 4 * torch.rand(2, count, 4, generator=generator, dtype=torch.float64)
    ltrb[1] = ltrb[0]
    ltrb[1, :, 2] += 2 + 4 * torch.rand(count, generator=generator, dtype=torch.float64)
    return points_at(xy, strides), boxes_from_distances(xy, ltrb * strides[:, None])


def expected_loss(logits: torch.Tensor, box_loss: BoxLoss, points: Points, labels: torch.Tensor) -> torch.Tensor:
    """The weighted sum of GFL, over both labels and all objects."""
    boxes = EDGE.boxes(logits, points)
    total = torch.zeros((), dtype=torch.float64)
    for share, gt_boxes in zip(SHARE, labels, strict=True):
        bins = distances_to_edges(points.xy, gt_boxes) / points.strides[:, None]
        dfl = distribution_focal_loss(logits, bins).mean(-1)
        total = total + share * (2 * box_loss(logits, EDGE, points, boxes, gt_boxes) + dfl / 4).sum()
    return total


@pytest.mark.parametrize(("box_loss", "bends"), [(mean_loss, False), (overlap_loss, True)])
def test_where_labels_scatter_the_loss_of_the_mean_is_least_at_their_law_and_giou_is_not(
    box_loss: BoxLoss, bends: bool
) -> None:
    points, labels = two_labels()
    two_hot = EDGE.two_hot(torch.stack([distances_to_edges(points.xy, b) / points.strides[:, None] for b in labels]))
    law = SHARE[0] * two_hot[0] + SHARE[1] * two_hot[1]  # (count, 4, K): the limit of DFL alone
    logits = law.clamp(min=1e-12).log().requires_grad_()
    (gradient,) = torch.autograd.grad(expected_loss(logits, box_loss, points, labels), logits)
    assert (gradient.abs().max().item() > 1e-2) is bends
    assert bends or gradient.abs().max().item() < 1e-9


def test_the_loss_of_the_mean_has_the_gradient_of_finite_differences() -> None:
    """With sides that stay as they are, as its gradient has them; labels within the regression range and beyond."""
    points, labels = two_labels()
    gt_boxes = labels[1].clone()
    gt_boxes[0, 2] += 1000
    gt_boxes[1, 0] += 1000
    logits = torch.randn(6, 4, 17, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sides = (EDGE.boxes(logits, points)[:, 2:] - EDGE.boxes(logits, points)[:, :2]).repeat(1, 2)
    wanted = distances_to_edges(points.xy, gt_boxes) / points.strides[:, None]
    assert (wanted > 16).any()
    assert (wanted < 0).any()

    def by_hand(logits: torch.Tensor) -> torch.Tensor:
        mean = EDGE.expectation(EDGE.probabilities(logits))
        error = (mean - wanted.clamp(0, 16)) * points.strides[:, None]
        return 5 * (error / sides).square().sum(-1)

    free = logits.clone().requires_grad_()
    loss = mean_loss(free, EDGE, points, EDGE.boxes(free, points), gt_boxes)
    torch.testing.assert_close(loss, by_hand(logits))
    (gradient,) = torch.autograd.grad(loss.sum(), free)
    step = 1e-6
    for place in [(0, 2, 3), (1, 0, 5), (2, 1, 0), (5, 3, 16)]:
        change = torch.zeros_like(logits)
        change[place] = step
        difference = (by_hand(logits + change) - by_hand(logits - change)).sum() / (2 * step)
        assert gradient[place].item() == pytest.approx(difference.item(), rel=1e-6, abs=1e-9)


def test_a_predicted_box_without_size_has_a_finite_loss_of_the_mean() -> None:
    points = points_at(torch.zeros(1, 2), torch.tensor([8.0]))
    logits = torch.zeros(1, 4, 17)
    logits[..., 0] = 200
    logits.requires_grad_()
    loss = mean_loss(logits, EDGE, points, EDGE.boxes(logits, points), torch.tensor([[-8.0, -8, 8, 8]]))
    assert loss.tolist() == [5.0 * 4]  # one stride off at each edge
    assert torch.autograd.grad(loss.sum(), logits)[0].isfinite().all()
