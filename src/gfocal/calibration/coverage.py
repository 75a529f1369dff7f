"""How good intervals and spreads of edges are: coverage, width, interval score, CRPS, ENCE.

All errors and widths are in pixels of the original image. N box; four edges each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.calibration.chance import Chance


@dataclass(frozen=True)
class Coverage:
    """What intervals of one nominal coverage did on annotated boxes."""

    nominal: float
    boxes: float  # share of boxes of which all four edges were covered
    edges: float  # share of edges
    width: float  # mean over edges, pixels
    median_width: float
    interval_score: float  # mean over edges, pixels
    count: int  # boxes
    chance: Chance | None = None  # whether that is what a calibration makes likely; None: not known


def interval_score(errors: Tensor, half_widths: Tensor, coverage: float) -> Tensor:
    """The proper score of central intervals: their width, and 2 / (1 - coverage) times what lies beyond.

    (Gneiting and Raftery 2007, eq. 43.) Errors are absolute; all (...), pixels; lower is better.
    """
    return 2 * half_widths + 2 / (1 - coverage) * (errors - half_widths).clamp(min=0)


def measure_coverage(gt_boxes: Tensor, low: Tensor, high: Tensor, coverage: float) -> Coverage:
    """What intervals from ``low`` to ``high`` cover of the edges x1, y1, x2, y2; all (N, 4), N at least 1."""
    beyond = (low - gt_boxes).clamp(min=0) + (gt_boxes - high).clamp(min=0)
    covered, width = beyond <= 0, high - low
    return Coverage(
        nominal=coverage,
        boxes=float(covered.all(1).double().mean()),
        edges=float(covered.double().mean()),
        width=float(width.mean()),
        median_width=float(width.median()),
        interval_score=float((width + 2 / (1 - coverage) * beyond).mean()),
        count=len(gt_boxes),
    )


def crps(edges: Tensor, bin_sizes: Tensor, distances: Tensor) -> Tensor:
    """Continuous ranked probability score of each distribution, in pixels; lower is better.

    The integral of the squared difference of the distribution function, a step at every bin, and that of the true
    distance: sum over k of (F_k - [y <= k])^2, with the bin that y falls into cut at y.

    Args:
        edges: (..., K) probabilities.
        bin_sizes: (...) pixels per bin.
        distances: (...) of the ground truth from the point, in pixels, outwards; beyond the last bin counts too.
    """
    num_bins = edges.shape[-1]
    y = (distances / bin_sizes).unsqueeze(-1)
    below = edges.cumsum(-1)[..., :-1]  # F between bin k and k + 1
    lower = torch.arange(num_bins - 1, dtype=y.dtype, device=y.device)
    before = (y - lower).clamp(0, 1)  # the part of [k, k + 1] below y
    inside = before * below**2 + (1 - before) * (below - 1) ** 2
    outside = (-y).clamp(min=0) + (y - (num_bins - 1)).clamp(min=0)
    return (inside.sum(-1) + outside.squeeze(-1)) * bin_sizes


def ence(errors: Tensor, std: Tensor, bins: int = 10) -> float:
    """Expected normalized calibration error of standard deviations (Levi et al. 2019, eq. 8); 0 is perfect.

    Edges are sorted by ``std`` into bins of equal count; in each, the root mean squares of errors and of ``std``
    are compared.
    """
    order = std.flatten().argsort()
    parts = [rows for rows in order.tensor_split(bins) if len(rows)]
    total = 0.0
    for rows in parts:
        predicted = std.flatten()[rows].square().mean().sqrt().clamp(min=1e-12)
        observed = errors.flatten()[rows].square().mean().sqrt()
        total += float((predicted - observed).abs() / predicted)
    return total / len(parts)
