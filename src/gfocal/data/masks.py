"""Upright boxes around COCO's ``segmentation``: polygons, and masks as run lengths."""

from __future__ import annotations

from typing import Any

from gfocal.data.outlines import Corners, box_around_points

MASK_SIZE = "image has an object whose mask is of another size than the image: neither ground truth nor background"
_MAX_SHIFT = 60  # bits of one run length of a compressed mask


def box_around_outline(segmentation: Any) -> Corners | None:
    """The box around COCO's ``segmentation``: polygons, or a mask as run lengths (a list, or compressed text).

    A mask's box ends at the far edges of its last pixels. None if there is no outline, or it is not understood.
    """
    try:
        if isinstance(segmentation, dict):
            return _box_of_runs(segmentation)
        return box_around_points(_points(segmentation)) if isinstance(segmentation, list) else None
    except (TypeError, ValueError, OverflowError):
        return None


def mask_size(segmentation: Any) -> tuple[int, int] | None:
    """Height and width that a mask as run lengths states; None if it is no mask, or states no size."""
    size = segmentation.get("size") if isinstance(segmentation, dict) else None
    if not isinstance(size, list) or len(size) != 2 or not all(type(side) is int for side in size):
        return None
    return size[0], size[1]


def _points(polygons: list[Any]) -> list[tuple[float, float]]:
    """The points of polygons: lists of x, y, x, y, ...; also one such list, and lists of pairs."""
    if not any(isinstance(one, list) for one in polygons):
        polygons = [polygons]
    points: list[tuple[float, float]] = []
    for one in polygons:
        if any(isinstance(value, list) for value in one):
            points += [(float(x), float(y)) for x, y in one]
            continue
        if len(one) % 2:
            raise ValueError("a polygon has as many x as y")
        numbers = [float(value) for value in one]
        points += zip(numbers[::2], numbers[1::2], strict=True)
    return points


def _box_of_runs(mask: dict[str, Any]) -> Corners | None:
    """The box of a mask: runs of 0 and 1 in turn, down the columns, from the left."""
    height, width = map(int, mask["size"]) if isinstance(mask.get("size"), list) else (0, 0)
    counts = mask.get("counts")
    runs = decode_runs(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or height <= 0 or width <= 0 or not all(type(run) is int for run in runs):
        return None
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        return None
    left, top, right, bottom, position = width, height, -1, -1, 0
    for number, run in enumerate(runs):
        if number % 2 and run:
            first, last = divmod(position, height), divmod(position + run - 1, height)
            whole = first[0] != last[0]  # the run goes over the end of a column
            left, right = min(left, first[0]), max(right, last[0])
            top, bottom = min(top, 0 if whole else first[1]), max(bottom, height - 1 if whole else last[1])
        position += run
    return None if right < 0 else (float(left), float(top), float(right + 1), float(bottom + 1))


def decode_runs(text: str) -> list[int]:
    """The run lengths of COCO's compressed text: 5 bits a character, and differences to the run before the last.

    Raises ValueError for any other text.
    """
    runs: list[int] = []
    value = shift = 0
    for code in text.encode("ascii"):
        bits = code - 48
        if not 0 <= bits < 64 or shift > _MAX_SHIFT:
            raise ValueError("not a compressed mask")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("compressed mask that ends within a number")
    return runs
