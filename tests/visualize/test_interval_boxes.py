"""Intervals of edges in drawings: what lies outside of a box is told from what lies inside, in color and in line."""

from dataclasses import replace

import pytest
import torch
from PIL import Image

from calibrations import calibration, detections
from gfocal.structures import Detections
from gfocal.visualize.annotate import draw_detections
from gfocal.visualize.drawing import PALETTE, Color
from gfocal.visualize.interval_boxes import interval_bands, tint

GRAY = torch.full((3, 200, 200), 128, dtype=torch.uint8)
COVERAGE = 0.6


def found(*boxes: tuple[float, float, float, float], bins: float = 4.0) -> Detections:
    """Calibrated detections of class a, the best first, with flat distributions."""
    count = len(boxes)
    one = detections(
        torch.tensor(boxes), 0.9 - 0.1 * torch.arange(count), torch.zeros(count), torch.full((count, 4, 9), 1 / 9)
    )
    size = torch.full((count, 4), bins)
    return replace(one, calibration=calibration(), size=(200, 200), bin_sizes=size)


def draw(one: Detections, **options: object) -> Image.Image:
    return draw_detections(GRAY, one, edges="interval", labels="none", coverage=COVERAGE, **options)


def inks(drawn: Image.Image, box: tuple[float, ...]) -> set[Color]:
    """The colors on the frame of a box, one pixel wide."""
    x0, y0, x1, y1 = (min(round(v), 199) for v in box)
    along = [(x, y) for x in range(x0 + 3, x1 - 2) for y in (y0, y1)]
    along += [(x, y) for y in range(y0 + 3, y1 - 2) for x in (x0, x1)]
    return {drawn.getpixel(at) for at in along}


def test_bands_of_intervals_are_what_lies_between_inner_and_outer_box():
    one = found((60, 70, 130, 140))
    (outer,), (inner,) = one.outer_boxes(COVERAGE).tolist(), one.inner_boxes(COVERAGE).tolist()
    canvas = torch.zeros(2, 200, 200)
    for i, (x0, y0, x1, y1), opacity in interval_bands(one, COVERAGE):
        assert 0 < opacity < 1
        canvas[i, round(y0) : round(y1), round(x0) : round(x1)] += 1
    assert canvas.sum(0).max() == 1  # no part twice, which would be darker
    outside, inside = canvas.sum((1, 2)).tolist()

    def area(box: list[float]) -> float:
        return (box[2] - box[0]) * (box[3] - box[1])

    assert outside == pytest.approx(area(outer) - 70 * 70, rel=0.05)
    assert inside == pytest.approx(70 * 70 - area(inner), rel=0.05)


@pytest.mark.parametrize(("limit", "kind"), [(Detections.outer_boxes, "dashes"), (Detections.inner_boxes, "dots")])
def test_the_outer_box_has_dashes_of_the_color_and_the_inner_one_dots_of_its_tint(limit, kind):
    one = found((60, 70, 130, 140))
    drawn = draw(one)
    color, other = (PALETTE[0], tint(PALETTE[0]))[:: 1 if kind == "dashes" else -1]
    x0, y0, x1, _ = (round(v) for v in limit(one, COVERAGE)[0].tolist())
    rows = [[drawn.getpixel((x, y)) for x in range(x0 + 3, x1 - 3)] for y in (y0 - 1, y0, y0 + 1)]
    row = max(rows, key=lambda row: row.count(color))
    assert other not in row
    assert 0.3 < row.count(color) / len(row) < 0.8  # and gaps
    strokes = "".join("x" if ink == color else " " for ink in row).split()
    longest = max(map(len, strokes))
    assert longest >= 4 if kind == "dashes" else longest <= 3


def test_bands_differ_outside_and_inside_of_the_box():
    one = found((60, 70, 130, 140))
    drawn = draw(one)
    low, high = one.edge_interval(COVERAGE)[0, 0].tolist()  # of the left edge
    outside, inside = (drawn.getpixel((round((60 + at) / 2), 105)) for at in (low, high))
    assert sum(outside) < 3 * 128 < sum(inside)  # darker: a share of the color; lighter: of its tint
    assert outside[0] - outside[2] > 30  # orange


def test_the_best_box_is_drawn_over_the_others():
    best, other = (40.0, 40.0, 120.0, 120.0), (60.0, 60.0, 160.0, 160.0)
    one = found(best, other)
    frame = (best[0], best[1], best[2] - 1, best[3] - 1)
    assert inks(draw(one), frame) == inks(draw(one[:1]), frame) == {PALETTE[0]}


@pytest.mark.parametrize("bins", [0.05, 0.5, 40.0])
def test_narrow_and_wide_intervals_leave_the_box_in_sight(bins: float):
    box = (60.0, 70.0, 130.0, 140.0)
    drawn = draw(found(box, bins=bins))
    x0, y0, x1, _ = (int(v) for v in box)
    row = [drawn.getpixel((x, y0)) for x in range(x0 + 4, x1 - 4)]
    assert sum(ink in (PALETTE[0], tint(PALETTE[0])) for ink in row) > 0.3 * len(row)


def test_intervals_are_drawn_of_calibrated_detections():
    one = found((60, 70, 130, 140), bins=1.0)
    with pytest.raises(ValueError, match="not calibrated"):
        draw(replace(one, calibration=None))
    kinds = [draw(one), draw(one, min_side=400), draw(one, line_width=4)]
    kinds += [draw_detections(GRAY, one, edges="interval", labels="none", coverage=0.95)]
    kinds += [draw_detections(GRAY, one, labels="none")]
    assert len({drawn.tobytes() for drawn in kinds}) == len(kinds)
    none = draw_detections(GRAY, one[:0], edges="interval")
    assert none.getextrema() == ((128, 128),) * 3
