"""What every drawing is made of: images, frames of boxes, colors of classes, sizes that follow the image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import Image, ImageDraw

from gfocal.models.predict import as_rgb, range_of_images

Color = tuple[int, int, int]
Rect = tuple[float, float, float, float]  # x0, y0, x1, y1

# The first seven are those of Okabe and Ito (2008), "Color Universal Design", which all kinds of color vision tell
# apart; the eighth differs from them by its brightness too. Of more classes some look alike without red or green.
PALETTE: tuple[Color, ...] = (
    (213, 94, 0), (0, 114, 178), (0, 158, 115), (230, 159, 0), (204, 121, 167), (86, 180, 233), (240, 228, 66),
    (136, 34, 51), (204, 0, 255), (0, 255, 238), (0, 0, 255), (119, 0, 153), (255, 170, 187), (0, 102, 0),
    (204, 0, 119), (85, 204, 153), (255, 119, 255), (0, 221, 0), (68, 136, 255), (51, 255, 136),
)  # fmt: skip
SCORE_RAMP: tuple[Color, ...] = ((214, 64, 40), (245, 180, 30), (18, 160, 110))
BLACK: Color = (0, 0, 0)
WHITE: Color = (255, 255, 255)
HALO = (15, 15, 15, 120)  # of a frame, translucent where the drawing is

USUAL_SIDE = 554  # the square root of the area of a 640x480 image, for which sizes are given
GROWTH = 0.8  # exponent: a large image is looked at from farther away, or enlarged


def scale_with_image(length: float, size: tuple[int, int]) -> float:
    """A length for an image of this width and height, given that for one of 640x480; pixels."""
    return length * (((size[0] * size[1]) ** 0.5) / USUAL_SIDE) ** GROWTH


def as_pil_image(image: Any, size: tuple[int, int] | None = None) -> Image.Image:
    """Whatever ``detect`` takes as one image; ValueError for anything else, or for another height and width."""
    image = as_rgb(image, range_of_images([image]))
    if size is not None and tuple(image.shape[1:]) != tuple(size):
        raise ValueError(
            f"detections are in pixels of an image of height and width {tuple(size)}, this one has "
            f"{tuple(image.shape[1:])}: pass the image that was detected in, not resized"
        )
    return Image.fromarray(image.permute(1, 2, 0).contiguous().cpu().numpy())


def enlarge(image: Image.Image, scale: float) -> Image.Image:
    """An image enlarged by a factor; one of at most 1 changes nothing."""
    if scale <= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BICUBIC)


def scale_rect(rect: Rect, scale: float) -> Rect:
    """A rectangle in pixels of an image enlarged by a factor."""
    return rect[0] * scale, rect[1] * scale, rect[2] * scale, rect[3] * scale


def overlap(first: Rect, second: Rect) -> float:
    """Area of the intersection of two rectangles."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    return max(0.0, width) * max(0.0, min(first[3], second[3]) - max(first[1], second[1]))


def class_color(label: int) -> Color:
    """The color of a class, the same in every image."""
    return PALETTE[label % len(PALETTE)]


def score_color(score: float) -> Color:
    """Red at 0, amber at 0.5, green at 1."""
    place = min(max(score, 0.0), 1.0) * (len(SCORE_RAMP) - 1)
    low = min(int(place), len(SCORE_RAMP) - 2)
    first, second, share = SCORE_RAMP[low], SCORE_RAMP[low + 1], place - low
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def contrast_color(color: Color) -> Color:
    """Black or white, whichever is easier to read on a color: by the contrast ratio of WCAG 2.1."""
    luminance = relative_luminance(color)
    return BLACK if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else WHITE


def relative_luminance(color: Color) -> float:
    """Of an sRGB color, 0..1, as WCAG 2.1 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in color)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def draw_box(draw: ImageDraw.ImageDraw, box: Rect, color: Color, line: int) -> None:
    """A frame that is visible on any background: the color with a thin dark halo.

    The frame of a small box is thinner, so that it leaves most of the object open. The halo is translucent where
    ``draw`` blends (``ImageDraw.Draw(image, "RGBA")``).
    """
    x0, y0, x1, y1 = (round(v) for v in box)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
    line = max(1, min(line, (min(x1 - x0, y1 - y0) + 1) // 6))
    halo = (line + 3) // 5
    if halo:
        draw.rectangle((x0 - halo, y0 - halo, x1 + halo, y1 + halo), outline=HALO, width=line + 2 * halo)
    draw.rectangle((x0, y0, x1, y1), outline=color, width=line)


def draw_dashed(draw: ImageDraw.ImageDraw, box: Rect, color: Color, line: int, dash: int) -> None:
    """A dashed frame with a thin dark outline."""
    for ink, wide in ((HALO, line + 2), (color, line)):
        for x0, y0, x1, y1 in _dashes(box, dash):
            draw.line((x0, y0, x1, y1), fill=ink, width=wide)


def _dashes(box: Rect, dash: int) -> Iterator[Rect]:
    """Strokes as long as the gaps between them, along the four sides."""
    x0, y0, x1, y1 = box
    for start, stop in _strokes(x0, x1, dash):
        yield start, y0, stop, y0
        yield start, y1, stop, y1
    for start, stop in _strokes(y0, y1, dash):
        yield x0, start, x0, stop
        yield x1, start, x1, stop


def _strokes(low: float, high: float, dash: int) -> Iterator[tuple[float, float]]:
    count = max(1, round((high - low) / (2 * dash)))
    step = (high - low) / count
    strokes = ((low + k * step, low + (k + 0.5) * step) for k in range(count))
    return ((start, max(start, stop - 1)) for start, stop in strokes)  # PIL draws both ends
