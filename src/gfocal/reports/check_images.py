"""The images of the page of ``gfocal check``: a finding's boxes, and duplicates side by side with what differs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from gfocal.checks.findings import Box, Finding, Mark, MarkedBox
from gfocal.data.images import read_image
from gfocal.data.value_range import Range
from gfocal.errors import ImageError
from gfocal.reports import html
from gfocal.visualize.drawing import Color, Rect, as_pil_image, draw_box, enlarge

FOUND, OTHER = (230, 57, 70), (29, 120, 224)
COLORS: dict[Mark, Color] = {
    "found": FOUND,
    "same": (150, 158, 168),
    "added": (42, 157, 80),
    "missing": FOUND,
    "moved": (247, 148, 29),
    "other-class": (142, 68, 196),
}
LEGEND: dict[Mark, str] = {
    "same": "same box in both",
    "added": "only in this image",
    "missing": "only in the first image",
    "moved": "other place or size",
    "other-class": "other class",
}
SMALL = 0.2  # of the image's longer side: smaller boxes are shown enlarged, with their surroundings of
SURROUNDINGS = 4.0  # times their size, and at least
MIN_SURROUNDINGS = 160.0  # pixels
MAX_SIDE = 480  # pixels of an image on the page
HARDLY_VISIBLE, RING = 12, 24  # pixels on the page: boxes below get a ring of this radius
MAX_GROUP = 8  # images of a group that are drawn


def draw_finding(
    path: Path, boxes: Sequence[Box], first: Color = FOUND, value_range: Range | None = None
) -> Image.Image:
    """An image with boxes on it, all but the first in blue; small boxes enlarged, with their surroundings."""
    image = as_pil_image(read_image(path, value_range=value_range))
    colored = [(box, OTHER if i else first) for i, box in enumerate(boxes)]
    return draw_colored(image, colored, boxes)


def draw_colored(image: Image.Image, boxes: Sequence[tuple[Box, Color]], focus: Sequence[Box]) -> Image.Image:
    """Boxes on an image, the first ones on top; only the part around ``focus`` where those boxes are small."""
    window = _window(focus, image.size)
    image = image.crop((round(window[0]), round(window[1]), round(window[2]), round(window[3])))
    scale = MAX_SIDE / max(image.size)
    if scale < 1:
        image.thumbnail((MAX_SIDE, MAX_SIDE))
    else:
        image = enlarge(image, scale)
    draw = ImageDraw.Draw(image)
    for (x1, y1, x2, y2), color in reversed(boxes):
        left, top = (x1 - window[0]) * scale, (y1 - window[1]) * scale
        right, bottom = (x2 - window[0]) * scale, (y2 - window[1]) * scale
        # An inverted box, or one without area, is drawn 3 pixels wide where it lies, with a ring around it.
        place = (min(left, right), min(top, bottom), max(left, right, left + 3), max(top, bottom, top + 3))
        draw_box(draw, place, color, 1 if color == COLORS["same"] else 2)
        if max(place[2] - place[0], place[3] - place[1]) < HARDLY_VISIBLE:
            x, y = (place[0] + place[2]) / 2, (place[1] + place[3]) / 2
            draw.ellipse((x - RING, y - RING, x + RING, y + RING), outline=color, width=3)
    return image


def _window(boxes: Sequence[Box], size: tuple[int, int]) -> Rect:
    """The part of an image to show."""
    whole = (0.0, 0.0, float(size[0]), float(size[1]))
    if not boxes or not torch.tensor(boxes).isfinite().all():
        return whole
    corners = torch.tensor(boxes)
    xs, ys = corners[:, ::2], corners[:, 1::2]
    center = (float(xs.min() + xs.max()) / 2, float(ys.min() + ys.max()) / 2)
    extent = max(float(xs.max() - xs.min()), float(ys.max() - ys.min()))
    if extent > SMALL * max(size):
        return whole
    half = max(SURROUNDINGS * extent, MIN_SURROUNDINGS) / 2
    left, top = (max(min(c - half, s - 2 * half), 0.0) for c, s in zip(center, size, strict=True))
    return left, top, min(left + 2 * half, whole[2]), min(top + 2 * half, whole[3])


def draw_group(finding: Finding, value_range: Range | None = None) -> str:
    """The images of a finding side by side, as one card; empty if none can be read.

    What differs from the first image is colored, and shown enlarged where it is small and there are two images.
    """
    images: list[Image.Image] = []
    shown = []
    for one in finding.group[:MAX_GROUP]:
        try:
            images.append(as_pil_image(read_image(one.path, value_range=value_range)))
        except ImageError:  # a finding of its own
            continue
        shown.append(one)
    figures = []
    for k, (one, image) in enumerate(zip(shown, images, strict=True)):
        partner = (shown[1 - k].boxes, images[1 - k].size) if len(shown) == 2 else None
        ranked = sorted(one.boxes, key=lambda box: box.mark == "same")  # what differs is drawn on top
        drawn = draw_colored(
            image, [(box.box, COLORS[box.mark]) for box in ranked], _focus(one.boxes, image, partner)
        )
        split = f"{one.split}: " if one.split else ""
        caption = f"{split}{one.path.name}" + (f": {one.text}" if one.text and one.text not in finding.text else "")
        figures.append(html.figure(drawn, caption, longest=MAX_SIDE))
    if not figures:
        return ""
    left = len(finding.group) - len(shown)
    more = html.note(f"and {left:,} more, listed below") if left else ""
    kind = "pair" if len(figures) == 2 else "group" if len(figures) > 2 else "single"
    return f'<article class="card"><div class="{kind}">{"".join(figures)}</div>{more}</article>'


def _focus(
    boxes: Sequence[MarkedBox], image: Image.Image, partner: tuple[Sequence[MarkedBox], tuple[int, int]] | None
) -> list[Box]:
    """What an image is shown for: the boxes that are found, or what differs between it and its partner."""
    found = [one.box for one in boxes if one.mark == "found"]
    if found or partner is None:
        return found
    across, down = (a / max(b, 1) for a, b in zip(image.size, partner[1], strict=True))
    others = [one.box for one in partner[0] if one.mark != "same"]
    scaled = [(x1 * across, y1 * down, x2 * across, y2 * down) for x1, y1, x2, y2 in others]
    return [one.box for one in boxes if one.mark != "same"] + scaled


def draw_legend() -> str:
    """What the colors of the boxes of duplicates mean."""
    return html.note("".join(html.legend_key(mark, text) for mark, text in LEGEND.items()))


STYLE = "".join(f".key .{mark}{{background:rgb{COLORS[mark]}}}" for mark in LEGEND)
