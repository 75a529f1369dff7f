"""What the four numbers of the boxes of a dataset seem to be, where they are not what the format has.

Single boxes say nothing: a box may be drawn beyond its image. All boxes together do: where some leave their images
clearly as the format has it, and all fit in another meaning, the other meaning is the right one.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from gfocal.text import pluralize

# What a format states of a box: corners; top left corner, width and height; center, width and height.
Layout = Literal["xyxy", "xywh", "cxcywh"]

CORNERS = "boxes seem to be x1 y1 x2 y2 in place of x y width height: correct them to x, y, x2 - x1, y2 - y1"
CENTERS = "boxes seem to start with their centers in place of the top left corner: correct them to that"
CORNERS_FOR_CENTERS = (
    "boxes seem to be x1 y1 x2 y2 in place of YOLO's center, width and height: correct them to "
    "(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1"
)
TOP_LEFT = "boxes seem to start with their top left corner in place of YOLO's center: correct it to that"
SIDES = "boxes seem to be x y width height in place of x1 y1 x2 y2: correct them to x, y, x + width, y + height"
SWAPPED_SIDES = "width and height of the boxes seem to be swapped: check some, and write the width before the height"
MAYBE_CORNERS = (
    "all boxes end farther than they start, as corners x1 y1 x2 y2 do: check some on their images, are they that in "
    "place of a width and a height?"
)
MAYBE_RESIZED = (
    "boxes reach beyond the right and bottom of most images: were images resized after annotation? Scale the boxes, "
    "or state the sizes that they were drawn on"
)

TOLERANCE = 1.0  # pixels by which a box may exceed its image and still fit
CLEARLY = 0.1  # of its side, by which a box must leave its image to do so clearly
MIN_BOXES, MIN_BOXES_OF_OTHERS = 3, 8  # with fewer, nothing is said of corners, of the others
FITTING = 0.99  # share of the boxes that must fit in the other meaning
MOSTLY_OUTSIDE = 0.5  # share of the boxes that leave their images as written, however many there are
MIN_CLEAR, SOME_OUTSIDE = 3, 0.05  # boxes that leave their images clearly, and their share, where there are many
MIN_INVERTED = 0.2  # share of the boxes that end before they start
SMALL = 0.1  # median share of their images that boxes cover if none leaves it
MIN_BOXES_INSIDE = 20  # boxes from which something is said though none leaves its image
MIN_IMAGES = 3  # that boxes leave
MANY = 0.1  # share of the boxes beyond the right and bottom of resized images

_Boxes = npt.NDArray[np.float64]
_Mask = npt.NDArray[np.bool_]


class OtherLayout(NamedTuple):
    """What the boxes of a dataset seem to be."""

    reason: str  # one of the texts above
    record: str  # the numbers that say so


def is_outside(boxes: _Boxes, sizes: _Boxes) -> _Mask:
    """Which boxes (xyxy) leave their images (width, height). (N,)"""
    return np.logical_or((boxes[:, :2] < -TOLERANCE).any(1), (boxes[:, 2:] > sizes + TOLERANCE).any(1))


def find_other_layout(boxes: _Boxes, sizes: _Boxes, layout: Layout) -> OtherLayout | None:
    """What boxes seem to be that are something else than ``layout``; None if they are as they should be.

    Args:
        boxes: (N, 4) finite, xyxy in pixels of the image, as the format's reader has them.
        sizes: (N, 2) width and height of the image of each box.
        layout: what the format states.
    """
    if len(boxes) < MIN_BOXES:
        return None
    if layout == "xyxy":
        return _find_sides(boxes, sizes)
    return _find_corners(boxes, sizes, layout) or _find_others(boxes, sizes, layout)


def find_resized(boxes: _Boxes, sizes: _Boxes, owner: npt.NDArray[np.intp]) -> OtherLayout | None:
    """Whether boxes reach beyond most images to the right and bottom alone, as those of larger images do.

    ``owner`` (N,) is the number of each box's image.
    """
    beyond, images = is_outside(boxes, sizes), len(np.unique(owner))
    left = len(np.unique(owner[beyond]))
    if len(boxes) < MIN_BOXES_OF_OTHERS or beyond.mean() < MANY or left < max(MIN_IMAGES, images / 2):
        return None
    fits = (boxes[:, :2] >= -TOLERANCE).all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    has_swapped_axes = (~is_outside(boxes[:, [1, 0, 3, 2]], sizes)).mean() >= FITTING
    width, height = (boxes[:, 2:] / sizes).max(0)
    if fits.mean() < FITTING or has_swapped_axes or max(width, height) <= 1 + CLEARLY:
        return None
    record = (
        f"{beyond.sum()} of {_count(boxes)} leave {left} of {pluralize(images, 'image')}; they reach to {width:.3g} "
        f"times the width and {height:.3g} times the height"
    )
    return OtherLayout(MAYBE_RESIZED, record)


def _leave_clearly(boxes: _Boxes, sizes: _Boxes) -> _Mask:
    """Which boxes leave their images by more than a sloppy edge does. (N,)"""
    margin = np.maximum(TOLERANCE, CLEARLY * np.abs(boxes[:, 2:] - boxes[:, :2]))
    return np.logical_or((boxes[:, :2] < -margin).any(1), (boxes[:, 2:] > sizes + margin).any(1))


def _are_some(clear: _Mask, share: float = SOME_OUTSIDE) -> bool:
    return len(clear) >= MIN_BOXES_OF_OTHERS and bool(clear.sum() >= max(MIN_CLEAR, share * len(clear)))


def _find_corners(boxes: _Boxes, sizes: _Boxes, layout: Layout) -> OtherLayout | None:
    sides = boxes[:, 2:] - boxes[:, :2]
    start = boxes[:, :2] if layout == "xywh" else (boxes[:, :2] + boxes[:, 2:]) / 2
    fits = ~is_outside(np.concatenate((start, sides), axis=1), sizes) & (sides > start).all(1)
    if fits.mean() < FITTING:
        return None
    outside = is_outside(boxes, sizes)
    if outside.mean() >= MOSTLY_OUTSIDE or _are_some(_leave_clearly(boxes, sizes)):
        reason = CORNERS if layout == "xywh" else CORNERS_FOR_CENTERS
        return OtherLayout(reason, f"{_describe_outside(outside, layout)}; {fits.sum()} fit as x1, y1, x2, y2")
    covered = float(np.median(sides.prod(1) / sizes.prod(1)))
    if len(boxes) < MIN_BOXES_INSIDE or covered > SMALL:
        return None  # large objects reach farther than they start
    return OtherLayout(MAYBE_CORNERS, f"{fits.sum()} of {_count(boxes)}, which cover {covered:.1%} of their images")


def _find_others(boxes: _Boxes, sizes: _Boxes, layout: Layout) -> OtherLayout | None:
    """Centers for top left corners, or the other way round; width and height swapped."""
    if not _are_some(_leave_clearly(boxes, sizes)):
        return None
    sides, outside = boxes[:, 2:] - boxes[:, :2], is_outside(boxes, sizes)
    shift = -sides / 2 if layout == "xywh" else sides / 2
    moved = boxes + np.concatenate((shift, shift), axis=1)
    start, turned = boxes[:, :2], sides[:, ::-1]
    if layout == "cxcywh":
        start = start + (sides - turned) / 2
    swapped = np.concatenate((start, start + turned), axis=1)
    as_start = "centers" if layout == "xywh" else "top left corners"
    found = (
        (CENTERS if layout == "xywh" else TOP_LEFT, moved, f"with x, y as their {as_start}"),
        (SWAPPED_SIDES, swapped, "with width and height swapped"),
    )
    for reason, other, how in found:
        fits = ~is_outside(other, sizes) & (sides > 0).all(1)
        if fits.mean() >= FITTING:
            return OtherLayout(reason, f"{_describe_outside(outside, layout)}; {fits.sum()} fit {how}")
    return None


def _find_sides(boxes: _Boxes, sizes: _Boxes) -> OtherLayout | None:
    """Width and height in place of the second corner: many boxes would end before they start."""
    inverted: _Mask = np.any(boxes[:, 2:] < boxes[:, :2], axis=1)
    if not _are_some(inverted, MIN_INVERTED):
        return None
    sides = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
    fits = ~is_outside(sides, sizes) & (boxes[:, 2:] > 0).all(1)
    if fits.mean() < FITTING:
        return None
    record = f"{inverted.sum()} of {_count(boxes)} end before they start; {fits.sum()} fit as x, y, width, height"
    return OtherLayout(SIDES, record)


def _describe_outside(outside: _Mask, layout: Layout) -> str:
    how = "x, y, width, height" if layout == "xywh" else "YOLO's center, width, height"
    return f"{outside.sum()} of {_count(outside)} leave their images as {how}"


def _count(boxes: npt.NDArray[np.generic]) -> str:
    return pluralize(len(boxes), "box", "boxes")
