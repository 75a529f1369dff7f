"""The reference's numbers of NanoDet-Plus, in our layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from gfocal.ops.points import make_points
from gfocal.structures import HeadOutputs, Targets, pad_targets

LEVELS = range(4)
STRIDES = (8, 16, 32, 64)

Numbers = dict[str, npt.NDArray[Any]]


def read_numbers(shared: Path) -> Numbers:
    with np.load(shared / "parity" / "nanodet" / "nanodet_plus_m_small.npz") as file:
        return dict(file)


def recorded_outputs(numbers: Numbers, is_guided: bool) -> HeadOutputs:
    """The logits of both heads on the two images of 224 x 288; of the auxiliary one only where it guides."""
    shapes = [numbers[f"cls_logits_{level}"].shape[2:] for level in LEVELS]
    points = make_points([(int(h), int(w)) for h, w in shapes], STRIDES)

    def head(prefix: str) -> HeadOutputs:
        cls, box = (
            torch.cat(
                [torch.from_numpy(numbers[f"{prefix}{name}_logits_{i}"]).flatten(2).transpose(1, 2) for i in LEVELS],
                1,
            )
            for name in ("cls", "reg")
        )
        return HeadOutputs(cls.requires_grad_(), box.unflatten(-1, (4, 8)).requires_grad_(), points)

    return replace(head(""), auxiliary=head("aux_")) if is_guided else head("")


def ground_truth(numbers: Numbers, case: str, with_ignored: bool = False) -> Targets:
    """Of a case, without or with the regions that it marks as ignored."""
    boxes, labels, ignored = [], [], []
    for i in range(sum(key.startswith(f"{case}_gt_boxes_") for key in numbers)):
        own = [torch.from_numpy(numbers[f"{case}_gt_boxes_{i}"])]
        regions = numbers.get(f"{case}_gt_ignored_{i}")
        if with_ignored and regions is not None:
            own.append(torch.from_numpy(regions))
        number = len(own[0])
        boxes.append(torch.cat(own))
        labels.append(torch.zeros(len(boxes[-1]), dtype=torch.int64))
        labels[-1][:number] = torch.from_numpy(numbers[f"{case}_gt_labels_{i}"])
        ignored.append(torch.arange(len(boxes[-1])) >= number)
    return pad_targets(boxes, labels, ignored)


def relative(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, as a share of the largest value."""
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
