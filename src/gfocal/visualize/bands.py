"""The uncertainty of edges as translucent bands: one standard deviation, or every bin of the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.structures import Detections
from gfocal.visualize.drawing import Color, Rect

MIN_PROBABILITY = 0.005  # bins with no more are not drawn
MAX_TAIL_PROBABILITY = 0.02  # an axis ends where no bin farther out has more
AXIS_OF_SIDE = (0, 1, 0, 1)  # left and right lie along x, top and bottom along y
SIGN_OF_SIDE = (-1.0, -1.0, 1.0, 1.0)
# A band is fainter the wider it is, so that what lies under a wide one is seen: at most and at least this opaque, and
# less than at most if it is wider than this share of the image's side.
MOST_OPAQUE, LEAST_OPAQUE, NARROW = 0.36, 0.12, 0.01

Band = tuple[int, Rect, float]  # detection, rectangle, opacity 0..1


def require_distributions(detections: Detections) -> None:
    """Raise ValueError unless these detections have edge distributions."""
    if not detections.edges.shape[-1]:
        raise ValueError("these detections have no edge distributions: their detector predicts four numbers per box")


def std_of_labels(edges: Tensor) -> Tensor:
    """The standard deviation of the labels behind edge distributions (..., K), in bins. (...)

    DFL writes a label y on two bins, which alone is a variance of f (1 - f), f = y - floor(y): the variance of a
    distribution is that of the labels and the mean of f (1 - f) over them (docs/edges.md). That is solved for normal
    labels with the mean of the distribution. A mean of f (1 - f) is 1/6 - sum_k cos(2 pi k m) exp(-2 (pi k)^2 v) /
    (pi k)^2 of a normal law with mean m and variance v (Fourier series), and the sum of it and v rises with v.
    An edge on two neighboring bins gives 0: nothing in it tells labels that scatter between them from one label.
    """
    bins = torch.arange(edges.shape[-1], dtype=torch.float64, device=edges.device)
    weights = edges.double()
    mean = (weights * bins).sum(-1)
    variance = (weights * (bins - mean.unsqueeze(-1)) ** 2).sum(-1)
    fraction = mean - mean.floor()
    excess = variance - fraction * (1 - fraction)  # none: two neighboring bins at most
    low, high = (variance - 0.25).clamp(min=0), variance
    harmonics = math.pi * torch.arange(1, 13, dtype=torch.float64, device=edges.device)
    waves = torch.cos(2 * harmonics * mean.unsqueeze(-1)) / harmonics**2  # (..., 12)
    for _ in range(12):
        middle = (low + high) / 2
        inflation = 1 / 6 - (waves * torch.exp(-2 * harmonics**2 * middle.unsqueeze(-1))).sum(-1)
        is_low = middle + inflation < variance
        low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
    return torch.where(excess > 1e-4, ((low + high) / 2).sqrt(), 0).to(edges.dtype)


def bin_positions(detections: Detections) -> Tensor:
    """Where each bin of each edge lies along its axis: x for left and right, y for top and bottom.

    (N, 4, K) float32, pixels of the original image.
    """
    bins = torch.arange(detections.edges.shape[-1], dtype=torch.float32)
    start = detections.points.cpu()[:, list(AXIS_OF_SIDE)].unsqueeze(-1)  # (N, 4, 1)
    step = detections.bin_sizes.cpu() * torch.tensor(SIGN_OF_SIDE)  # (N, 4)
    return start + step.unsqueeze(-1) * bins


def std_bands(detections: Detections) -> list[Band]:
    """One band per edge, from one standard deviation of its labels inside it to one outside.

    Inside, a band ends at the center of its box at the latest. A wide one is fainter.
    """
    boxes = detections.boxes.tolist()
    std = (std_of_labels(detections.edges) * detections.bin_sizes).tolist()
    narrow = NARROW * (detections.size[0] * detections.size[1]) ** 0.5
    bands = []
    for i, box in enumerate(boxes):
        for side, axis in enumerate(AXIS_OF_SIDE):
            inner = min(std[i][side], (box[axis + 2] - box[axis]) / 2)
            outer = std[i][side]
            before, after = (outer, inner) if side < 2 else (inner, outer)
            opacity = max(LEAST_OPAQUE, MOST_OPAQUE * min(1.0, (narrow / max(outer, 1e-9)) ** 0.5))
            bands.append((i, _across(box, side, box[side] - before, box[side] + after), opacity))
    return bands


def bin_bands(detections: Detections, min_probability: float = MIN_PROBABILITY) -> list[Band]:
    """One band per bin with more than ``min_probability`` of its edge, the more probable the more opaque."""
    boxes, halves = detections.boxes.tolist(), (detections.bin_sizes / 2).tolist()
    positions, edges = bin_positions(detections).tolist(), detections.edges.tolist()
    return [
        (i, _across(box, side, position - halves[i][side], position + halves[i][side]), 0.7 * probability**0.5)
        for i, box in enumerate(boxes)
        for side in range(4)
        for position, probability in zip(positions[i][side], edges[i][side], strict=True)
        if probability > min_probability
    ]


def _across(box: Sequence[float], side: int, low: float, high: float) -> Rect:
    return (low, box[1], high, box[3]) if AXIS_OF_SIDE[side] == 0 else (box[0], low, box[2], high)


def shade(canvas: Image.Image, bands: list[Band], palette: Sequence[Color]) -> Image.Image:
    """Draw translucent bands on an image; where two overlap, the later one is seen. Bands under a pixel are not."""
    layer = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(layer)
    for i, (x0, y0, x1, y1), opacity in bands:
        # A pixel lies in the band if its center does, so that neighboring bins do not overlap.
        inner = (round(x0), round(y0), round(x1) - 1, round(y1) - 1)
        if inner[0] <= inner[2] and inner[1] <= inner[3]:
            draw.rectangle(inner, fill=(*palette[i], round(255 * opacity)))
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")
