"""A batch of two images for tests of criteria: three objects and none, and random predictions for it."""

from __future__ import annotations

import torch

from gfocal.ops.points import make_points
from gfocal.structures import HeadOutputs, Points, Targets, pad_targets

SIZES = torch.tensor([[64, 96], [64, 64]])


def ground_truth(count: int = 3) -> Targets:
    """So many objects in the first image, none in the second."""
    boxes = [[[3.1, 5.2, 40.3, 44.4], [20.5, 10.6, 90.7, 60.8], [60.0, 2.0, 75.0, 18.0]][:count], []]
    return pad_targets(
        [torch.tensor(b).reshape(-1, 4) for b in boxes],
        [torch.tensor([0, 2, 1][:count]), torch.tensor([], dtype=torch.int64)],
    )


def grid() -> Points:
    """Three levels of a batch of 64 x 96 pixels."""
    return make_points([(8, 12), (4, 6), (2, 3)], (8, 16, 32))


def random_outputs(seed: int = 0, num_bins: int = 5, with_teacher: bool = False) -> HeadOutputs:
    """Of three classes; gradients flow to all but the teacher's."""
    points, generator = grid(), torch.Generator().manual_seed(seed)
    cls = torch.randn(2, len(points.xy), 3, generator=generator) * 2 - 1
    box, taught = (torch.randn(2, len(points.xy), 4, num_bins, generator=generator) * 0.7 + 0.5 for _ in range(2))
    teacher = taught if with_teacher else None
    return HeadOutputs(cls.requires_grad_(), box.requires_grad_(), points, teacher_box_logits=teacher)
