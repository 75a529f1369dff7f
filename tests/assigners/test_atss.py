"""ATSS against a slow reimplementation, one box and one point at a time, and its corner cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.assigners.atss import assign_atss, mean_plus_std, nearest_points
from gfocal.ops.points import AnchorShapes, Origin, inside_own_padding, make_anchor_points, make_points
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets, pad_targets

STRIDES = (8, 16, 32, 64, 128)


def pyramid(height: int, width: int) -> Points:
    return make_points([(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES], STRIDES)


def ground_truth(*images: Sequence[Sequence[float]], multiple: int = 8) -> Targets:
    boxes = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in images]
    return pad_targets(boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes], multiple=multiple)


def assign(points: Points, targets: Targets, sizes: Sequence[tuple[int, int]]) -> Assignment:
    return assign_atss(points, targets, inside_own_padding(points, torch.tensor(sizes)))


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_atss(points: Points, boxes: list[list[float]], part: list[bool]) -> tuple[list[int], float]:
    """The ground-truth box of every point of one image, and how near the closest decision was."""
    xy, strides = points.xy.tolist(), points.strides.tolist()
    best = [(0.0, BACKGROUND) if takes_part else (0.0, PADDING) for takes_part in part]
    margin = math.inf
    for g, box in enumerate(boxes):
        center = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        candidates, start = [], 0
        for count in points.counts:
            level = [p for p in range(start, start + count) if part[p]]
            level.sort(key=lambda p: math.dist(xy[p], center))
            candidates += level[:9]
            if len(level) > 9:
                margin = min(margin, math.dist(xy[level[9]], center) - math.dist(xy[level[8]], center))
            start += count
        overlaps = []
        for p in candidates:
            (x, y), half = xy[p], strides[p] * 4
            overlaps.append(overlap((x - half, y - half, x + half, y + half), box))
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for p, value in zip(candidates, overlaps, strict=True):
            x, y = xy[p]
            gap = min(x - box[0], y - box[1], box[2] - x, box[3] - y)
            margin = min(margin, abs(value - threshold), abs(gap - 0.01))
            if value >= threshold and gap > 0.01:
                if best[p][1] >= 0:
                    margin = min(margin, abs(value - best[p][0]))
                if value > best[p][0]:
                    best[p] = (value, g)
    return [g for _, g in best], margin


def random_boxes(count: int, height: int, width: int, generator: torch.Generator) -> list[list[float]]:
    """Boxes of every size, many of them crowded around one place."""
    center = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    center[::2] = center[:1] + torch.randn(len(center[::2]), 2, generator=generator) * 12
    side = torch.exp(torch.rand(count, 2, generator=generator) * 4.5 + 1.5)
    return torch.cat((center - side / 2, center + side / 2), 1).tolist()


@settings(max_examples=25)
@given(st.integers(0, 10**6))
def test_equals_the_slow_way_on_random_scenes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sizes = [(160, 224), (120, 90), (64, 200)]
    points = pyramid(160, 224)
    images = [random_boxes(int(torch.randint(0, 9, (1,), generator=generator)), *size, generator) for size in sizes]
    part = inside_own_padding(points, torch.tensor(sizes))
    got = assign_atss(points, ground_truth(*images), part)
    for i, boxes in enumerate(images):
        want, margin = slow_atss(points, boxes, part[i].tolist())
        assume(margin > 1e-5)  # nearer decisions are a matter of rounding
        assert got.gt_index[i].tolist() == want
        check_slots(got, i)


def check_slots(assignment: Assignment, i: int) -> None:
    """Each positive point stands in exactly one positive slot, of the box it is assigned to."""
    points = assignment.slots[i][assignment.slot_positive[i]]
    positive = (assignment.gt_index[i] >= 0).nonzero().flatten()
    assert points.sort().values.tolist() == positive.tolist()


def test_a_batch_gives_what_its_images_give_alone() -> None:
    generator = torch.Generator().manual_seed(5)
    sizes = [(128, 128), (96, 128), (128, 33)]
    images = [random_boxes(n, *size, generator) for n, size in zip((7, 0, 3), sizes, strict=True)]
    points = pyramid(128, 128)
    together = assign(points, ground_truth(*images, multiple=16), sizes)
    for i, (boxes, size) in enumerate(zip(images, sizes, strict=True)):
        alone = assign(points, ground_truth(boxes, multiple=1), [size])
        assert torch.equal(together.gt_index[i], alone.gt_index[0])
    assert (together.gt_index[1] < 0).all()
    assert (together.gt_index[0] >= 0).any()
    assert (together.gt_index[2] >= 0).any()


def test_padding_cells_are_no_candidates() -> None:
    """A box beyond its image's own cells takes what lies nearest inside, and nothing outside."""
    points = pyramid(128, 256)
    sizes = [(128, 64)]
    part = inside_own_padding(points, torch.tensor(sizes))
    got = assign(points, ground_truth([[40, 40, 110, 110]]), sizes).gt_index
    assert torch.equal(got == PADDING, ~part)
    assert ((got >= 0) & part).any()
    want, _ = slow_atss(points, [[40, 40, 110, 110]], part[0].tolist())
    assert got[0].tolist() == want


