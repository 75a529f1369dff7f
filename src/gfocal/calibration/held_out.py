"""Intervals of every box by the guarantees of other images, for pages that ask where they hold and where they do not.

The images are divided into halves several times; each half has the guarantees of the other. N box, four edges each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gfocal.calibration.coverage import Coverage
from gfocal.calibration.guarantees import guarantees
from gfocal.calibration.matched import TruePositives
from gfocal.calibration.measure import true_distances
from gfocal.calibration.spread import fold_of_images, relative_spread
from gfocal.structures.calibration import Calibration, Guarantee, least_count

SPLITS = 10  # into halves


@dataclass(frozen=True)
class HeldOutIntervals:
    """What intervals of one coverage did, in the mean over the divisions in which a box was not calibrated on."""

    nominal: float
    boxes: Tensor  # (N,) share of the divisions in which all four edges were covered; NaN where there were none
    edges: Tensor  # (N, 4) share in which each edge was covered
    width: Tensor  # (N, 4) pixels, within the image
    score: Tensor  # (N, 4) interval score, pixels

    def summary(self) -> Coverage:
        """The figures of all boxes, for every place that states some."""
        return Coverage(
            nominal=self.nominal,
            boxes=float(self.boxes.nanmean()),
            edges=float(self.edges.nanmean()),
            width=float(self.width.nanmean()),
            median_width=float(self.width.nanmedian()),
            interval_score=float(self.score.nanmean()),
            count=len(self.boxes),
        )


def hold_out(
    found: TruePositives,
    calibration: Calibration,
    coverages: Sequence[float],
    guarantee: Guarantee,
    seed: int = 0,
    splits: int = SPLITS,
) -> tuple[HeldOutIntervals, ...]:
    """Intervals of all boxes at some coverages.

    Args:
        found: true positives to which the spread rule of the calibration was not fitted.
        calibration: its spread rule is used, its guarantees are made anew from each half.
        coverages: those that half of the boxes are too few for are left out.
        guarantee: of boxes or of edges.
        seed: of the divisions.
        splits: number of divisions.
    """
    spread = relative_spread(calibration.spread, found)
    ratios, limit = found.errors / spread, found.sizes.flip(1).repeat(1, 2).double()
    divisions = [fold_of_images(found.image, 2, seed + i) for i in range(splits)]
    masks = [division == part for division in divisions for part in (0, 1)]
    smallest = min((int(mask.sum()) for mask in masks), default=0)
    possible = [coverage for coverage in coverages if smallest >= least_count(coverage)]
    sums = [[torch.zeros(len(found)), *(torch.zeros(len(found), 4) for _ in range(3))] for _ in possible]
    counts = torch.zeros(len(found))
    for mask in masks if possible else ():
        least, rest = least_count(max(possible)), ~mask
        boxes, edges, boxes_of_class = guarantees(ratios[mask], found.labels[mask], least)
        one = replace(calibration, boxes=boxes, edges=edges, boxes_of_class=boxes_of_class)
        counts[rest] += 1
        for coverage, (all_four, each, width, score) in zip(possible, sums, strict=True):
            half = spread[rest] * one.factors(found.labels[rest], coverage, guarantee)
            low = (found.boxes[rest] - half).clamp(min=0)
            high = torch.minimum(found.boxes[rest] + half, limit[rest])
            beyond = (low - found.gt_boxes[rest]).clamp(min=0) + (found.gt_boxes[rest] - high).clamp(min=0)
            all_four[rest] += (beyond <= 0).all(1)
            each[rest] += beyond <= 0
            width[rest] += (high - low).float()
            score[rest] += (high - low + 2 / (1 - coverage) * beyond).float()
    each_of = counts.unsqueeze(1)
    return tuple(
        HeldOutIntervals(coverage, all_four / counts, each / each_of, width / each_of, score / each_of)
        for coverage, (all_four, each, width, score) in zip(possible, sums, strict=True)
    )


def pit_of_distributions(found: TruePositives) -> Tensor:
    """Probability integral transform: which share of each distribution lies inside the true edge. (N, 4), 0..1

    Uniform over 0..1 if the distributions are right (Dawid 1984). The probability of a bin is spread over the half
    bins to both of its sides.
    """
    edges = found.edges.double()
    y = (true_distances(found) / found.bin_sizes).clamp(-0.5, edges.shape[-1] - 0.5)
    index = (y + 0.5).long().clamp(0, edges.shape[-1] - 1).unsqueeze(-1)
    mass = edges.gather(-1, index).squeeze(-1)
    before = edges.cumsum(-1).gather(-1, index).squeeze(-1) - mass
    return (before + mass * (y + 0.5 - index.squeeze(-1))).clamp(0, 1)


def pit_of_calibration(found: TruePositives, calibration: Calibration, seed: int = 0) -> Tensor:
    """The same of calibrated edges: where each error lies among those of the other half of the images. (N, 4), 0..1

    Errors are signed, outwards positive, and their law is taken as symmetric: 0.5: no error, 1: the largest outwards.
    """
    ratios = found.errors / relative_spread(calibration.spread, found)
    outwards = (found.gt_boxes - found.boxes) * torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64)
    half = fold_of_images(found.image, 2, seed) == 0
    rank = torch.full_like(ratios, 0.5)
    for rows in (half, ~half):
        for side in range(4):
            others = ratios[~rows, side].sort().values
            place = torch.searchsorted(others, ratios[rows, side].contiguous())
            rank[rows, side] = (place.double() + 0.5) / (len(others) + 1)
    return 0.5 + outwards.sign() * rank / 2
