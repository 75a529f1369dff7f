"""A teacher in a training run: which detector may teach which, and the network that asks it about each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.criteria.distillation import DistillingCriterion
from gfocal.criteria.gfl import Criterion
from gfocal.data.preprocess import InputSettings
from gfocal.errors import ResumeError
from gfocal.models.detector import Detector
from gfocal.models.precision import digest_weights
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import make_pyramid_points
from gfocal.structures import HeadOutputs, Points
from gfocal.text import one_line


class TaughtNetwork(nn.Module):
    """A network whose outputs have the teacher's edge logits for the same images too.

    The teacher is no part of the module: it has no parameters to train, stays in evaluation mode, and is in no state
    dict, no model file and no average of weights. Autocast holds for both.

    Args:
        network: the student, may be compiled.
        teacher: on the student's device; it is frozen.
        student_input: how the images are normalized. For a teacher with another mean or standard deviation they are
            normalized again; padding then keeps the student's mean color.
    """

    def __init__(self, network: nn.Module, teacher: Detector, student_input: InputSettings) -> None:
        super().__init__()
        self.network = network
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple, where torch does not look for modules
        device = next(teacher.parameters()).device
        theirs = teacher.input_settings
        mean, std, their_mean, their_std = (
            torch.tensor(values, device=device).view(3, 1, 1)
            for values in (student_input.mean, student_input.std, theirs.mean, theirs.std)
        )
        self._is_same_input = (student_input.mean, student_input.std) == (theirs.mean, theirs.std)
        self._factor, self._offset = std / their_std, (mean - their_mean) / their_std

    def forward(self, images: Tensor) -> HeadOutputs:
        """Normalized images (B, 3, H, W) -> the student's outputs, with ``teacher_box_logits``."""
        outputs = self.network(images)
        with torch.no_grad():
            seen = images if self._is_same_input else images * self._factor + self._offset
            taught = self._teacher[0](seen)
        return replace(outputs, teacher_box_logits=taught.box_logits)


def with_teacher(network: nn.Module, criterion: Criterion, model: Detector) -> nn.Module:
    """The network of a run as its criterion needs it: with a teacher, on the device of the model, if it has one."""
    if not isinstance(criterion, DistillingCriterion):
        return network
    device = next(model.parameters()).device
    teacher = criterion.teacher.to(device).to(memory_format=torch.channels_last)
    return TaughtNetwork(network, teacher, model.input_settings)


def explain_unfit_teacher(student: Detector, teacher: Detector) -> str:
    """Why a detector cannot teach another the distributions of its edges; empty if it can."""
    ours, theirs = student.box_coder, teacher.box_coder
    for who, coder in (("the student", ours), ("it", theirs)):
        if not isinstance(coder, GeneralDistribution):
            return f"{who} has no General distribution of edges (a preset gfl_... or nanodet_... has one)"
    assert isinstance(ours, GeneralDistribution)
    assert isinstance(theirs, GeneralDistribution)
    if (ours.n, ours.delta) != (theirs.n, theirs.delta):
        return (
            f"its edges have n = {theirs.n}, delta = {theirs.delta:g}, the student's n = {ours.n}, "
            f"delta = {ours.delta:g}; set model.options n and delta as the teacher's"
        )
    strides, their_strides = student.head.level_strides, teacher.head.level_strides
    if tuple(strides) != tuple(their_strides):  # type: ignore[arg-type]
        return f"its levels have the strides {_join(their_strides)}, the student's {_join(strides)}"
    points, their_points = _first_points(student), _first_points(teacher)
    if points.xy.shape != their_points.xy.shape or not torch.equal(points.xy, their_points.xy):
        return "its points lie elsewhere in their cells than the student's (model.options origin), or are more"
    both = set(student.names) & set(teacher.names)
    alone = {"it": sorted(set(teacher.names) - both), "the student": sorted(set(student.names) - both)}
    parts = [f"only {who} knows {_shorten(names)}" for who, names in alone.items() if names]
    return f"it has other classes: {'; '.join(parts)}" if parts else ""


def describe_teacher(criterion: Criterion, name: str | None) -> dict[str, object]:
    """What run.json has about the teacher, under its key; empty without one."""
    if not isinstance(criterion, DistillingCriterion):
        return {}
    teacher = criterion.teacher
    known = {"model": name, "preset": teacher.built_from["preset"], "weights": digest_weights(teacher)}
    return {"teacher": known}


def require_same_teacher(before: Mapping[str, Any] | None, criterion: Criterion, folder: Path) -> None:
    """ResumeError if the run of a run.json (None: it is lost, or new) had a teacher with other weights."""
    known = (before or {}).get("teacher")
    if not isinstance(criterion, DistillingCriterion) or not isinstance(known, dict):
        return
    if known.get("weights") != digest_weights(criterion.teacher):
        raise ResumeError(
            f"{folder}: its teacher {one_line(str(known.get('model')), 200)} has other weights now; restore the file "
            "that the run was started with, or start in another folder"
        )


def _shorten(names: Sequence[str]) -> str:
    return one_line(", ".join(names[:3]), 120) + f" and {len(names) - 3} more" * (len(names) > 3)


def _join(strides: object) -> str:
    return ", ".join(map(str, strides))  # type: ignore[call-overload]


def _first_points(model: Detector) -> Points:
    """The points of a pyramid with one cell on each level."""
    strides, head = model.head.level_strides, model.head
    layout = getattr(head, "origin", getattr(head, "point_layout", None))
    return make_pyramid_points([(1, 1)] * len(strides), strides, layout)  # type: ignore[arg-type]
