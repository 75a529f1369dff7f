"""What calibration found out about a model's edges and scores, and how it is applied to detections.

``gfocal.calibration`` measures these numbers on annotated images; a model file stores them. N detection, K bin of an
edge, C class.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Guarantee = Literal["box", "edge"]  # what a coverage counts: boxes of which all four edges are covered, or edges
ScoreKind = Literal["iou", "precision"]

# Of an edge: the logarithms of its standard deviation without what two bins add, of the whole one, of the side of
# the box that it bounds, of the size of a bin (all in pixels), and of 1.3 - score of the box.
FEATURES = ("excess_std", "raw_std", "side", "bin_size", "doubt")
DOUBT_AT_ONE = 0.3  # a score of 1 leaves some doubt, and its logarithm finite
# Relative to the size of a bin: what is narrower cannot be told from a sharp edge.
SMALLEST_STD = 0.1
MAX_DIGESTS = 10_000  # of images; of more some are kept


@dataclass(frozen=True)
class SpreadRule:
    """How wide an edge's error is to be expected, up to a factor: exp(sum of weights x features).

    The weights of the four lengths add up to 1: an image stored at twice the size has twice the spread in its pixels,
    as the network sees the same.
    """

    # The geometric mean of three, times the doubt: the best of some twenty rules without fitted numbers on COCO
    # photographs, playing cards and blood cells.
    weights: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3, 0.0, 1.0)

    def __call__(self, edges: Tensor, bin_sizes: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
        """The relative spread of each edge; arguments are fields of ``Detections``. (N, 4)"""
        features = edge_features(edges, bin_sizes, boxes, scores)
        return (features @ features.new_tensor(self.weights)).exp()


def edge_features(edges: Tensor, bin_sizes: Tensor, boxes: Tensor, scores: Tensor) -> Tensor:
    """``FEATURES`` of every edge; arguments are fields of ``Detections``. (N, 4, 5) float64"""
    edges, bin_sizes, boxes, scores = (x.to(widest(x.device)) for x in (edges, bin_sizes, boxes, scores))
    variance, mean = variance_of_bins(edges)
    fraction = mean.frac()
    excess = variance - fraction * (1 - fraction)  # without what a sharp edge between two bins has
    smallest = SMALLEST_STD**2
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)  # of left, top, right, bottom: width, height, width, height
    return torch.stack(
        [
            excess.clamp(min=smallest).log() / 2 + bin_sizes.log(),
            variance.clamp(min=smallest).log() / 2 + bin_sizes.log(),
            torch.maximum(sides, SMALLEST_STD * bin_sizes).log(),
            bin_sizes.log(),
            (1 + DOUBT_AT_ONE - scores).log().unsqueeze(1).expand(-1, 4),
        ],
        -1,
    )


def widest(device: torch.device) -> torch.dtype:
    """float64, but on Apple's GPUs, which do not have it, float32."""
    return torch.float32 if device.type == "mps" else torch.float64


def variance_of_bins(edges: Tensor) -> tuple[Tensor, Tensor]:
    """Variance and mean of each distribution, in bins squared and bins. (..., K) -> (...), (...)"""
    bins = torch.arange(edges.shape[-1], dtype=edges.dtype, device=edges.device)
    mean = (edges * bins).sum(-1)
    return (edges * (bins - mean.unsqueeze(-1)) ** 2).sum(-1).clamp(min=0), mean


@dataclass(frozen=True)
class OrderStatistics:
    """The errors of ``count`` boxes in ascending order, in spreads, of which the values at some ranks are kept."""

    count: int
    ranks: tuple[int, ...]  # ascending, from 1
    values: tuple[float, ...]

    def quantile(self, coverage: float) -> float:
        """The error that the next exchangeable box does not exceed with a probability of at least ``coverage``.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1, or so few boxes cannot promise it.
        """
        return self.values[self._place(coverage)]

    def rank(self, coverage: float) -> int:
        """The rank of that error among the ``count``, from 1; raises as ``quantile``.

        It is ceil((n + 1) coverage) (split conformal prediction, Papadopoulos et al. 2002), or the next rank that is
        kept.
        """
        return self.ranks[self._place(coverage)]

    def _place(self, coverage: float) -> int:
        least = least_count(coverage)
        if self.count < least:
            raise ValueError(
                f"a coverage of {coverage:g} needs at least {least:,} boxes, and the calibration had {self.count:,}"
            )
        return bisect_left(self.ranks, math.ceil((self.count + 1) * coverage - 1e-9))


