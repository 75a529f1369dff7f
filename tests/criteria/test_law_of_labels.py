"""What the losses of an edge are least at, where one image may have either of two labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.build import build_criterion
from gfocal.config.config import MethodSettings
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import Criterion, GFLCriterion
from gfocal.models.zoo import create
from gfocal.ops.boxes import distances_to_edges
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import make_points
from gfocal.structures import Assignment, HeadOutputs, Points, Targets, pad_targets

EDGE = GeneralDistribution(16)
POINTS = make_points([(8, 8)], (8,))
CENTER = 8 * 3 + 4  # the point (32, 24)
SIZES = torch.tensor([[64, 64]])


def assign_center(points: Points, targets: Targets, taking_part: Tensor) -> Assignment:
    """One point learns the one box, whatever its label."""
    gt_index = torch.full((1, len(points.xy)), -1)
    gt_index[0, CENTER] = 0
    return Assignment(gt_index, torch.tensor([[CENTER]]), torch.tensor([[True]]))


def criterion(box_loss: str) -> Criterion:
    found = build_criterion(
        create("gfl_r18_fpn", 2, pretrained=False, channels=32, num_convs=1),
        MethodSettings(box_loss="none" if box_loss == "none" else "giou"),
    )
    assert isinstance(found, DenseCriterion)
    return replace(found, assign=assign_center)


ALONE, WITH_GIOU = criterion("none"), criterion("giou")


def outputs(edges: Tensor) -> HeadOutputs:
    """Whose edges (4, 17) are logits at one point; elsewhere and in the scores nothing is certain."""
    box = torch.zeros(1, len(POINTS.xy), 4, EDGE.num_bins)
    mask = torch.zeros(len(POINTS.xy), 1, 1)
    mask[CENTER] = 1
    return HeadOutputs(torch.zeros(1, len(POINTS.xy), 2), box + mask * edges, POINTS)


def edge_loss(criterion: Criterion, edges: Tensor, labels: list[list[float]], share: float) -> Tensor:
    """Of the edges, over both labels, of which the second has this probability."""
    total = torch.zeros(())
    for weight, box in zip((1 - share, share), labels, strict=True):
        losses = criterion(outputs(edges), pad_targets([torch.tensor([box])], [torch.tensor([0])]), SIZES)
        total = total + weight * (losses.box + losses.dfl).sum()
    return total


def law(labels: list[list[float]], share: float) -> Tensor:
    """What DFL alone converges to. (4, 17)"""
    inner, outer = (EDGE.two_hot(distances_to_edges(POINTS.xy[CENTER], torch.tensor(b)) / 8) for b in labels)
    return (1 - share) * inner + share * outer


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.floats(16, 40), st.floats(0.2, 0.8))
def test_dfl_alone_is_least_at_the_law_of_the_labels(side: int, apart: float, share: float) -> None:
    labels = [[4.3, 3.1, 57.9, 50.2], [4.3, 3.1, 57.9, 50.2]]
    labels[1][side] += apart if side > 1 else -apart
    edges = law(labels, share).clamp(min=1e-9).log().requires_grad_()
    (alone,) = torch.autograd.grad(edge_loss(ALONE, edges, labels, share), edges)
    assert alone.abs().max().item() < 1e-5


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_with_giou_it_is_not(share: float) -> None:
    labels = [[4.3, 3.1, 57.9, 50.2], [4.3, 3.1, 90.0, 50.2]]
    edges = law(labels, share).clamp(min=1e-9).log().requires_grad_()
    (both,) = torch.autograd.grad(edge_loss(WITH_GIOU, edges, labels, share), edges)
    assert both[2].abs().max().item() > 1e-3


@pytest.mark.parametrize("chosen", [ALONE, WITH_GIOU], ids=["none", "giou"])
def test_gradients_are_those_of_finite_differences(chosen: Criterion) -> None:
    labels = [[4.3, 3.1, 57.9, 50.2], [4.3, 3.1, 75.0, 50.2]]
    edges = torch.randn(4, EDGE.num_bins, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (gradient,) = torch.autograd.grad(edge_loss(chosen, edges, labels, 0.3), edges)
    for place in [(0, 3), (1, 9), (2, 4), (3, 0), (3, 16)]:
        step = torch.zeros(4, EDGE.num_bins)
        step[place] = 0.02
        change = edge_loss(chosen, edges + step, labels, 0.3) - edge_loss(chosen, edges - step, labels, 0.3)
        assert gradient[place].item() == pytest.approx(change.item() / 0.04, rel=0.01, abs=2e-5)


def test_without_a_box_loss_scores_and_their_targets_stay_as_published() -> None:
    edges = torch.randn(4, EDGE.num_bins, generator=torch.Generator().manual_seed(0))
    targets = pad_targets([torch.tensor([[4.3, 3.1, 57.9, 50.2]])], [torch.tensor([0])])
    published = GFLCriterion(EDGE, assign=assign_center)(outputs(edges), targets, SIZES)
    alone = ALONE(outputs(edges), targets, SIZES)
    torch.testing.assert_close(alone.cls, published.cls)
    torch.testing.assert_close(alone.dfl, 4 * published.dfl)
    assert alone.box.tolist() == [0.0]
