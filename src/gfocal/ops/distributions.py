"""The General distribution of a box edge: a softmax over n + 1 values (Li et al. 2020, section 3, eq. 3-5).

An edge is the distance from a point to one side of the box, in strides. Its distribution lives on the values
y_0 = 0, y_1 = Delta, ..., y_n = n * Delta; the edge itself is the expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from gfocal.ops.boxes import boxes_from_distances
from gfocal.structures import Points


@dataclass(frozen=True)
class GeneralDistribution:
    """n + 1 values with spacing ``delta``, in strides. The paper's default is n = 16, delta = 1.

    ``n`` is ``reg_max`` in MMDetection and in GFocal's own code. It sets the regression range: an edge lies at most
    ``n * delta`` strides from its point.

    All methods take ``probabilities`` (..., n + 1) that sum to one, and return values in strides.
    """

    n: int = 16
    delta: float = 1.0

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"a distribution needs n >= 1, not {self.n}")
        if not self.delta > 0:
            raise ValueError(f"the spacing delta must be positive, not {self.delta}")

    @property
    def num_bins(self) -> int:
        """n + 1: how many values (and logits) an edge has."""
        return self.n + 1

    @property
    def has_distribution(self) -> bool:
        """True: the softmax over n + 1 values."""
        return True

    @property
    def regression_range(self) -> float:
        """The largest distance of an edge from its point, in strides: n * delta."""
        return self.n * self.delta

    def values(self, like: Tensor) -> Tensor:
        """y_0 ... y_n with the dtype and on the device of ``like``. (n + 1,)"""
        return torch.arange(self.num_bins, dtype=like.dtype, device=like.device) * self.delta

    def probabilities(self, logits: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape bins"]:
        """Softmax over the last dimension, in float32 at least."""
        self._check(logits)
        return logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))

    def expectation(self, probabilities: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """The predicted edge: sum_i P(y_i) y_i (eq. 5). (..., n + 1) -> (...)"""
        self._check(probabilities)
        return probabilities @ self.values(probabilities)

    def boxes(self, logits: Tensor, points: Points) -> Tensor:
        """The box of each point. (..., 4, n + 1), points (...) -> (..., 4) xyxy in pixels of the network's input."""
        distances = self.expectation(self.probabilities(logits)) * points.strides.unsqueeze(-1)
        return boxes_from_distances(points.xy, distances)

    def variance(self, probabilities: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """sum_i P(y_i) (y_i - expectation)^2. (..., n + 1) -> (...), in strides squared."""
        mean = self.expectation(probabilities).unsqueeze(-1)
        return (probabilities * (self.values(probabilities) - mean) ** 2).sum(-1)

    def std(self, probabilities: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """Standard deviation: the uncertainty of the edge. (..., n + 1) -> (...), in strides."""
        return self.variance(probabilities).clamp(min=0).sqrt()

    def entropy(self, probabilities: Float[Tensor, "*shape bins"]) -> Float[Tensor, "*shape"]:
        """-sum_i P(y_i) log P(y_i), in nats, 0 to log(n + 1). (..., n + 1) -> (...)"""
        self._check(probabilities)
        return torch.special.entr(probabilities).sum(-1)

    def quantile(self, probabilities: Tensor, q: float | Tensor) -> Tensor:
        """The distance below which a share q of the mass lies. (..., n + 1) -> (...), in strides.

        The mass of y_i is spread evenly over y_i -+ Delta/2, cut at 0 and n * Delta, which makes the
        distribution function continuous and strictly increasing wherever there is mass. ``q`` in 0..1, a
        number or a tensor of the result's shape.
        """
        self._check(probabilities)
        q = torch.as_tensor(q, dtype=probabilities.dtype, device=probabilities.device)
        if bool(((q < 0) | (q > 1)).any()):
            raise ValueError("a quantile lies between 0 and 1")
        q = q.expand(probabilities.shape[:-1]).unsqueeze(-1)  # (..., 1)
        above = probabilities.cumsum(-1)  # mass up to the upper end of each bin
        total = above[..., -1:]
        q = q * total  # the sum may differ from one by rounding
        index = (above < q).sum(-1, keepdim=True).clamp(max=self.n)  # (..., 1)
        mass = probabilities.gather(-1, index)
        below = above.gather(-1, index) - mass
        share = torch.where(mass > 0, (q - below) / mass.clamp(min=torch.finfo(mass.dtype).tiny), 0.0)
        lower = ((index - 0.5) * self.delta).clamp(min=0.0)
        upper = ((index + 0.5) * self.delta).clamp(max=self.regression_range)
        return (lower + share.clamp(0, 1) * (upper - lower)).squeeze(-1)

    def two_hot(self, y: Tensor) -> Tensor:
        """The unique distribution on the two values around y whose expectation is y. (...) -> (..., n + 1)

        This is the minimum of DFL (section 3). ``y`` in strides, within 0 and n * Delta.
        """
        position = (y / self.delta).unsqueeze(-1)
        bins = torch.arange(self.num_bins, dtype=position.dtype, device=position.device)
        return (1 - (position - bins).abs()).clamp(min=0)

    def _check(self, tensor: Tensor) -> None:
        if tensor.shape[-1] != self.num_bins:
            raise ValueError(
                f"an edge with n = {self.n} has {self.num_bins} values, but the tensor ends in "
                f"{tensor.shape[-1]}: shape {tuple(tensor.shape)}"
            )
