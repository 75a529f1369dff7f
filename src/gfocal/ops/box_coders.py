"""How the logits of a box's edges become a box: the box coders beside the General distribution.

Li et al. 2020, table 5 compares three representations of an edge: a Dirac delta (one number), a Gaussian (mean and
variance) and the General distribution (``gfocal.ops.distributions``). Here are the first two, and the different codes
of the detectors before GFL, all of them Dirac deltas. They share the protocol ``BoxCoder``, so that one head, one
criterion and one decoder serve every detector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from gfocal.ops.boxes import boxes_from_distances
from gfocal.structures import Points

# A distance is an exp of its logit; above this limit a bad first step would overflow float32.
LARGEST_LOG = 10.0
# The distance of an edge whose logit is 0, as at initialization: half the side of ATSS's anchor, in strides.
FIRST_DISTANCE = 4.0


@runtime_checkable
class BoxCoder(Protocol):
    """What the box logits (..., 4, K) of a head mean, for the four edges of a point."""

    @property
    def num_bins(self) -> int:
        """K: numbers per edge."""
        ...

    @property
    def delta(self) -> float:
        """Distance between two values of ``probabilities``, in strides."""
        ...

    @property
    def has_distribution(self) -> bool:
        """Whether the numbers of an edge describe a distribution; False: its position alone."""
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """(..., 4, K) -> (..., 4, K'): the distribution of each edge on the values 0, delta, 2 delta, ... strides.

        K' is 0 where there is no distribution.
        """
        ...

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """(..., 4, K), points (...) -> (..., 4) xyxy in pixels of the network's input."""
        ...


@dataclass(frozen=True)
class DiracDistances:
    """One number x per edge: it lies 4 exp(x) strides from the point or, as in FCOS, exp(x) pixels."""

    in_pixels: bool = False
    delta: float = 1.0

    @property
    def num_bins(self) -> int:
        """One number per edge."""
        return 1

    @property
    def has_distribution(self) -> bool:
        """False: an edge is one number."""
        return False

    def probabilities(self, logits: Tensor) -> Tensor:
        """None. (..., 4, 1) -> (..., 4, 0)"""
        return logits[..., :0].float()

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """(..., 4, 1), points (...) -> (..., 4) xyxy in pixels."""
        distances = logits.squeeze(-1).float().clamp(max=LARGEST_LOG).exp()
        if not self.in_pixels:
            distances = distances * (points.strides.unsqueeze(-1) * FIRST_DISTANCE)
        return boxes_from_distances(points.xy, distances)


@dataclass(frozen=True)
class GaussianDistances:
    """Two numbers per edge: its mean is 4 exp(x_0) strides, its variance exp(x_1) strides squared.

    ``n`` and ``delta`` are the grid of ``probabilities``, as in the General distribution.
    """

    n: int = 16
    delta: float = 1.0

    @property
    def num_bins(self) -> int:
        """Mean and variance."""
        return 2

    @property
    def has_distribution(self) -> bool:
        """True: mean and variance."""
        return True

    def mean(self, logits: Tensor) -> Tensor:
        """(..., 2) -> (...), strides."""
        return logits[..., 0].float().clamp(max=LARGEST_LOG).exp() * FIRST_DISTANCE

    def log_variance(self, logits: Tensor) -> Tensor:
        """(..., 2) -> (...), log of strides squared; clamped to variances that float32 can divide by."""
        return logits[..., 1].float().clamp(-LARGEST_LOG, LARGEST_LOG)

    def probabilities(self, logits: Tensor) -> Tensor:
        """The mass between the middles of two neighboring values, the outer two unbounded. -> (..., 4, n + 1)"""
        std = (self.log_variance(logits) / 2).exp().unsqueeze(-1)
        middles = (torch.arange(self.n, dtype=std.dtype, device=std.device) + 0.5) * self.delta
        below = torch.special.ndtr((middles - self.mean(logits).unsqueeze(-1)) / std)  # (..., 4, n)
        ends = torch.zeros_like(below[..., :1])
        return torch.cat((below, 1 - ends), -1) - torch.cat((ends, below), -1)

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """(..., 4, 2), points (...) -> (..., 4) xyxy in pixels, at the means."""
        return boxes_from_distances(points.xy, self.mean(logits) * points.strides.unsqueeze(-1))


@dataclass(frozen=True)
class AnchorDeltas:
    """The four deltas of a box from an anchor (Girshick et al. 2014): dx, dy, dw, dh, one in each edge's place.

    ``stds`` scale them; RetinaNet uses ones, ATSS (0.1, 0.1, 0.2, 0.2).
    """

    stds: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    delta: float = 1.0
    largest_ratio: float = 1000 / 16  # of a side of the box to that of the anchor, and the reverse

    @property
    def num_bins(self) -> int:
        """One number in each edge's place."""
        return 1

    @property
    def has_distribution(self) -> bool:
        """False: an edge is one number."""
        return False

    def probabilities(self, logits: Tensor) -> Tensor:
        """None. (..., 4, 1) -> (..., 4, 0)"""
        return logits[..., :0].float()

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """(..., 4, 1), points with anchors (...) -> (..., 4) xyxy in pixels."""
        centers, sizes = _centers_and_sizes(points)
        deltas = _times(logits.squeeze(-1).float(), self.stds)
        limit = math.log(self.largest_ratio)
        middles = centers + deltas[..., :2] * sizes
        halves = sizes * deltas[..., 2:].clamp(-limit, limit).exp() / 2
        return torch.cat((middles - halves, middles + halves), -1)

    def encode(self, boxes: Tensor, points: Points) -> Tensor:
        """The inverse of ``boxes``. boxes (..., 4), points with anchors (...) -> (..., 4)"""
        centers, sizes = _centers_and_sizes(points)
        middles, spans = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-6)
        deltas = torch.cat(((middles - centers) / sizes, (spans / sizes).log()), -1)
        return _times(deltas, [1 / std for std in self.stds])


