"""Labels beside their boxes, placed so that they hide neither objects nor each other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

from gfocal.visualize.drawing import Color, Rect, contrast_color
from gfocal.visualize.lettering import Lettered, letter

Floats = NDArray[np.float64]

MAX_HIDDEN = 0.35  # of the area of any object, by all labels together
MAX_LABELED = 0.15  # of the image; no more labels follow then
GAP = 1  # pixels between labels
MAX_FONT_SIZE = 8000  # pixels; FreeType refuses sizes a little above
# Places of a label, the best first: along x (before or after its box, or in it), and along y (above, below, in it).
PLACES = (
    ("left", "above"), ("right", "above"), ("left", "below"), ("right", "below"), ("left", "top"), ("right", "top"),
    ("left", "bottom"), ("right", "bottom"), ("middle", "above"), ("middle", "below"), ("after", "top"),
    ("before", "top"), ("after", "bottom"), ("before", "bottom"), ("middle", "top"), ("middle", "bottom"),
)  # fmt: skip
COST_OF_PLACE = 0.006 * np.arange(len(PLACES))  # a better one is worth hiding this share of an object more


@dataclass(frozen=True)
class Label:
    """What may be written at a box."""

    texts: tuple[str, ...]  # the whole text, then shorter ones for where that finds no place
    box: Rect
    color: Color


def draw_labels(
    draw: ImageDraw.ImageDraw,
    labels: Sequence[Label],
    size: int,
    limits: Rect,
    *,
    objects: Sequence[Rect] | None = None,
    taken: Sequence[Rect] = (),
    font_path: str | None = None,
) -> list[Rect | None]:
    """Write labels inside ``limits``, the most important first; returns where each one stands, None for left out.

    A label stands above its box, below it, in one of its corners or beside it, where it hides least of the
    ``objects`` (the boxes of the labels if None). It overlaps no other label and none of the ``taken`` rectangles,
    and all labels together hide at most a third of any object and some 15 % of the image: where there is no such
    place for any of its texts, it is left out. ``size`` is that of the font in pixels.
    """
    boxes = [label.box for label in labels] if objects is None else objects
    placer = Placer(limits, boxes, taken, len(labels))
    places: list[Rect | None] = []
    for label in labels:
        place = None
        for text in label.texts if placer.has_space() else ():
            line = fit(text, size, limits, font_path)
            if line is not None and (place := placer.place(label.box, *label_size(line))) is not None:
                write(draw, line, place, label.color)
                break
        places.append(place)
    return places


class Placer:
    """The free space of an image, as labels take it."""

    def __init__(self, limits: Rect, objects: Sequence[Rect], taken: Sequence[Rect], num_labels: int) -> None:
        self.limits = limits
        low, high = limits[:2] * 2, limits[2:] * 2
        self.objects: Floats = np.array(objects, dtype=np.float64).reshape(-1, 4).clip(low, high)
        self.areas: Floats = np.maximum(np.prod(self.objects[:, 2:] - self.objects[:, :2], axis=1), 1.0)
        self.hidden: Floats = np.zeros(len(self.objects))  # the share of each object that labels hide
        self.taken: Floats = np.zeros((len(taken) + num_labels, 4))
        self.taken[: len(taken)] = np.array(taken, dtype=np.float64).reshape(-1, 4)
        self.num_taken = len(taken)
        self.covered = 0.0  # area of all labels

    def has_space(self) -> bool:
        """Whether labels cover less of the image than they may in all."""
        left, top, right, bottom = self.limits
        return self.covered < MAX_LABELED * (right - left) * (bottom - top)

    def place(self, box: Rect, width: float, height: float) -> Rect | None:
        """The best place for a label of this size, which is taken then; None if there is none."""
        places = self._places(box, width, height)
        free = ~(intersection(places, self.taken[: self.num_taken]) > 0).any(1)
        if not free.any():
            return None
        hidden = intersection(places, self.objects) / self.areas
        cost = hidden.sum(1) + COST_OF_PLACE
        cost[~free | (hidden + self.hidden > MAX_HIDDEN).any(1)] = np.inf
        best = int(cost.argmin())
        if not np.isfinite(cost[best]):
            return None
        self.hidden += hidden[best]
        x0, y0, x1, y1 = places[best].tolist()
        self.taken[self.num_taken] = x0 - GAP, y0 - GAP, x1 + GAP, y1 + GAP
        self.num_taken += 1
        self.covered += width * height
        return x0, y0, x1, y1

    def _places(self, box: Rect, width: float, height: float) -> Floats:
        """Every place of ``PLACES``, moved into the limits. (16, 4)"""
        left, top, right, bottom = self.limits
        x0, x1 = (min(max(x, left), right) for x in (box[0], box[2]))
        y0, y1 = (min(max(y, top), bottom) for y in (box[1], box[3]))
        at = {
            "left": x0, "right": x1 - width, "middle": (x0 + x1 - width) / 2, "before": x0 - width, "after": x1,
            "above": y0 - height, "top": y0, "bottom": y1 - height, "below": y1,
        }  # fmt: skip
        corners = np.array([(at[along], at[across]) for along, across in PLACES])
        corners = np.maximum(np.minimum(corners, (right - width, bottom - height)), (left, top))
        return np.concatenate([corners, corners + np.array((width, height))], 1)


def intersection(first: Floats, second: Floats) -> Floats:
    """Areas of the intersections of rectangles (A, 4) with rectangles (B, 4). (A, B)"""
    width = np.minimum(first[:, None, 2], second[:, 2]) - np.maximum(first[:, None, 0], second[:, 0])
    height = np.minimum(first[:, None, 3], second[:, 3]) - np.maximum(first[:, None, 1], second[:, 1])
    product: Floats = np.maximum(width, 0) * np.maximum(height, 0)
    return product


def label_size(line: Lettered) -> tuple[int, int]:
    """Width and height of a label with its margins, whole pixels."""
    return int(line.width + 0.999) + 2 * _margin(line), line.height + 1


def fit(text: str, size: int, limits: Rect, font_path: str | None) -> Lettered | None:
    """The text as a line that is no wider than the limits, shortened if need be; None where nothing fits."""
    width, height = limits[2] - limits[0], limits[3] - limits[1]
    if size > min(height, MAX_FONT_SIZE):
        return None
    text = text[: int(max(width, 0)) + 1]  # no letter is narrower than a pixel
    line = letter(text, size, font_path)
    if label_size(line)[0] > width:
        # The number of letters at which it is too wide, less one.
        count = bisect_right(
            range(1, len(text)), width, key=lambda n: label_size(letter(text[:n] + "...", size, font_path))[0]
        )
        line = letter(text[:count] + "..." if count else "", size, font_path)
    return line if line.text and label_size(line)[1] <= height else None


def write(draw: ImageDraw.ImageDraw, line: Lettered, place: Rect, color: Color) -> None:
    """A line of text on a ground of the color."""
    x0, y0, x1, y1 = (round(v) for v in place)
    margin = _margin(line)
    draw.rounded_rectangle((x0, y0, x1 - 1, y1 - 1), radius=max(1, line.height // 6), fill=color)
    draw.text((x0 + margin, y0 + line.ascent), line.text, font=line.font, fill=contrast_color(color), anchor="ls")


def _margin(line: Lettered) -> int:
    return max(2, line.height // 5)
