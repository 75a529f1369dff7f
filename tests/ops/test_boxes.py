"""Geometry of boxes against plain Python, and the laws that overlaps obey."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gfocal.ops.boxes import area, boxes_from_distances, clip_boxes, distances_to_edges, giou, iou

coordinate = st.floats(-50, 50, allow_nan=False, width=32)
length = st.floats(0.25, 60, allow_nan=False, width=32)


@st.composite
def solid_box(draw: st.DrawFn) -> Tensor:
    x, y, width, height = draw(coordinate), draw(coordinate), draw(length), draw(length)
    return torch.tensor([x, y, x + width, y + height], dtype=torch.float64)


def by_hand(a: Tensor, b: Tensor) -> tuple[float, float]:
    """IoU and GIoU of two boxes, number by number."""
    ax1, ay1, ax2, ay2 = a.tolist()
    bx1, by1, bx2, by2 = b.tolist()
    overlap = max(0.0, min(ax2, bx2) - max(ax1, bx1)) * max(0.0, min(ay2, by2) - max(ay1, by1))
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - overlap
    hull = (max(ax2, bx2) - min(ax1, bx1)) * (max(ay2, by2) - min(ay1, by1))
    return overlap / union, overlap / union - (hull - union) / hull


@given(solid_box(), solid_box())
def test_overlaps_equal_the_definition(a: Tensor, b: Tensor) -> None:
    want_iou, want_giou = by_hand(a, b)
    assert iou(a, b).item() == pytest.approx(want_iou, abs=1e-9)
    assert giou(a, b).item() == pytest.approx(want_giou, abs=1e-9)


@given(solid_box(), solid_box(), st.floats(0.1, 10), coordinate)
def test_overlaps_are_symmetric_bounded_and_free_of_unit_and_place(
    a: Tensor, b: Tensor, factor: float, shift: float
) -> None:
    for similarity in (iou, giou):
        value = similarity(a, b)
        assert value.item() == pytest.approx(similarity(b, a).item(), abs=1e-12)
        moved = similarity((a + shift) * factor, (b + shift) * factor)
        assert moved.item() == pytest.approx(value.item(), abs=1e-6)
        assert similarity(a, a).item() == pytest.approx(1.0)
    assert 0 <= iou(a, b).item() <= 1 + 1e-12
    assert -1 <= giou(a, b).item() <= iou(a, b).item() + 1e-12


def test_values_known_by_heart() -> None:
    unit = torch.tensor([0.0, 0, 1, 1])
    half = torch.tensor([0.5, 0, 1.5, 1])  # overlap 1/2, union 3/2, hull 3/2
    apart = torch.tensor([3.0, 0, 4, 1])  # union 2, hull 4
    assert iou(unit, half).item() == pytest.approx(1 / 3)
    assert giou(unit, half).item() == pytest.approx(1 / 3)
    assert iou(unit, apart).item() == 0
    assert giou(unit, apart).item() == pytest.approx(-0.5)


def test_boxes_without_area_score_zero_and_never_nan() -> None:
    point = torch.zeros(4)
    line = torch.tensor([0.0, 0, 5, 0])
    for a, b in ((point, point), (line, line), (point, torch.tensor([0.0, 0, 4, 4]))):
        assert iou(a, b).item() == 0
        assert -1 <= giou(a, b).item() <= 0
    assert area(line).item() == 0
    assert area(torch.tensor([[0.0, 0, 3, 4], [5, 5, 2, 9]])).tolist() == [12, 0]


def test_gradients_of_overlaps() -> None:
    a = torch.tensor([[0.0, 0, 4, 3], [0.5, 1, 2, 9], [10, 10, 12, 12]], dtype=torch.float64)
    b = torch.tensor([[1.0, 1, 6, 2], [0.2, 0, 3, 8], [20, 10, 25, 13]], dtype=torch.float64)
    a.requires_grad_()
    assert torch.autograd.gradcheck(giou, (a, b))
    assert torch.autograd.gradcheck(iou, (a, b))
    # Apart, the IoU is flat, and the GIoU still pulls the boxes together.
    far = torch.tensor([10.0, 10, 12, 12], requires_grad=True)
    giou(far, torch.tensor([20.0, 10, 25, 13])).backward()
    assert far.grad is not None
    assert far.grad[2].item() > 0


@given(coordinate, coordinate, st.lists(length, min_size=4, max_size=4))
def test_distances_and_boxes_are_inverse(x: float, y: float, sides: list[float]) -> None:
    xy, ltrb = torch.tensor([x, y], dtype=torch.float64), torch.tensor(sides, dtype=torch.float64)
    boxes = boxes_from_distances(xy, ltrb)
    assert boxes.tolist() == [x - sides[0], y - sides[1], x + sides[2], y + sides[3]]
    torch.testing.assert_close(distances_to_edges(xy, boxes), ltrb)


def test_a_distance_is_negative_beyond_the_edge() -> None:
    assert distances_to_edges(torch.tensor([1.0, 9]), torch.tensor([2.0, 3, 8, 7])).tolist() == [-1, 6, 7, -2]


def test_clipping_takes_width_for_x_and_height_for_y() -> None:
    boxes = torch.tensor([[-5.0, -5, 500, 500], [10, 20, 30, 40], [300, 5, 310, 10]])
    want = [[0, 0, 200, 100], [10, 20, 30, 40], [200, 5, 200, 10]]
    assert clip_boxes(boxes, 100, 200).tolist() == want
    assert clip_boxes(boxes, torch.tensor(100), torch.tensor(200)).tolist() == want
