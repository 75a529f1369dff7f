"""The quality of a box, predicted from the shapes of its edge distributions (GFLv2: Li et al. 2021, DGQP).

An edge that is known well has a peaked distribution, an ambiguous one a flat or doubled one. A small network sees the
largest probabilities of each edge and their mean, and predicts how far the box can be trusted; the class score is
multiplied by it. Nothing else of GFL changes: the product is what QFL trains and what ranks boxes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.losses.numerics import at_least_float32

TOP_K = 4  # of the paper's section 4.2, as are the mean and the width of 64
HIDDEN = 64


class EdgeQuality(nn.Module):
    """Statistics of the four edge distributions of a point -> the logit of its box's quality."""

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        if num_bins < TOP_K:
            raise ValueError(
                f"dgqp reads the {TOP_K} largest probabilities of an edge, and n = {num_bins - 1} has fewer"
            )
        self.hidden = nn.Linear(4 * (TOP_K + 1), HIDDEN)
        self.out = nn.Linear(HIDDEN, 1)
        for layer in (self.hidden, self.out):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, box_logits: Float[Tensor, "B P 4 K"]) -> Float[Tensor, "B P 1"]:
        """The gradient flows on into the distributions, as published."""
        if is_eager_on_cpu(box_logits):
            largest = largest_by_planes(box_logits)
        else:  # the softmax of the largest logits alone: those of all bins are needed for the sum only
            largest = (box_logits.topk(TOP_K, -1).values - box_logits.logsumexp(-1, keepdim=True)).exp()
        # largest: (B, P, 4, 4)
        statistics = torch.cat((largest, largest.mean(-1, keepdim=True)), -1).flatten(2)  # (B, P, 20)
        return self.out(F.relu(self.hidden(statistics)))


def multiply_scores(
    cls_logits: Float[Tensor, "B P C"], quality_logits: Float[Tensor, "B P 1"]
) -> Float[Tensor, "B P C"]:
    """The logits of sigmoid(class) * sigmoid(quality), float32 at least.

    With 1 / (s q) = (1 + e^-c) (1 + e^-r) the logit of the product is -log(e^-c + e^-r + e^(-c - r)), which is
    r - softplus(softplus(r) - c): no probability is computed, and none can round to 0 or 1.
    """
    c, r = at_least_float32(cls_logits), at_least_float32(quality_logits)
    return r - softplus(F.softplus(r) - c)


def is_eager_on_cpu(x: Tensor) -> bool:
    """Whether a CPU computes at once what is made of a tensor, without gradients.

    Some fused kernels take longer there than the plain operations that they stand for.
    """
    return x.device.type == "cpu" and not x.requires_grad and not torch.compiler.is_compiling()


def largest_by_planes(box_logits: Float[Tensor, "B P 4 K"]) -> Float[Tensor, "B P 4 k"]:
    """The ``TOP_K`` largest probabilities of each edge, in descending order.

    A plane has one bin of all edges. Each is compared with the largest so far, as in insertion sort: an operation on
    a whole plane takes little, while ``topk`` sorts the few bins of each edge for itself.
    """
    bins = box_logits.permute(3, 0, 1, 2).contiguous()  # (K, B, P, 4)
    largest: list[Tensor] = []
    for plane in bins:
        rest = plane
        for i, other in enumerate(largest):
            largest[i], rest = torch.maximum(other, rest), torch.minimum(other, rest)
        if len(largest) < TOP_K:
            largest.append(rest)
    total = (bins - largest[0]).exp_().sum(0)  # (B, P, 4)
    return (torch.stack(largest, -1) - largest[0].unsqueeze(-1)).exp_() / total.unsqueeze(-1)


def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x), of which the logarithm takes a CPU a tenth of the time of ``log1p``.

    Between 1 and 2 the two differ by the rounding of 1 + e^-|x|, which the result of ``multiply_scores`` has anyway.
    """
    if not is_eager_on_cpu(x):
        return F.softplus(x)
    return x.abs().neg_().exp_().add_(1).log_().add_(x.clamp(min=0))
