"""The grid of locations, and which of them take part in training."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.ops.points import Origin, drop_empty_slots, inside_own_padding, make_points, origin_offset
from gfocal.structures import Assignment


def test_points_are_row_major_and_levels_follow_each_other() -> None:
    points = make_points([(2, 3), (1, 2)], [8, 16])
    assert points.xy.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]
    assert points.cells.tolist() == [[0, 0], [1, 0], [2, 0], [0, 1], [1, 1], [2, 1], [0, 0], [1, 0]]
    assert points.strides.tolist() == [8.0] * 6 + [16.0] * 2
    assert points.counts == [6, 2]
    assert points.shapes == ((2, 3), (1, 2))
    assert points.level_strides == (8, 16)


@pytest.mark.parametrize(("origin", "offset"), [("corner", 0.0), ("legacy", 3.5), ("center", 4.0)])
def test_origin_moves_every_point(origin: Origin, offset: float) -> None:
    assert origin_offset(origin, 8) == offset
    moved, corner = make_points([(2, 2)], [8], origin), make_points([(2, 2)], [8])
    assert torch.equal(moved.xy, corner.xy + offset)


def test_an_unknown_origin_and_unequal_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="corner, legacy or center, not 'middle'"):
        make_points([(1, 1)], [8], "middle")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        make_points([(1, 1), (1, 1)], [8])


sizes = st.integers(1, 200)


@given(st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3))
def test_an_image_takes_part_with_the_cells_of_its_own_padded_size(images: list[tuple[int, int]]) -> None:
    strides = (8, 16, 32, 64, 128)
    height = 32 * math.ceil(max(h for h, _ in images) / 32)
    width = 32 * math.ceil(max(w for _, w in images) / 32)
    points = make_points([(math.ceil(height / s), math.ceil(width / s)) for s in strides], strides)
    got = inside_own_padding(points, torch.tensor(images))
    for row, (h, w) in zip(got, images, strict=True):
        padded_h, padded_w = 32 * math.ceil(h / 32), 32 * math.ceil(w / 32)
        want = [
            y < math.ceil(padded_h / s) and x < math.ceil(padded_w / s)
            for (x, y), s in zip(points.cells.tolist(), points.strides.tolist(), strict=True)
        ]
        assert row.tolist() == want


def test_the_largest_image_of_a_batch_takes_part_with_all_points() -> None:
    points = make_points([(8, 16), (1, 1)], [8, 128])
    part = inside_own_padding(points, torch.tensor([[64, 128], [33, 20]]))
    assert part[0].all()
    assert part[1].sum().item() == 8 * 4 + 1  # 64 x 32 pixels at stride 8, and the one cell of stride 128


@given(st.integers(0, 200), st.integers(0, 2**31), st.floats(0, 1))
def test_slots_with_ground_truth_stay_in_order_when_empty_ones_are_dropped(
    slots: int, seed: int, share: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positive = torch.rand(2, slots, generator=generator) < share
    numbers = torch.stack([torch.randperm(300, generator=generator)[:slots] for _ in range(2)])
    before = Assignment(torch.zeros(2, 300, dtype=torch.int64), numbers, positive, torch.rand(2, slots))
    after = drop_empty_slots(before)
    most = int(positive.sum(1).max()) if slots else 0
    assert after.slots.shape[1] == min(slots, max(64, 64 * math.ceil(most / 64)))
    assert before.weights is not None
    assert after.weights is not None
    for image in range(2):
        kept, was = after.slot_positive[image], positive[image]
        assert torch.equal(after.slots[image][kept], numbers[image][was])
        assert torch.equal(after.weights[image][kept], before.weights[image][was])
    assert after.gt_index is before.gt_index
