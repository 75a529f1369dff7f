"""Shared by the tests of all assigners: pyramids, random ground truth with corner cases, rules of an Assignment."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import torch

from device_waits import waits
from gfocal.ops.points import Origin, inside_own_padding, make_points
from gfocal.structures import BACKGROUND, PADDING, Assignment, Points, Targets, pad_targets

STRIDES = (8, 16, 32, 64, 128)
# Of the images of a batch that is 160 x 224 pixels.
SIZES = ((160, 224), (120, 90), (64, 200))

Box = Sequence[float]


def pyramid(height: int, width: int, origin: Origin = "center") -> Points:
    return make_points([(math.ceil(height / s), math.ceil(width / s)) for s in STRIDES], STRIDES, origin)


def with_anchors(points: Points) -> Points:
    """Two anchors for each cell: a square of 4 strides and a rectangle of 8 x 4, around the cell's point."""
    xy = points.xy.repeat_interleave(2, 0)
    strides = points.strides.repeat_interleave(2)
    half = strides.unsqueeze(1) * torch.tensor([[2.0, 2], [4, 2]]).repeat(len(points.xy), 1)
    cells = points.cells.repeat_interleave(2, 0)
    return Points(xy, strides, cells, points.shapes, points.level_strides, torch.cat((xy - half, xy + half), 1), 2)


def ground_truth(images: Sequence[Sequence[Box]], multiple: int = 8) -> Targets:
    boxes = [torch.tensor(b, dtype=torch.float32).reshape(-1, 4) for b in images]
    return pad_targets(boxes, [torch.zeros(len(b), dtype=torch.int64) for b in boxes], multiple=multiple)


def part_of(points: Points, sizes: Sequence[tuple[int, int]]) -> torch.Tensor:
    return inside_own_padding(points, torch.tensor(sizes))


def whole(points: Points) -> torch.Tensor:
    """One image that all points belong to. (1, P)"""
    return torch.ones(1, len(points.xy), dtype=torch.bool)


def random_boxes(count: int, size: tuple[int, int], generator: torch.Generator) -> list[list[float]]:
    """Boxes of every size, many of them crowded around one place, some beyond the image's border.

    Coordinates are whole quarters of a pixel: every sum and product of them is exact in float32, so that the
    slow way and ours see the same ties and the same decisions at the ends of ranges.
    """
    height, width = size
    center = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
    center[::2] = center[:1] + torch.randn(len(center[::2]), 2, generator=generator) * 12
    side = torch.exp(torch.rand(count, 2, generator=generator) * 4.5 + 1.5)
    return ((torch.cat((center - side / 2, center + side / 2), 1) * 4).round() / 4).tolist()


def random_images(seed: int) -> list[list[list[float]]]:
    """The boxes of the images of SIZES; some twice in one image, some of zero area, some images empty."""
    generator = torch.Generator().manual_seed(seed)

    def number(end: int) -> int:
        return int(torch.randint(0, end, (1,), generator=generator))

    images = []
    for size in SIZES:
        boxes = random_boxes(number(9), size, generator)
        if boxes and number(2):
            boxes.insert(number(len(boxes)), list(boxes[number(len(boxes))]))
        if number(2):
            x, y = 4.0 * number(size[1] // 4), 4.0 * number(size[0] // 4)
            boxes.insert(number(len(boxes) + 1), [x, y, x + 32 * number(2), y])
        images.append(boxes)
    return images


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def distances(xy: Sequence[float], box: Box) -> tuple[float, float, float, float]:
    """Left, top, right, bottom."""
    return xy[0] - box[0], xy[1] - box[1], box[2] - xy[0], box[3] - xy[1]


def levels_of(points: Points) -> list[int]:
    """The level of each point."""
    return [level for level, count in enumerate(points.counts) for _ in range(count)]


def masked(gt_index: Sequence[int], part: torch.Tensor) -> list[int]:
    return [g if takes_part else PADDING for g, takes_part in zip(gt_index, part.tolist(), strict=True)]


def check_rules(assignment: Assignment, targets: Targets, part: torch.Tensor) -> None:
    """Each positive point stands in exactly one positive slot; nobody predicts padding, and padding nothing."""
    gt_index = assignment.gt_index
    assert gt_index.dtype == assignment.slots.dtype == torch.int64
    assert gt_index.shape == part.shape
    assert (gt_index[~part] == PADDING).all()
    assert gt_index.min() >= PADDING
    assert gt_index.max() < targets.valid.shape[1]
    for i, row in enumerate(gt_index):
        points = assignment.slots[i][assignment.slot_positive[i]]
        assert points.sort().values.tolist() == (row >= 0).nonzero().flatten().tolist()
        assert targets.valid[i][row[row >= 0]].all()


def check_empty(assign: Callable[[Points, Targets, torch.Tensor], Assignment], points: Points) -> None:
    """Images without boxes are background, as far as they take part."""
    part = part_of(points, SIZES)
    got = assign(points, ground_truth([[], [], []]), part)
    assert torch.equal(got.gt_index, torch.where(part, BACKGROUND, PADDING))
    assert not got.slot_positive.any()


def check_alone(assign: Callable[[Points, Targets, torch.Tensor], Assignment], points: Points) -> None:
    """An image gets the same in a batch, with more rows of padding, as alone; rows that are not valid get nothing."""
    part = part_of(points, SIZES)
    images = random_images(1)
    images[1] = []
    together = assign(points, ground_truth(images, multiple=32), part)
    assert (together.gt_index >= 0).any()
    for i, boxes in enumerate(images):
        alone = assign(points, ground_truth([boxes], multiple=1), part[i : i + 1])
        assert torch.equal(together.gt_index[i], alone.gt_index[0])

    targets = ground_truth(images[:1])
    without_first = replace(targets, valid=targets.valid & (torch.arange(targets.valid.shape[1]) > 0))
    got = assign(points, without_first, part[:1]).gt_index
    want = assign(points, ground_truth([images[0][1:]]), part[:1]).gt_index
    assert torch.equal(got, torch.where(want >= 0, want + 1, want))


def check_never_waits(assign: Callable[[Points, Targets, torch.Tensor], Assignment], points: Points) -> None:
    targets, part = ground_truth(random_images(2)), part_of(points, SIZES)
    assert waits(lambda: assign(points, targets, part)) == Counter()


def check_compiles(assign: Callable[[Points, Targets, torch.Tensor], Assignment], points: Points) -> None:
    """Into one graph, with the same result."""
    targets, part = ground_truth(random_images(2)), part_of(points, SIZES)
    torch._dynamo.reset()
    want = assign(points, targets, part)
    got = torch.compile(assign, fullgraph=True, backend="aot_eager")(points, targets, part)
    assert (want.gt_index >= 0).any()
    for field in fields(Assignment):
        mine, other = getattr(want, field.name), getattr(got, field.name)
        assert (mine is None) == (other is None)
        assert mine is None or torch.equal(mine, other), field.name