@dataclass(frozen=True)
class LogDistances:
    """FoveaBox (Kong et al. 2020): an edge lies exp(x) base sides from the point; a level's base side is
    ``base_in_strides`` strides.
    """

    base_in_strides: float = 2.0
    delta: float = 1.0

    @property
    def num_bins(self) -> int:
        """One number per edge."""
        return 1

    @property
    def has_distribution(self) -> bool:
        """False: an edge is one number."""
        return False

    def probabilities(self, logits: Tensor) -> Tensor:
        """None. (..., 4, 1) -> (..., 4, 0)"""
        return logits[..., :0].float()

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """(..., 4, 1), points (...) -> (..., 4) xyxy in pixels."""
        base = points.strides.unsqueeze(-1) * self.base_in_strides
        return boxes_from_distances(points.xy, logits.squeeze(-1).float().clamp(max=LARGEST_LOG).exp() * base)

    def encode(self, boxes: Tensor, points: Points) -> Tensor:
        """The inverse of ``boxes``, distances clamped to 1/16 ... 16 base sides. -> (..., 4)"""
        base = points.strides.unsqueeze(-1) * self.base_in_strides
        ltrb = torch.cat((points.xy - boxes[..., :2], boxes[..., 2:] - points.xy), -1)
        return (ltrb / base).clamp(1 / 16, 16).log()


def _centers_and_sizes(points: Points) -> tuple[Tensor, Tensor]:
    assert points.anchors is not None, "boxes are coded from anchors, but these points have none"
    return (points.anchors[..., :2] + points.anchors[..., 2:]) / 2, points.anchors[..., 2:] - points.anchors[..., :2]


def _times(deltas: Tensor, factors: Sequence[float]) -> Tensor:
    """Each of four numbers times its factor. A tensor of the factors would be copied to the device at every step."""
    return torch.stack([delta * factor for delta, factor in zip(deltas.unbind(-1), factors, strict=True)], -1)
