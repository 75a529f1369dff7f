"""What differs between the boxes of two images that show the same: boxes added, missing, moved, of another class."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.checks.findings import Box, Mark, MarkedBox
from gfocal.data.dataset import Sample
from gfocal.text import pluralize

MIN_IOU = 0.5  # of two boxes of one object
SAME_PIXELS = 1.0  # by which the corners of boxes that are the same may differ: rounding
SAME_IOU = 0.9  # of boxes that are the same, in images that are not equal


@dataclass(frozen=True)
class BoxChanges:
    """The boxes of two images, each with its mark, and the changes in words."""

    first: tuple[MarkedBox, ...]  # "missing" are those that the second image lacks
    second: tuple[MarkedBox, ...]  # "added" are those that the first image lacks
    text: str  # empty if nothing differs


def compare_boxes(
    first: Sample, second: Sample, names: tuple[str, ...], other_names: tuple[str, ...], *, is_equal: bool
) -> BoxChanges:
    """Match the boxes of two images, those of one class first, and mark what differs.

    ``names`` are the classes of the first image's data, ``other_names`` of the second's. ``is_equal``: the images
    have the same pixels, so that the corners of their boxes should be equal too.
    """
    labels = [names[int(label)] for label in first.labels]
    other_labels = [other_names[int(label)] for label in second.labels]
    scaled = first.boxes * _scale(first, second)
    pairs = _match(box_iou(scaled, second.boxes), labels, other_labels)
    marks: list[Mark] = ["missing"] * len(labels)
    other_marks: list[Mark] = ["added"] * len(other_labels)
    changed: Counter[str] = Counter()
    for i, j, iou in pairs:
        mark: Mark = "same"
        if labels[i] != other_labels[j]:
            mark = "other-class"
            changed[f"{labels[i]} → {other_labels[j]}"] += 1
        elif not _is_same(scaled[i], second.boxes[j], iou, is_equal):
            mark = "moved"
        marks[i] = other_marks[j] = mark
    return BoxChanges(
        _mark(first.boxes, marks), _mark(second.boxes, other_marks), _describe(marks, other_marks, changed)
    )


def _scale(first: Sample, second: Sample) -> Tensor:
    if first.size is None or second.size is None:
        return torch.ones(4)
    height, width = (after / max(before, 1) for before, after in zip(first.size, second.size, strict=True))
    return torch.tensor([width, height, width, height])


def _match(iou: Tensor, labels: list[str], other_labels: list[str]) -> list[tuple[int, int, float]]:
    """Pairs of boxes, each in one pair at most: of one class first, then by IoU."""
    rows, columns = (iou >= MIN_IOU).nonzero(as_tuple=True)
    candidates = [(i, j, float(iou[i, j])) for i, j in zip(rows.tolist(), columns.tolist(), strict=True)]
    candidates.sort(key=lambda one: (labels[one[0]] != other_labels[one[1]], -one[2]))
    used: set[int] = set()
    other_used: set[int] = set()
    pairs = []
    for i, j, value in candidates:
        if i not in used and j not in other_used:
            used.add(i)
            other_used.add(j)
            pairs.append((i, j, value))
    return pairs


def _is_same(first: Tensor, second: Tensor, iou: float, is_equal: bool) -> bool:
    return float((first - second).abs().max()) <= SAME_PIXELS if is_equal else iou >= SAME_IOU


def _mark(boxes: Tensor, marks: list[Mark]) -> tuple[MarkedBox, ...]:
    return tuple(MarkedBox(_corners(row), mark) for row, mark in zip(boxes.tolist(), marks, strict=True))


def _corners(row: list[float]) -> Box:
    x1, y1, x2, y2 = row
    return x1, y1, x2, y2


def _describe(marks: list[Mark], other_marks: list[Mark], changed: Counter[str]) -> str:
    number = {"added": other_marks.count("added"), "missing": marks.count("missing"), "moved": marks.count("moved")}
    parts = [f"{pluralize(count, 'box', 'boxes')} {mark}" for mark, count in number.items() if count]
    if changed:
        which = ", ".join(f"{name} ({count})" if count > 1 else name for name, count in changed.items())
        parts.append(f"{pluralize(sum(changed.values()), 'box', 'boxes')} of another class: {which}")
    if not parts:
        return ""
    same = marks.count("same")
    return ", ".join(parts) + (f"; {same:,} the same" if same else "")
