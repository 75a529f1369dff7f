"""The law of an edge: the known distribution from which the edge of a label is sampled.

A law is three floats (a, b, p), where a and b are positions in pixels of the image: x for the left and right side, y
for the top and bottom side. ``a`` is the inner position (nearer to the center of the object) and ``b`` the outer one,
so b < a on the left and top side:

- sharp edge: ``a == b`` is the label, p = 1;
- two-point law: the edge is ``b`` with probability p and ``a`` with probability 1 - p, p in 0..1;
- uniform law: the edge is uniform between ``a`` and ``b``, p is NaN.

Sides are numbered left 0, top 1, right 2, bottom 3. All functions are pure and take laws of shape (..., 3).
"""

from __future__ import annotations

import torch
from torch import Tensor


def law_mean(laws: Tensor) -> Tensor:
    """Expected position of the edge. (..., 3) -> (...), pixels."""
    inner, outer, share = _parts(laws)
    return inner + (outer - inner) * torch.where(share.isnan(), 0.5, share)


def law_std(laws: Tensor) -> Tensor:
    """Standard deviation of the edge. (..., 3) -> (...), pixels; 0 for a sharp edge."""
    inner, outer, share = _parts(laws)
    variance = torch.where(share.isnan(), 1 / 12, share * (1 - share))  # of a law on 0..1
    return (outer - inner).abs() * variance.sqrt()


def is_ambiguous(laws: Tensor) -> Tensor:
    """Whether the edge has more than one possible position. (..., 3) -> (...) bool."""
    return law_std(laws) > 0


def sample_edges(laws: Tensor, uniforms: Tensor) -> Tensor:
    """Sample one edge from each law by inverting its distribution at ``uniforms``.

    Args:
        laws: (..., 3), pixels.
        uniforms: (...), numbers in [0, 1); independent ones give independent edges.

    Returns:
        (...), pixels.
    """
    inner, outer, share = _parts(laws)
    uniforms = uniforms.to(laws.dtype)
    between = torch.lerp(inner, outer, uniforms)
    return torch.where(share.isnan(), between, torch.where(uniforms < share, outer, inner))


def law_probabilities(
    laws: Tensor, point_coordinate: Tensor | float, bin_size: Tensor | float, n: int, side: int
) -> Tensor:
    """The edge distribution over bins that distribution focal loss converges to under a law.

    Bin i is a distance of ``i * bin_size`` pixels from the point outwards, i = 0..n. A label at the
    distance y (in bins) is the two-hot vector h_i(y) = max(0, 1 - |y - i|), after y is clamped to 0..n; the
    minimizer of its cross-entropy is S_i = E[h_i(y)] (Li et al. 2020, eq. 6, averaged over the label). It has
    the mean of the law, sum_i i S_i = E[y], and its variance enlarged by E[f (1 - f)], f = frac(y). The
    expectation is in closed form: the integral of a hat function is piecewise quadratic.

    Args:
        laws: (..., 3), laws of one side, pixels.
        point_coordinate: x of the points for left and right, y for top and bottom, pixels; broadcast
            against (...).
        bin_size: pixels per bin (stride times the spacing of the bins), > 0; broadcast against (...).
        n: the last bin, at least 1.
        side: 0 left, 1 top, 2 right, 3 bottom.

    Returns:
        (..., n + 1), at least 0, with the sum 1, of the dtype of ``laws``. Edges at distances below 0 or above n bins
        are counted in the first and last bin.

    Raises:
        ValueError: if n or side is out of range.
    """
    if n < 1:
        raise ValueError(f"n = {n}: a distribution needs at least two bins, so n must be 1 or more")
    if side not in (0, 1, 2, 3):
        raise ValueError(f"side = {side}: sides are 0 left, 1 top, 2 right, 3 bottom")
    # Double precision: the quadratic antiderivatives are divided by widths that may be small.
    inner, outer, share = (part.double() for part in _parts(laws))
    outwards = -1.0 if side < 2 else 1.0
    near = outwards * (inner - point_coordinate) / bin_size  # (...), in bins
    far = outwards * (outer - point_coordinate) / bin_size
    share = share.expand_as(near).unsqueeze(-1)
    two_point = torch.lerp(_two_hot(near, n), _two_hot(far, n), share.nan_to_num(0.5))
    width = (far - near).unsqueeze(-1)
    too_narrow = width.abs() < 1e-6
    spread = (_two_hot_integral(far, n) - _two_hot_integral(near, n)) / torch.where(too_narrow, 1.0, width)
    spread = torch.where(too_narrow, _two_hot((near + far) / 2, n), spread)
    return torch.where(share.isnan(), spread, two_point).clamp(min=0).to(laws.dtype)


def _parts(laws: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    assert laws.shape[-1] == 3, f"laws are (..., 3), not {tuple(laws.shape)}"
    inner, outer, share = laws.unbind(-1)
    return inner, outer, share


def _two_hot(distance: Tensor, n: int) -> Tensor:
    """h_i of the clamped distance. (...) -> (..., n + 1)."""
    bins = torch.arange(n + 1, dtype=distance.dtype, device=distance.device)
    return (1 - (distance.clamp(0, n).unsqueeze(-1) - bins).abs()).clamp(min=0)


def _two_hot_integral(distance: Tensor, n: int) -> Tensor:
    """Antiderivative of every h_i at a distance. (...) -> (..., n + 1).

    With c(t) = clamp(t, 0, 1): h_0(y) = 1 - c(y), h_n(y) = c(y - n + 1), and h_i(y) = c(y - i + 1) - c(y - i)
    between; so all follow from the antiderivative r of c.
    """
    steps = torch.arange(n, dtype=distance.dtype, device=distance.device)
    t = distance.unsqueeze(-1) - steps
    r = t.clamp(0, 1) ** 2 / 2 + (t - 1).clamp(min=0)  # (..., n)
    return torch.cat([distance.unsqueeze(-1), r], -1) - torch.cat([r, torch.zeros_like(r[..., :1])], -1)