def test_a_point_goes_to_the_box_it_overlaps_more_whatever_the_order() -> None:
    points = pyramid(128, 128)
    small, large = [32.3, 32.2, 96.1, 96.4], [24.3, 26.2, 104.1, 100.4]
    one_way = assign(points, ground_truth([small, large]), [(128, 128)]).gt_index[0]
    other_way = assign(points, ground_truth([large, small]), [(128, 128)]).gt_index[0]
    assert {0, 1} <= set(one_way.tolist())
    swapped = torch.where(other_way >= 0, 1 - other_way, other_way)
    assert torch.equal(one_way, swapped)
    alone = [assign(points, ground_truth([b]), [(128, 128)]).gt_index[0] == 0 for b in (small, large)]
    assert (alone[0] & alone[1]).any()  # else there was no conflict


def test_of_two_identical_boxes_the_first_gets_all_points() -> None:
    points = pyramid(128, 128)
    box = [30.3, 31.2, 90.1, 97.4]
    alone = assign(points, ground_truth([box]), [(128, 128)])
    twice = assign(points, ground_truth([box, box]), [(128, 128)])
    assert (alone.gt_index >= 0).sum().item() > 0
    assert torch.equal(twice.gt_index, alone.gt_index)
    assert twice.slot_positive.sum().item() == alone.slot_positive.sum().item()


@pytest.mark.parametrize(
    "box",
    [
        [40.0, 40, 40, 40],  # a point, on a cell's point
        [40.0, 20, 40, 90],  # a line
        [41.0, 41, 47, 47],  # tiny, between the points
        [40.0, 40, 46, 47],  # its only point is its corner
    ],
)
def test_a_box_around_no_point_gets_none(box: list[float]) -> None:
    got = assign(pyramid(128, 128), ground_truth([box]), [(128, 128)])
    assert (got.gt_index == BACKGROUND).all()
    assert not got.slot_positive.any()


def test_a_tiny_box_gets_the_point_inside() -> None:
    points = pyramid(128, 128)
    got = assign(points, ground_truth([[39.0, 39, 42, 42]]), [(128, 128)]).gt_index[0]
    taken = (got == 0).nonzero().flatten()
    assert points.xy[taken].tolist() == [[40, 40]]
    assert points.strides[taken].tolist() == [8]


def test_rows_that_are_not_valid_are_no_boxes() -> None:
    targets = ground_truth([[30.3, 31.2, 90.1, 97.4], [10.1, 10.2, 70.3, 70.4]], multiple=2)
    unsaid = replace(targets, valid=torch.tensor([[False, True]]))
    got = assign(pyramid(128, 128), unsaid, [(128, 128)])
    alone = assign(pyramid(128, 128), ground_truth([[10.1, 10.2, 70.3, 70.4]]), [(128, 128)])
    assert torch.equal(got.gt_index == 1, alone.gt_index == 0)
    assert not (got.gt_index == 0).any()


def test_images_without_boxes_are_background_throughout() -> None:
    got = assign(pyramid(96, 64), ground_truth([], []), [(96, 64), (64, 64)])
    assert (got.gt_index[0] == BACKGROUND).all()
    assert set(got.gt_index[1].tolist()) == {BACKGROUND, PADDING}
    assert not got.slot_positive.any()


def test_levels_with_fewer_cells_than_candidates_give_what_they_have() -> None:
    points = pyramid(64, 64)  # 64, 16, 4, 1 and 1 cells
    part = torch.ones(1, len(points.xy), dtype=torch.bool)
    part[0, 64 + 3 : 64 + 16] = False  # and 3 of the 16 take part
    index, counted = nearest_points(points, torch.tensor([[[10.3, 9.1, 50.2, 60.3]]]), part, 9)
    assert index.shape == counted.shape == (1, 1, 9 + 9 + 4 + 1 + 1)
    per_level = counted[0, 0].split([9, 9, 4, 1, 1])
    assert [int(level.sum()) for level in per_level] == [9, 3, 4, 1, 1]
    assert part[0, index[0, 0][counted[0, 0]]].all()
    assert index[counted].unique().numel() == int(counted.sum())


def test_mean_plus_std_is_unbiased_and_of_the_counted_alone() -> None:
    values = torch.tensor([0.1, 0.4, 0.7, 9.0])
    counted = torch.tensor([True, True, True, False])
    assert mean_plus_std(values, counted).item() == pytest.approx(0.4 + 0.3)
    assert mean_plus_std(values, torch.tensor([False, True, False, False])).item() == pytest.approx(0.4)
    assert mean_plus_std(values, torch.zeros(4, dtype=torch.bool)).item() == 0


