"""Laws of the tiles of a large image, and of how their detections are merged."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.ops.decoding import DecodeSettings, suppress
from gfocal.ops.seams import compare_tiles, concatenate, merge_tiles
from gfocal.ops.tiles import (
    Tile,
    Tiling,
    count_tiles,
    find_own,
    level_sizes,
    move_to_image,
    resize_detections,
    tile_starts,
    tiles_of_level,
)
from gfocal.structures import Detections

tilings = st.builds(
    Tiling,
    size=st.integers(32, 400),
    overlap=st.floats(0, 0.75),
    grid=st.one_of(st.just(1.0), st.floats(1, 80)),
)
sizes = st.tuples(st.integers(1, 3000), st.integers(1, 3000))


def make(*boxes: tuple[float, float, float, float], scores: tuple[float, ...] = (), size: int = 100) -> Detections:
    """Detections of class 0 in a square image."""
    count = len(boxes)
    return Detections(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores or [0.5] * count),
        labels=torch.zeros(count, dtype=torch.int64),
        edges=torch.softmax(torch.arange(count * 4 * 9).reshape(count, 4, 9) % 7 / 2.0, -1),
        points=torch.tensor([((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in boxes]).reshape(-1, 2),
        bin_sizes=torch.full((count, 4), 8.0),
        names=("thing", "other"),
        size=(size, size),
    )


@given(st.integers(1, 5000), tilings)
def test_tiles_of_a_row_cover_it_and_overlap_as_asked(length: int, tiling: Tiling) -> None:
    starts = tile_starts(length, tiling)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert starts[-1] + tiling.size >= length
    assert all(a + tiling.size - b >= tiling.overlap_pixels for a, b in pairwise(starts))
    # The last one ends with the image, or less than a cell of the grid behind it.
    assert len(starts) == 1 or starts[-1] + tiling.size < length + tiling.grid + 1
    if tiling.grid <= tiling.size - tiling.overlap_pixels:
        cells = [start / tiling.grid for start in starts]
        assert all(abs(cell - round(cell)) * tiling.grid <= 1 for cell in cells)


@given(sizes, tilings)
def test_every_pixel_belongs_to_one_tile_that_has_it(size: tuple[int, int], tiling: Tiling) -> None:
    tiles = list(tiles_of_level(0, size, tiling))
    for y in (0, size[0] // 3, size[0] - 1):
        for x in (0, size[1] // 2, size[1] - 1):
            owners = [t for t in tiles if t.own[0] <= x < t.own[2] and t.own[1] <= y < t.own[3]]
            assert len(owners) == 1
            assert owners[0].left <= x < owners[0].left + tiling.size
            assert owners[0].top <= y < owners[0].top + tiling.size


@given(sizes, tilings)
def test_the_coarsest_level_is_one_tile(size: tuple[int, int], tiling: Tiling) -> None:
    levels = level_sizes(size, tiling)
    assert levels[0] == size
    assert max(levels[-1]) <= tiling.size
    assert all(max(level) > tiling.size for level in levels[:-1])
    assert len(list(tiles_of_level(len(levels) - 1, levels[-1], tiling))) == 1
    assert count_tiles(size, tiling) >= len(levels)
    assert level_sizes(size, replace(tiling, levels=1)) == [size]


@given(st.data(), sizes, tilings)
def test_an_object_is_whole_and_asked_for_in_a_tile_of_some_level(
    data: st.DataObject, size: tuple[int, int], tiling: Tiling
) -> None:
    height, width = size
    x1, y1 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x2, y2 = data.draw(st.integers(x1 + 1, width)), data.draw(st.integers(y1 + 1, height))
    found = []
    for level, level_size in enumerate(level_sizes(size, tiling)):
        for tile in tiles_of_level(level, level_size, tiling):
            shift = torch.tensor([tile.left, tile.top] * 2)
            in_tile = torch.tensor([[x1, y1, x2, y2]]) / tile.scale - shift
            seen = replace(make((0, 0, 1, 1)), boxes=in_tile.clamp(0, tiling.size))
            if find_own(seen, tile, tiling)[0]:
                assert torch.equal(in_tile, seen.boxes)  # nothing that the tile cuts counts
                found.append((tile, move_to_image(seen, tile, size)))
    assert found
    if max(x2 - x1, y2 - y1) <= tiling.largest_side:
        assert found[0][0].level == 0
    for _, one in found:
        torch.testing.assert_close(one.boxes, torch.tensor([[x1, y1, x2, y2]]).float(), atol=0.01, rtol=0)
    merged = merge_tiles(found, DecodeSettings())
    assert len(merged) == 1


def test_what_edges_know_moves_with_them() -> None:
    tile = Tile(level=2, left=30, top=50, size=100, level_size=(500, 600))
    found = make((10, 20, 40, 60))
    moved = move_to_image(found, tile, (2000, 2399))
    assert moved.boxes.tolist() == [[160, 280, 280, 440]]
    assert moved.points.tolist() == [[220, 360]]
    assert moved.bin_sizes.tolist() == [[32] * 4]
    assert moved.size == (2000, 2399)
    assert torch.equal(moved.edges, found.edges)
    torch.testing.assert_close(moved.edge_std, 4 * found.edge_std)
    beyond = move_to_image(make((60, 60, 99, 99)), replace(tile, left=510, top=420), (2000, 2399))
    assert beyond.boxes[0, 2:].tolist() == [2399, 2000]
    assert len(move_to_image(make((92, 10, 99, 40)), replace(tile, left=510, top=420), (2000, 2399))) == 0
    smaller = resize_detections(moved, (1000, 2399))
    assert smaller.boxes.tolist() == [[160, 140, 280, 220]]
    assert smaller.bin_sizes.tolist() == [[32, 16, 32, 16]]
    torch.testing.assert_close(smaller.edge_std, moved.edge_std * torch.tensor([1, 0.5, 1, 0.5]))


def test_an_edge_at_a_border_inside_the_image_is_cut_and_one_at_the_border_of_the_image_is_not() -> None:
    tiling = Tiling(100, 0.4)
    first, last = Tile(0, 0, 0, 100, (100, 160)), Tile(0, 60, 0, 100, (100, 160))
    boxes = make((0, 0, 30, 100), (40, 10, 100, 50), (40, 10, 99.5, 50), (40, 10, 90, 50), (0.5, 0, 100, 30))
    assert find_own(boxes, first, tiling).tolist() == [True, False, False, True, False]
    assert find_own(boxes, last, tiling).tolist() == [False, True, True, True, False]
    assert find_own(make((0, 0, 30, 100), (40, 10, 100, 100)), last, tiling).tolist() == [False, True]


def test_coarser_levels_are_not_asked_for_objects_that_finer_ones_show_whole() -> None:
    tiling = Tiling(100, 0.4)
    assert (tiling.least_side(0), tiling.least_side(1), tiling.least_side(2)) == (0, 38, 76)
    coarse = Tile(1, 0, 0, 100, (90, 90))
    assert find_own(make((5, 5, 20, 20), (5, 5, 25, 20)), coarse, tiling).tolist() == [False, True]


def test_a_cut_object_never_wins_over_the_whole_one() -> None:
    tiling = Tiling(100, 0.4)
    left, right = Tile(0, 0, 0, 100, (100, 160)), Tile(0, 60, 0, 100, (100, 160))
    # The first tile sees a part of an object that ends a little before its border, and is very sure of it.
    part, whole = make((70, 10, 97, 50), scores=(0.99,)), make((10, 10, 60, 50), scores=(0.4,))
    found = [(tile, move_to_image(one, tile, (100, 160))) for tile, one in ((left, part), (right, whole))]
    merged = merge_tiles(found, DecodeSettings())
    assert merged.boxes.tolist() == [[70, 10, 120, 50]]
    # What does not reach the border is an object of its own, and so is what has another class.
    inside = make((65, 15, 80, 40), scores=(0.9,))
    found[0] = (left, move_to_image(inside, left, (100, 160)))
    found[1] = (right, move_to_image(make((1, 10, 60, 50)), right, (100, 160)))
    assert len(merge_tiles(found, DecodeSettings())) == 2
    other = replace(part, labels=torch.ones(1, dtype=torch.int64))
    found = [(left, move_to_image(other, left, (100, 160))), (right, move_to_image(whole, right, (100, 160)))]
    assert len(merge_tiles(found, DecodeSettings())) == 2
    assert len(merge_tiles(found, DecodeSettings(class_agnostic_nms=True))) == 1
    nearest = next(tiles_of_level(0, (100, 160), tiling))
    # Its center is nearer to the middle of the other tile.
    assert find_own(make((70, 10, 97, 40)), nearest, tiling).tolist() == [False]


def test_the_finest_level_wins_and_the_best_comes_first() -> None:
    size = (200, 200)
    fine, coarse = Tile(0, 0, 0, 100, (200, 200)), Tile(1, 0, 0, 100, (100, 100))
    found = [
        (fine, move_to_image(make((10, 10, 50, 50), (60, 60, 90, 90), scores=(0.3, 0.6)), fine, size)),
        (coarse, move_to_image(make((5, 5, 26, 25), (50, 50, 80, 90), scores=(0.9, 0.7)), coarse, size)),
    ]
    merged = merge_tiles(found, DecodeSettings())
    assert merged.boxes.tolist() == [[100, 100, 160, 180], [60, 60, 90, 90], [10, 10, 50, 50]]
    assert merged.scores.tolist() == pytest.approx([0.7, 0.6, 0.3])
    nothing = merge_tiles([(fine, make())], DecodeSettings())
    assert len(nothing) == 0
    with pytest.raises(ValueError, match="at least one tile"):
        merge_tiles([], DecodeSettings())


@given(st.integers(0, 2**31), st.integers(1, 30), st.booleans())
def test_merging_is_suppression_of_all_that_is_no_part(seed: int, count: int, agnostic: bool) -> None:
    # Whole numbers, distinct scores and a threshold that no ratio of areas meets: rounding decides nothing. No box
    # reaches beyond the image.
    settings = DecodeSettings(nms_threshold=0.50013, class_agnostic_nms=agnostic)
    generator = torch.Generator().manual_seed(seed)
    size, tiles = (160, 160), [*tiles_of_level(0, (160, 160), Tiling(100, 0.4)), Tile(1, 0, 0, 100, (80, 80))]
    order = torch.randperm(count * len(tiles), generator=generator).reshape(len(tiles), count)
    found = []
    for tile, rank in zip(tiles, order, strict=True):
        corners = torch.randint(0, 50, (count, 2), generator=generator)
        boxes = torch.cat([corners, corners + torch.randint(4, 30, (count, 2), generator=generator)], 1)
        one = make(*map(tuple, boxes.tolist()), scores=tuple(((rank + 1) / 256).tolist()))
        one = replace(one, labels=torch.randint(0, 2, (count,), generator=generator))
        found.append((tile, one.select(suppress(one.boxes, one.scores, one.labels, settings))))
    moved = [(tile, move_to_image(one, tile, size)) for tile, one in found]
    parts, _ = compare_tiles(concatenate([one for _, one in moved]), [len(one) for _, one in moved], tiles, settings)
    whole = concatenate([one for _, one in moved]).select(~parts)
    level = torch.tensor([tile.level for tile, one in moved for _ in range(len(one))])[~parts]
    wanted = whole.select(suppress(whole.boxes, whole.scores - 2.0 * level, whole.labels, settings))
    merged = merge_tiles(moved, settings)
    assert sorted(merged.scores.tolist()) == sorted(wanted.scores.tolist())


@pytest.mark.parametrize("arguments", [(31,), (20_000,), (100, 0.9), (100, -0.1), (100, 0.2, 0), (100, 0.2, 1, 0.0)])
def test_what_is_no_tiling(arguments: tuple[float, ...]) -> None:
    with pytest.raises(ValueError):
        Tiling(*arguments)  # type: ignore[arg-type]
