"""How far annotated edges lie from where a model expects them, in units of the spread that it expects.

Of a calibrated model the spread is its own. Else it is fitted to the very annotations that are reviewed, most of
which are right: a likelihood with a heavy tail, then the median and the median absolute deviation of each pyramid
level and side, on all of which few wrong edges have little influence. N is an annotated box with a detection.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.structures.calibration import SpreadRule

MIN_BOXES = 10  # below which nothing is known about the spread of a model that is not calibrated
MIN_BOXES_OF_GROUP = 100  # of a level, for its own median and deviation of each side; of all, for those of each side
LEAST_SPREAD = 0.3  # pixels: edges are mostly annotated in whole ones, which scatter by so much
DEGREES_OF_FREEDOM = 3.0  # of Student's t: errors of boxes have a heavy tail
# Of the squared distance from the weights before the fit, beside a mean log likelihood; plus one over the boxes.
RIDGE = 0.005
NORMAL_MAD = 0.6745  # median absolute deviation of a normal law of standard deviation 1


@dataclass(frozen=True)
class MatchedEdges:
    """Annotated boxes with what the model says of their edges."""

    errors: Tensor  # (N, 4) float64: annotated minus detected, x1, y1, x2, y2, pixels
    features: Tensor  # (N, 4, F)
    differences: Tensor  # (N, 4), between the image and its mirror image, pixels
    levels: Tensor  # (N,) int64: boxes of one level have equal numbers
    std: Tensor | None  # (N, 4), calibrated, pixels


def deviations(edges: MatchedEdges) -> tuple[Tensor, Tensor]:
    """z of each edge and the spread that it is in units of, pixels. (N, 4), (N, 4)

    Annotated minus expected place, so positive to the right and to the bottom. All 0 where there are too few boxes.
    """
    if edges.std is not None:
        spread = torch.hypot(edges.std, edges.differences).clamp(min=LEAST_SPREAD)
        return edges.errors / spread, spread
    if len(edges.errors) < MIN_BOXES:
        return torch.zeros_like(edges.errors), torch.full_like(edges.errors, torch.inf)
    spread = _fit_spread(edges)
    center, scale = _by_level_and_side(edges.errors / spread, edges.levels)
    spread_in_pixels = (spread * scale).clamp(min=LEAST_SPREAD)
    return (edges.errors - center * spread) / spread_in_pixels, spread_in_pixels


def _fit_spread(edges: MatchedEdges) -> Tensor:
    """exp(features x weights + offset) of highest likelihood, if errors over it have Student's t distribution.

    The features are those of the standard rule, and the spread by that rule with the difference between image and
    mirror image added. Before the fit the weights are halfway between the two. (N, 4)
    """
    standard = torch.tensor(SpreadRule().weights, dtype=torch.float64)
    rule = (edges.features @ standard).exp()
    ratio = float((edges.errors.abs() / rule).median()) / NORMAL_MAD
    added = (rule * max(ratio, 1e-6) + edges.differences).log().unsqueeze(2)
    inputs, errors = torch.cat([edges.features, added], 2).flatten(0, 1), edges.errors.flatten()
    start = torch.cat([standard / 2, standard.new_tensor([0.5])])
    change = torch.zeros_like(start, requires_grad=True)
    offset = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([change, offset], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_spread = inputs @ (start + change) + offset
        squared = (errors * (-log_spread).exp()) ** 2
        likelihood = log_spread + (DEGREES_OF_FREEDOM + 1) / 2 * torch.log1p(squared / DEGREES_OF_FREEDOM)
        value = likelihood.mean() + (RIDGE + 1 / len(edges.errors)) * (change**2).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    with torch.no_grad():
        spread = (inputs @ (start + change) + offset).exp().view_as(edges.errors)
    return spread.clamp(min=LEAST_SPREAD)


def _by_level_and_side(ratios: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Median and scaled median absolute deviation of each side, in each level that has enough boxes. (N, 4) each"""
    if len(ratios) < MIN_BOXES_OF_GROUP:
        center, scale = _robust(ratios.view(-1, 1))
        return center.expand_as(ratios), scale.expand_as(ratios)
    center, scale = (value.expand_as(ratios).clone() for value in _robust(ratios))
    for level in levels.unique().tolist():
        rows = levels == level
        if int(rows.sum()) >= MIN_BOXES_OF_GROUP:
            center[rows], scale[rows] = _robust(ratios[rows])
    return center, scale


def _robust(ratios: Tensor) -> tuple[Tensor, Tensor]:
    """Median and scaled median absolute deviation of each column. (N, S) -> (S,), (S,)"""
    center = ratios.median(0).values
    return center, ((ratios - center).abs().median(0).values / NORMAL_MAD).clamp(min=1e-3)