def dense_nearest(points: Points, gt_boxes: Tensor, part: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """``nearest_points`` by the distances of all points, as the reference implementation does it."""
    centers = (gt_boxes[..., :2] + gt_boxes[..., 2:]) / 2
    indices, counted, start = [], [], 0
    for count in points.counts:
        offset = points.xy[None, start : start + count, None] - centers[:, None]  # (B, h*w, G, 2)
        distance = (offset * offset).sum(-1).sqrt()
        distance = distance.masked_fill(~part[:, start : start + count, None], torch.inf)
        nearest, index = distance.topk(min(topk, count), dim=1, largest=False)  # (B, k, G)
        indices.append(index.transpose(1, 2) + start)
        counted.append(nearest.transpose(1, 2).isfinite())
        start += count
    return torch.cat(indices, 2), torch.cat(counted, 2)


def same_points(got: tuple[Tensor, Tensor], want: tuple[Tensor, Tensor]) -> bool:
    """Whether the points that count are the same, and each only once."""
    mine, other = (torch.where(counted, index, -1).sort(-1).values for index, counted in (got, want))
    return torch.equal(mine, other)


def placed_boxes(seed: int, height: int, width: int, step: float) -> Tensor:
    """(2, 12, 4) boxes with centers inside and up to some hundred pixels outside of it, on a grid of ``step``."""
    generator = torch.Generator().manual_seed(seed)
    center = (torch.rand(2, 12, 2, generator=generator) * 1.6 - 0.3) * torch.tensor([width, height])
    side = torch.exp(torch.rand(2, 12, 2, generator=generator) * 4 + 1)
    center = (center / step).round() * step
    return torch.cat((center - side.round(), center + side.round()), -1)


@settings(max_examples=60)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0.5, 4.0, 8.0, 1e-3]),
    st.sampled_from([(160, 224), (64, 96), (32, 32), (416, 320)]),
    st.sampled_from([1, 3, 9, 13]),
    st.sampled_from(["corner", "center", "legacy"]),
)
def test_the_window_gives_what_topk_of_all_points_gives(
    seed: int, step: float, size: tuple[int, int], topk: int, origin: Origin
) -> None:
    """Centers on points and between them, where many distances tie, outside the image, and images with padding."""
    shapes = [(math.ceil(size[0] / s), math.ceil(size[1] / s)) for s in STRIDES]
    points = make_points(shapes, STRIDES, origin)
    part = inside_own_padding(points, torch.tensor([size, (size[0] // 2, size[1] * 2 // 3)]))
    gt_boxes = placed_boxes(seed, *size, step)
    got = nearest_points(points, gt_boxes, part, topk)
    want = dense_nearest(points, gt_boxes, part, topk)
    assert got[0].shape == want[0].shape
    assert same_points(got, want)


def test_several_points_of_a_cell_are_all_candidates() -> None:
    """Of anchors at one place those of the nearest cells; the first where not all are taken."""
    points = make_anchor_points([(12, 10)], [8], AnchorShapes(4.0, 1, (0.5, 1.0)))
    part = torch.ones(2, len(points.xy), dtype=torch.bool)
    gt_boxes = placed_boxes(3, 96, 80, 0.5)
    assert same_points(nearest_points(points, gt_boxes, part, 9), dense_nearest(points, gt_boxes, part, 9))


def test_boxes_that_are_no_numbers_are_assigned_to_nothing() -> None:
    points = pyramid(64, 64)
    got = assign(points, ground_truth([[math.nan] * 4, [math.inf] * 4, [8.0, 8, 40, 40]]), [(64, 64)]).gt_index
    assert set(got.unique().tolist()) == {BACKGROUND, 2}


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_the_slots_have_room_for_all_that_become_positive(seed: int) -> None:
    """Fewer than half of the candidates can be positive: none is lost by slots for half of them."""
    generator = torch.Generator().manual_seed(seed)
    points = pyramid(160, 224)
    box = random_boxes(1, 160, 224, generator)
    part = inside_own_padding(points, torch.tensor([(160, 224)]))
    want, margin = slow_atss(points, box, part[0].tolist())
    assume(margin > 1e-5)
    got = assign_atss(points, ground_truth(box, multiple=1), part)
    assert got.slots.shape[1] < 45
    assert int(got.slot_positive.sum()) == sum(g == 0 for g in want)


def test_ties_of_distance_go_as_topk_over_points_decides() -> None:
    """Integer boxes tie often, here at rank 9; the published models were trained with topk along (P, G).

    A stable sort would take other points for each of these boxes.
    """
    points = pyramid(128, 128)
    gt_boxes = torch.tensor([[21.0, 56, 60, 96], [44, 0, 84, 41], [22, 34, 62, 74]])
    part = torch.ones(2, len(points.xy), dtype=torch.bool)
    index, _ = nearest_points(points, gt_boxes.expand(2, 3, 4), part, 9)
    for g, box in enumerate(gt_boxes):
        center = (box[:2] + box[2:]) / 2
        distance = (points.xy[:256] - center).square().sum(1).sqrt()
        want: Tensor = distance.unsqueeze(1).topk(9, dim=0, largest=False).indices.squeeze(1)
        for image in index:
            assert set(image[g, :9].tolist()) == set(want.tolist())
