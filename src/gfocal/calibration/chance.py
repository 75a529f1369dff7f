"""How far a measured coverage may lie off by chance, since few boxes were counted and few were calibrated on.

With n calibration boxes and the error of rank k as the width, the share that is covered of all new boxes has the law
Beta(k, n + 1 - k), of mean k / (n + 1) (Vovk 2012), and of m new boxes the number covered is beta-binomial. Boxes of
one image err together: the variance is then larger by the design effect (Kish 1965) of the images.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from gfocal.structures.calibration import Calibration, Guarantee, OrderStatistics

Verdict = Literal["within", "below", "above"]
LEVEL = 0.95  # of measurements lie in the range where images are like those of the calibration
LEAST_CORRELATION = 1e-8  # of the beta-binomial law; with none it is binomial

VERDICTS: dict[Verdict, str] = {
    "within": "within chance of it",
    "below": "fewer than chance explains",
    "above": "more than chance explains",
}


@dataclass(frozen=True)
class Chance:
    """Where a measured coverage was to be expected, and whether it lies there."""

    low: float  # of the range that ``LEVEL`` of measurements lie in, as shares
    high: float
    verdict: Verdict
    design_effect: float  # by how much the variance is larger since boxes of one image err alike; at least 1

    def describe(self) -> str:
        """The verdict and the range, for a line."""
        return f"{VERDICTS[self.verdict]} ({self.low:.0%} to {self.high:.0%})"


def chance_of_coverage(
    covered: Tensor, image: Tensor, labels: Tensor, calibration: Calibration, coverage: float, guarantee: Guarantee
) -> Chance:
    """Whether the coverage of new boxes is what a calibration makes likely.

    The boxes of the calibration are taken to be as much alike within an image as the new ones.

    Args:
        covered: (N, 4) whether each edge was covered, N at least 1.
        image: (N,) index of the image of each box.
        labels: (N,)
        calibration: that the intervals are of; it must be able to promise the coverage.
        coverage: that was asked of it, 0..1.
        guarantee: of boxes, all four edges of which count as one, or of edges.
    """
    counts: Counter[OrderStatistics]
    if guarantee == "box":
        of_label, counts = Counter(labels.tolist()), Counter()
        for label, statistics in calibration.box_statistics(of_label.keys(), coverage).items():
            counts[statistics] += of_label[label]
        hits = covered.all(1).double()
    else:
        counts = Counter({side: len(labels) for side in calibration.edges})
        hits = covered.double().mean(1)
    total = sum(counts.values())
    share = float(hits.mean())
    effect = design_effect(hits, image, total)
    low, high = range_of(counts, coverage, effect)
    number = round(share * total)
    verdict: Verdict = "below" if number < low else "above" if number > high else "within"
    return Chance(low / total, high / total, verdict, effect)


def range_of(counts: Counter[OrderStatistics], coverage: float, effect: float = 1.0) -> tuple[int, int]:
    """Fewest and most covered in ``LEVEL`` of measurements.

    A beta-binomial law with the mean and the variance of the sum over all groups; of one group with an effect of 1 it
    is exact.

    Args:
        counts: how many new boxes have their intervals by which statistics.
        coverage: that was asked.
        effect: design effect, at least 1.
    """
    total = sum(counts.values())
    mean = variance = 0.0
    for statistics, count in counts.items():
        rank, n = statistics.rank(coverage), statistics.count
        own = rank / (n + 1)
        beta = own * (1 - own) / (n + 2)
        mean += count * own
        variance += count * (own * (1 - own) - beta) + count**2 * beta
    share = mean / total
    binomial = total * share * (1 - share)
    correlation = (effect * variance / binomial - 1) / max(total - 1, 1)
    correlation = min(max(correlation, LEAST_CORRELATION), 1 - 1e-6)
    size = 1 / correlation - 1  # a + b of the beta law
    below = beta_binomial(total, share * size, (1 - share) * size).cumsum(0)
    tail = (1 - LEVEL) / 2
    low, high = torch.searchsorted(below, below.new_tensor([tail, 1 - tail])).clamp(max=total).tolist()
    return low, high


def beta_binomial(total: int, a: float, b: float) -> Tensor:
    """Probability of each number 0 ... total where the share has the law Beta(a, b). (total + 1,) float64"""
    k = torch.arange(total + 1, dtype=torch.float64)
    ways = -(k + 1).lgamma() - (total - k + 1).lgamma()
    return (ways + (k + a).lgamma() + (total - k + b).lgamma()).softmax(0)


def design_effect(hits: Tensor, image: Tensor, total: int) -> float:
    """Variance of the share that is covered, measured between images, over that of boxes which err by themselves.

    1 where it comes out smaller, or cannot be measured: with one image, or where all boxes are covered or none.

    Args:
        hits: (N,) share of each box that was covered, 0..1.
        image: (N,) index of its image.
        total: number of boxes, or of edges, that are counted as by themselves.
    """
    _, place = image.unique(return_inverse=True)
    num_images, share = int(place.max()) + 1, float(hits.mean())
    if num_images < 2 or num_images == total or not 0 < share < 1:
        return 1.0
    gap = hits.new_zeros(num_images).index_add(0, place, hits - share)  # covered in each image, beyond expectation
    variance = float(gap.square().sum()) * num_images / (num_images - 1) / len(hits) ** 2
    return max(1.0, variance * total / (share * (1 - share)))
