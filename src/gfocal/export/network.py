"""A detector as one function of tensors: what an exported file computes before non-maximum suppression."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models.convolutions import DeformableConv2d
from gfocal.models.detector import Detector
from gfocal.models.fused_layers import is_tensorflow_padded
from gfocal.models.nanodet import without_auxiliary
from gfocal.ops.box_coders import BoxCoder, GaussianDistances
from gfocal.ops.boxes import boxes_from_distances
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Points

SMALLEST = 1e-30  # probability of a bin whose logarithm is taken


class ExportedNetwork(nn.Module):
    """Normalized images (B, 3, H, W) -> the tensors that ``output_names`` lists.

    boxes (B, P, 4) xyxy in pixels of the input, not clipped; scores (B, P, C) in 0..1; points (P, 3) with x, y and
    stride; quality (B, P) in 0..1 of detectors with a quality branch, which multiplies the scores; edge_logits
    (B, P, 4, K) of detectors with distributions: their softmax is that of an edge over the values 0, delta, 2 delta
    ... strides.

    Args:
        model: a detector; the network has a copy of it.
    """

    def __init__(self, model: Detector) -> None:
        super().__init__()
        model = copy.deepcopy(without_auxiliary(model)).eval().requires_grad_(False)
        make_plain(model)
        self.backbone, self.neck, self.head = model.backbone, model.neck, model.head
        self.box_coder, self.softmax = model.box_coder, model.decode_settings.softmax
        self.has_quality = getattr(model.head, "quality_out", None) is not None

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs, in their order."""
        names = ["boxes", "scores", "points"]
        names += ["quality"] * self.has_quality
        return names + ["edge_logits"] * self.box_coder.has_distribution

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) -> tensors in the order of ``output_names``."""
        outputs = self.head(self.neck(self.backbone(images)))
        logits, points = outputs.cls_logits, outputs.points
        scores = F.pad(logits, (1, 0)).softmax(-1)[..., 1:] if self.softmax else logits.sigmoid()
        found = [
            decode_boxes(self.box_coder, outputs.box_logits, points),
            scores,
            torch.cat((points.xy, points.strides.unsqueeze(-1)), -1),
        ]
        if self.has_quality:
            found.append(outputs.quality_logits.sigmoid())
        if self.box_coder.has_distribution:
            found.append(edge_logits(self.box_coder, outputs.box_logits))
        return tuple(found)


def decode_boxes(box_coder: BoxCoder, box_logits: Tensor, points: Points) -> Tensor:
    """The box of each point. (B, P, 4, K), points (P) -> (B, P, 4)"""
    if not isinstance(box_coder, GeneralDistribution):
        return box_coder.boxes(box_logits, points)
    # A sum of products: engines compute a product of matrices in their own precision, or refuse it (OpenVINO).
    probabilities = box_coder.probabilities(box_logits)
    distances = (probabilities * box_coder.values(probabilities)).sum(-1) * points.strides.unsqueeze(-1)
    return boxes_from_distances(points.xy, distances)


def edge_logits(box_coder: BoxCoder, box_logits: Tensor) -> Tensor:
    """Numbers whose softmax is the distribution of each edge. (B, P, 4, K) -> (B, P, 4, K')"""
    if not isinstance(box_coder, GaussianDistances):
        return box_logits
    # The mass between neighboring middles as ``GaussianDistances.probabilities`` has it; onnx has erf, not ndtr.
    std = (box_coder.log_variance(box_logits) / 2).exp().unsqueeze(-1)
    middles = (torch.arange(box_coder.n, dtype=std.dtype) + 0.5) * box_coder.delta
    places = (middles - box_coder.mean(box_logits).unsqueeze(-1)) / std
    below = (places * 0.5**0.5).erf() * 0.5 + 0.5
    ends = torch.zeros_like(below[..., :1])
    return (torch.cat((below, 1 - ends), -1) - torch.cat((ends, below), -1)).clamp(min=SMALLEST).log()


def make_plain(network: nn.Module) -> None:
    """Replace, in place, what engines do not have, or what takes minutes to export.

    Deformable convolutions become operations that every engine has; padding that follows the size of a map as
    TensorFlow's does, whose formulas the exporter nests from layer to layer, becomes a number.
    """
    for module in list(network.modules()):
        module.__dict__.pop("forward", None)  # of depthwise convolutions, for autocast
        for name, child in module.named_children():
            if isinstance(child, DeformableConv2d):
                setattr(module, name, PlainDeformable(child))
            elif isinstance(child, nn.Conv2d) and is_tensorflow_padded(child):
                setattr(module, name, pad_by_numbers(child))


def pad_by_numbers(conv: nn.Conv2d) -> nn.Sequential:
    """A convolution that pads as TensorFlow does, for maps whose sides are multiples of its stride.

    Those of the backbone are: the input's sides are multiples of 32.
    """
    sides: list[int] = []
    for kernel, stride, dilation in zip(conv.kernel_size[::-1], conv.stride[::-1], conv.dilation[::-1], strict=True):
        total = max(dilation * (kernel - 1) + 1 - stride, 0)
        sides += [total // 2, total - total // 2]  # left and right, then top and bottom
    plain = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        _pair(conv.kernel_size),
        _pair(conv.stride),
        dilation=_pair(conv.dilation),
        groups=conv.groups,
        bias=False,
        device="meta",
    )
    plain.weight, plain.bias = conv.weight, conv.bias
    left, right, top, bottom = sides
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), plain)


def _pair(values: Sequence[int]) -> tuple[int, int]:
    return values[0], values[1]


class PlainDeformable(nn.Module):
    """A deformable convolution as bilinear sampling of its nine taps and a 1x1 convolution over them."""

    def __init__(self, original: DeformableConv2d) -> None:
        super().__init__()
        self.conv_offset, self.modulated = original.conv_offset, original.modulated
        self.stride, self.padding, self.dilation = (
            _first(value) for value in (original.stride, original.padding, original.dilation)
        )
        weight = original.weight  # (C', C / groups, 3, 3)
        self.groups_width = weight.shape[1]
        self.weight = nn.Parameter(weight.detach().flatten(1)[..., None, None], requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')"""
        raw = self.conv_offset(x)
        _, channels, height, width = x.shape
        rows, columns = raw.shape[-2:]
        offset = raw[:, :18].unflatten(1, (9, 2))  # (B, 9, 2, H', W'): y, x of each tap
        tap = torch.arange(9)
        tap_y = (torch.div(tap, 3, rounding_mode="floor") * self.dilation - self.padding).view(1, 9, 1, 1)
        tap_x = (tap % 3 * self.dilation - self.padding).view(1, 9, 1, 1)
        y = offset[:, :, 0] + tap_y + (torch.arange(rows) * self.stride).view(1, 1, -1, 1)
        x_place = offset[:, :, 1] + tap_x + (torch.arange(columns) * self.stride).view(1, 1, 1, -1)
        # In -1..1 from edge to edge, so that a map of one cell has a place, too.
        grid = torch.stack(((2 * x_place + 1) / width - 1, (2 * y + 1) / height - 1), -1)  # (B, 9, H', W', 2)
        taps = F.grid_sample(x, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False)
        taps = taps.unflatten(2, (9, rows))  # (B, C, 9, H', W')
        if self.modulated:
            taps = taps * raw[:, 18:].sigmoid().unsqueeze(1)
        return F.conv2d(taps.flatten(1, 2), self.weight, groups=channels // self.groups_width)


def _first(value: int | str | Sequence[int]) -> int:
    """The one number of a square stride, padding or dilation."""
    assert not isinstance(value, str)
    return value if isinstance(value, int) else value[0]
