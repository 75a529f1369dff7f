"""Points with anchors: the published shapes, their order, and torchvision's generator as a witness."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from gfocal.ops.points import (
    ATSS_ANCHORS,
    RETINANET_ANCHORS,
    AnchorShapes,
    Origin,
    inside_own_padding,
    make_anchor_points,
    make_points,
    make_pyramid_points,
)

SHAPES = ((3, 4), (2, 2))
STRIDES = (8, 16)


def sizes_of(anchors: Tensor) -> Tensor:
    return anchors[..., 2:] - anchors[..., :2]


def test_the_first_cell_of_retinanet() -> None:
    """Half widths and heights of 4 * 2^(i/3) * 8 pixels at the ratios 1/2, 1, 2, ratio by ratio."""
    points = make_anchor_points(SHAPES, STRIDES, RETINANET_ANCHORS)
    root, third = 2**0.5, 2 ** (1 / 3)
    halves = [
        (16 * scale / ratio_root, 16 * scale * ratio_root)
        for ratio_root in (1 / root, 1, root)
        for scale in (1, third, third**2)
    ]
    want = torch.tensor([[-w, -h, w, h] for w, h in halves])
    assert points.anchors is not None
    torch.testing.assert_close(points.anchors[:9], want)


def test_anchors_follow_cells_and_cells_follow_rows_and_levels() -> None:
    points = make_anchor_points(SHAPES, STRIDES, RETINANET_ANCHORS)
    bare = make_points(SHAPES, STRIDES)
    assert points.anchors is not None
    assert points.per_cell == 9
    assert points.counts == [108, 36]
    assert (points.shapes, points.level_strides) == (SHAPES, STRIDES)
    for name in ("xy", "strides", "cells"):
        own, of_cell = getattr(points, name), getattr(bare, name)
        assert torch.equal(own.unflatten(0, (-1, 9)), of_cell.unsqueeze(1).expand(-1, 9, *of_cell.shape[1:]))
    sizes = (sizes_of(points.anchors) / points.strides.unsqueeze(-1)).unflatten(0, (-1, 9))
    torch.testing.assert_close(sizes, RETINANET_ANCHORS.sizes().expand(16, 9, 2))
    centers = (points.anchors[:, :2] + points.anchors[:, 2:]) / 2
    torch.testing.assert_close(centers, points.xy, atol=1e-4, rtol=0)


def test_the_one_anchor_of_atss_is_a_square_of_eight_strides_at_the_corner() -> None:
    points = make_anchor_points(SHAPES, STRIDES, ATSS_ANCHORS)
    assert points.per_cell == 1
    assert torch.equal(points.xy, make_points(SHAPES, STRIDES, "corner").xy)
    assert points.anchors is not None
    assert torch.equal(sizes_of(points.anchors), 8 * points.strides.unsqueeze(-1).expand(-1, 2))
    assert points.anchors[0].tolist() == [-32, -32, 32, 32]


def test_torchvision_lays_retinanets_anchors_alike() -> None:
    """Its cell corners are rounded to whole pixels."""
    third = 2 ** (1 / 3)
    sides = tuple(tuple(4 * stride * third**i for i in range(3)) for stride in STRIDES)
    generator = AnchorGenerator(sides, ((0.5, 1.0, 2.0),) * len(STRIDES))
    shapes = [(4, 6), (2, 3)]
    (theirs,) = generator(ImageList(torch.zeros(1, 3, 32, 48), [(32, 48)]), [torch.zeros(1, 1, *s) for s in shapes])
    ours = make_anchor_points(shapes, STRIDES, RETINANET_ANCHORS).anchors
    assert ours is not None
    assert (ours - theirs).abs().max().item() <= 0.5001


@pytest.mark.parametrize("origin", ["corner", "legacy", "center"])
def test_bare_points_lie_at_the_origin(origin: Origin) -> None:
    points = make_pyramid_points(SHAPES, STRIDES, origin)
    assert points.anchors is None
    assert torch.equal(points.xy, make_points(SHAPES, STRIDES, origin).xy)
    assert make_pyramid_points(SHAPES, STRIDES, ATSS_ANCHORS).anchors is not None


def test_all_anchors_of_a_cell_take_part_or_none() -> None:
    points = make_anchor_points([(8, 8), (4, 4)], [8, 16], AnchorShapes(4.0, 2))
    taking_part = inside_own_padding(points, torch.tensor([[64, 33], [20, 64]]))
    of_cell = inside_own_padding(make_points([(8, 8), (4, 4)], [8, 16]), torch.tensor([[64, 33], [20, 64]]))
    assert torch.equal(taking_part, of_cell.repeat_interleave(2, 1))
    assert not taking_part.all()


def test_select_takes_the_anchors_along() -> None:
    points = make_anchor_points(SHAPES, STRIDES, RETINANET_ANCHORS)
    index = torch.tensor([[0, 143], [9, 1]])
    some = points.select(index)
    assert points.anchors is not None
    assert some.anchors is not None
    assert torch.equal(some.anchors, points.anchors[index])
    assert some.xy.shape == (2, 2, 2)


def test_on_a_device_without_data() -> None:
    points = make_anchor_points(SHAPES, STRIDES, RETINANET_ANCHORS, "meta")
    assert points.anchors is not None
    assert points.anchors.device.type == points.xy.device.type == points.cells.device.type == "meta"
    assert points.anchors.shape == (144, 4)