def least_count(coverage: float) -> int:
    """The least number of boxes from which a coverage can be promised: 9 for 0.9, 99 for 0.99.

    Raises:
        ValueError: ``coverage`` is not between 0 and 1.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"a coverage lies between 0 and 1, not {coverage:g}")
    return math.ceil(coverage / (1 - coverage) - 1e-9)


@dataclass(frozen=True)
class ScoreCurve:
    """A function of the score that never falls: straight lines between points."""

    scores: tuple[float, ...]  # ascending
    values: tuple[float, ...]  # in 0..1, never falling

    def __call__(self, scores: Tensor) -> Tensor:
        """The value of each score, (N,) -> (N,) float32; beyond the first and last point it stays."""
        dtype, device = widest(scores.device), scores.device
        x, y = (torch.tensor(v, dtype=dtype, device=device) for v in (self.scores, self.values))
        at = scores.to(dtype).clamp(x[0], x[-1])
        right = torch.searchsorted(x, at.contiguous()).clamp(1, max(len(x) - 1, 1))
        if len(x) == 1:
            return y.expand(len(scores)).float()
        width = (x[right] - x[right - 1]).clamp(min=1e-12)
        share = (at - x[right - 1]) / width
        return (y[right - 1] + share * (y[right] - y[right - 1])).float()


@dataclass(frozen=True)
class Calibration:
    """Calibrated spread of edges, guarantees of boxes and edges, and calibrated scores of a model.

    The guarantees hold over detections like those that it was made from: matched to an object of their class at
    ``iou_threshold``, above ``score_threshold``, after non-maximum suppression, in images like these.
    """

    spread: SpreadRule
    std_factor: float  # root mean square of error / spread: times the spread it is a standard deviation in pixels
    correlation: tuple[tuple[float, ...], ...]  # (4, 4) of the errors of x1, y1, x2, y2, in coordinates
    boxes: OrderStatistics  # of the largest error / spread of the four edges of each box
    edges: tuple[OrderStatistics, ...]  # of each side
    # By label, of classes with enough boxes, and -1: of all others together. Empty: one for all, ``boxes``.
    boxes_of_class: Mapping[int, OrderStatistics]
    iou_curves: Mapping[int, ScoreCurve]  # by label; -1: all classes, for those that have too few detections
    precision_curves: Mapping[int, ScoreCurve]
    num_images: int
    num_boxes: int  # matched ones, that the guarantees count
    iou_threshold: float
    score_threshold: float | tuple[float, ...]
    is_fitted: bool  # whether the spread rule was fitted, to other images than the guarantees count
    data: str  # what it was made from, in a line
    weights: str  # digest of the weights that it belongs to
    images: tuple[str, ...] = ()  # digests of the images it was made from; empty: unknown

    def relabel(self, new_labels: Sequence[int]) -> Calibration:
        """For detections whose label i becomes ``new_labels[i]``, as ``Detections.relabel``.

        Classes that become one have no numbers of their own any more: scores have the curve of all classes, and where
        one of them had a guarantee of its own, the guarantee of all classes is that of each.
        """
        num_old = Counter(new for new in new_labels if new >= 0)
        own = {old: new for old, new in enumerate(new_labels) if new >= 0 and num_old[new] == 1}
        merged = {old for old, new in enumerate(new_labels) if new >= 0 and num_old[new] > 1}

        def of_new(table: Mapping[int, T]) -> dict[int, T]:
            return {own.get(label, label): one for label, one in table.items() if label < 0 or label in own}

        threshold = self.score_threshold
        if isinstance(threshold, tuple):
            lowest = [1.0] * (max(num_old, default=-1) + 1)
            for new, value in zip(new_labels, threshold, strict=True):
                if new >= 0:
                    lowest[new] = min(lowest[new], value)
            threshold = tuple(lowest)
        return replace(
            self,
            boxes_of_class={} if merged & self.boxes_of_class.keys() else of_new(self.boxes_of_class),
            iou_curves=of_new(self.iou_curves),
            precision_curves=of_new(self.precision_curves),
            score_threshold=threshold,
        )

    def can_promise(self, coverage: float) -> bool:
        """Whether it was made from enough boxes for a coverage.

        Raises:
            ValueError: ``coverage`` is not between 0 and 1.
        """
        return min(one.count for one in (self.boxes, *self.edges)) >= least_count(coverage)

    def factors(self, labels: Tensor, coverage: float, guarantee: Guarantee) -> Tensor:
        """By how many spreads the edges of each box may be off. (N, 4) float64

        Raises:
            ValueError: too few boxes for this coverage.
        """
        dtype = widest(labels.device)
        if guarantee == "edge":
            sides = [one.quantile(coverage) for one in self.edges]
            return torch.tensor(sides, dtype=dtype, device=labels.device).expand(len(labels), 4)
        if guarantee != "box":
            raise ValueError(f"a guarantee is of a 'box' or an 'edge', not {guarantee!r}")
        own = self.box_statistics({*labels.tolist()}, coverage)
        factor = {label: one.quantile(coverage) for label, one in own.items()}
        values = [factor[label] for label in labels.tolist()]
        return torch.tensor(values, dtype=dtype, device=labels.device).reshape(-1, 1).expand(-1, 4)

    def box_statistics(self, labels: Collection[int], coverage: float) -> dict[int, OrderStatistics]:
        """Those that the intervals of each class come from where all four edges of a box are promised.

        Raises:
            ValueError: too few boxes for this coverage.
        """
        self.boxes.quantile(coverage)
        own, least = self.boxes_of_class, least_count(coverage)
        if any(one.count < least for one in own.values()):  # else what some classes need less others would lack
            own = {}
        rest = own.get(-1, self.boxes)
        return {label: own.get(label, rest) for label in labels}

    def calibrate_scores(self, scores: Tensor, labels: Tensor, kind: ScoreKind) -> Tensor:
        """The expected IoU of each detection, 0 for a false positive, or its probability to be a true positive.

        scores (N,), labels (N,) -> (N,) float32 in 0..1
        """
        if kind not in ("iou", "precision"):
            raise ValueError(f"calibrated scores are of kind 'iou' or 'precision', not {kind!r}")
        return apply_curves(self.iou_curves if kind == "iou" else self.precision_curves, scores, labels)


def apply_curves(curves: Mapping[int, ScoreCurve], scores: Tensor, labels: Tensor) -> Tensor:
    """Each score by the curve of its class, else by that of all, whose label is -1. (N,), (N,) -> (N,) float32"""
    result = curves[-1](scores)
    for label in {*labels.tolist()} & curves.keys():
        result = torch.where(labels == label, curves[label](scores), result)
    return result


def keep_order_statistics(errors: Sequence[float] | Tensor, most: int = 2000) -> OrderStatistics:
    """The order statistics of some errors; of more than ``most`` those of the largest errors are all kept.

    Ranks that are left out cost coverage nothing, and width little: the next rank that is kept stands for them.
    """
    values = torch.as_tensor(errors, dtype=torch.float64).flatten().sort().values
    count = len(values)
    ranks = torch.arange(1, count + 1)
    if count > most:  # half of the ranks among the largest errors, where guarantees lie; the others ever wider apart
        tail = most // 2
        places = torch.logspace(math.log10(tail), math.log10(count), most - tail, dtype=torch.float64)
        places = torch.cat([torch.arange(1, tail + 1), places.round().long().clamp(1, count)]).unique()
        ranks = (count + 1 - places).flip(0)  # counted from the largest error
    kept = (values[ranks - 1] * 1e6).ceil() / 1e6  # upwards: short in a file, and no promise is broken
    return OrderStatistics(count, tuple(ranks.tolist()), tuple(kept.tolist()))
