"""Where a new head predicts the edges of a box before it has learned anything.

With zero biases an edge begins as a uniform distribution, whose expectation is the middle of the regression range:
with n = 16 at 8 strides, so that every box begins 16 strides wide, 128 pixels on the first level. The IoU of such
boxes with small objects is nearly zero, and so are QFL's targets and the weights of the box losses in much of a short
run. Biases that fall by the same amount from bin to bin (of all distributions of a mean that of the largest entropy)
let edges begin about where objects have them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from gfocal.models.dense_head import DenseHead
from gfocal.models.detector import Detector
from gfocal.models.heads import GFLHead
from gfocal.models.nanodet import NanoDetHead
from gfocal.ops.distributions import GeneralDistribution


def begin_edges_at(model: Detector, distance: float) -> None:
    """Set the biases of a new head so that its edges begin at this distance from their points.

    Args:
        model: a detector whose head has not been trained.
        distance: expectation of the distributions, in strides, more than 0; where it is more than the middle of the
            regression range, edges begin in the middle.

    Raises:
        ValueError: the detector has no General distributions, or the distance is not positive.
    """
    coder = model.box_coder
    if not isinstance(coder, GeneralDistribution):
        raise ValueError("initial_distance is the mean of edge distributions, which it does not have (box='general')")
    if not distance > 0:
        raise ValueError(f"initial_distance must be more than 0 strides, not {distance:g}")
    distance = min(distance, coder.regression_range / 2)
    fall = fall_of_mean(coder.n, distance / coder.delta)
    biases = -fall * torch.arange(coder.num_bins, dtype=torch.float32)
    for out in box_convolutions(model.head):
        assert out.bias is not None, "heads predict with biases"
        with torch.no_grad():
            out.bias.copy_(biases.repeat(out.out_channels // coder.num_bins))


def box_convolutions(head: nn.Module) -> Iterator[nn.Conv2d]:
    """The convolutions of a head, its auxiliary one included, whose outputs are the logits of edges."""
    for module in head.modules():
        if isinstance(module, GFLHead | DenseHead):
            yield module.box_out
        elif isinstance(module, NanoDetHead):
            for out in module.box_outs:
                assert isinstance(out, nn.Conv2d)
                yield out


def fall_of_mean(n: int, mean: float) -> float:
    """c with softmax(-c i) over i = 0 ... n of this mean, which lies in 0..n; by bisection: the mean falls with c."""
    low, high = -60.0, 60.0
    for _ in range(100):
        middle = (low + high) / 2
        if mean_of_fall(n, middle) > mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mean_of_fall(n: int, fall: float) -> float:
    """Mean of softmax(-c i) over i = 0 ... n."""
    largest = max(0.0, -fall * n)
    weights = [math.exp(-fall * i - largest) for i in range(n + 1)]
    return sum(i * weight for i, weight in enumerate(weights)) / sum(weights)
