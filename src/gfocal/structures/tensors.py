"""What goes into the network and comes out of it: Batch, Targets, Points, HeadOutputs, Assignment, Losses.

The letters in shapes are defined in the docstring of the package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

BACKGROUND = -1
PADDING = -2


@dataclass(frozen=True)
class Targets:
    """The ground truth of a batch, padded to one number of boxes so that every shape is known in advance."""

    boxes: Tensor  # (B, G, 4) float32, xyxy in pixels of the network's input
    labels: Tensor  # (B, G) int64, 0..C-1
    valid: Tensor  # (B, G) bool, False where a row is no ground truth: padding, or an ignored region
    ignored: Tensor  # (B, G) bool, regions of unseparated objects: neither ground truth nor background

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        return Targets(self.boxes.to(device), self.labels.to(device), self.valid.to(device), self.ignored.to(device))


@dataclass(frozen=True)
class Batch:
    """The input of one training or evaluation step."""

    images: Tensor  # (B, 3, H, W) float32, normalized, zero beyond each image's own size
    targets: Targets
    sizes: Tensor  # (B, 2) int64, height and width of each image before padding
    original_sizes: Tensor  # (B, 2) int64, height and width of each image file
    image_ids: tuple[int, ...]

    def to(self, device: torch.device | str) -> Batch:
        """The same on another device, without synchronizing."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            targets=self.targets.to(device),
            sizes=self.sizes.to(device),
            original_sizes=self.original_sizes.to(device),
        )


@dataclass(frozen=True)
class Points:
    """The grid of locations of every pyramid level, levels concatenated, each row-major."""

    xy: Tensor  # (P, 2) float32, pixels of the network's input
    strides: Tensor  # (P,) float32
    cells: Tensor  # (P, 2) int64, column and row in the level's own map
    shapes: tuple[tuple[int, int], ...]  # height and width of each level's map
    level_strides: tuple[int, ...]
    # Of detectors that code boxes from anchors: one point for each anchor, those of a cell follow one another.
    anchors: Tensor | None = None  # (P, 4) float32, xyxy in pixels of the network's input
    per_cell: int | tuple[int, ...] = 1  # points per cell: of every level, or of each

    @property
    def counts(self) -> list[int]:
        """Number of points of each level."""
        per_cell = self.per_cell if isinstance(self.per_cell, tuple) else (self.per_cell,) * len(self.shapes)
        return [height * width * n for (height, width), n in zip(self.shapes, per_cell, strict=True)]

    def select(self, index: Tensor) -> Points:
        """The points at ``index``, which has any shape (...): xy (..., 2), strides (...), and so on.

        They form no map any more: ``shapes`` is empty.
        """
        anchors = None if self.anchors is None else self.anchors[index]
        return Points(self.xy[index], self.strides[index], self.cells[index], (), self.level_strides, anchors)


@dataclass(frozen=True)
class HeadOutputs:
    """Raw predictions of every point: logits, never losses, never probabilities."""

    cls_logits: Tensor  # (B, P, C)
    box_logits: Tensor  # (B, P, 4, K), sides left, top, right, bottom
    points: Points
    quality_logits: Tensor | None = None  # (B, P), of detectors with a separate quality branch
    # (B, F, h, w) of each level, the input of the head: of detectors whose criterion needs it, in training mode only
    pyramid: tuple[Tensor, ...] | None = None
    # Of an auxiliary head, which guides the assignment and is trained beside the main one: in training mode only
    auxiliary: HeadOutputs | None = None
    # (B, P, 4, K), of a teacher on the same images: in a run with distillation, without gradient
    teacher_box_logits: Tensor | None = None


@dataclass(frozen=True)
class Assignment:
    """Which ground-truth box each point is to predict.

    ``slots`` lists, at a fixed size, every point that may be positive, so that box losses gather M rows
    instead of indexing with a boolean mask of unknown size. Each positive point has exactly one slot
    whose ``slot_positive`` is True.
    """

    gt_index: Tensor  # (B, P) int64; BACKGROUND, or PADDING where the point takes no part
    slots: Tensor  # (B, M) int64, indices of points
    slot_positive: Tensor  # (B, M) bool
    # Of SAPD: weight of each slot in every loss, also in the class loss of its point. Of TAL: weight of its box
    # losses, and target of its class score. None: 1.
    weights: Tensor | None = None  # (B, M) float32


@dataclass(frozen=True)
class Losses:
    """The terms of the training loss (eq. 8), weighted and normalized, one value per pyramid level."""

    cls: Tensor  # (L,)
    box: Tensor  # (L,)
    dfl: Tensor  # (L,)
    num_positives: Tensor  # () float32
    quality: Tensor | None = None  # (L,), of detectors with a separate quality branch; of SAPD, its selector's
    distill: Tensor | None = None  # (L,), of a run with a teacher

    @property
    def total(self) -> Tensor:
        """The value to minimize: the sum of all terms. ()"""
        total = self.cls.sum() + self.box.sum() + self.dfl.sum()
        total = total if self.quality is None else total + self.quality.sum()
        return total if self.distill is None else total + self.distill.sum()

    def terms(self) -> dict[str, Tensor]:
        """Name of each term -> its value summed over levels, detached."""
        found = {name: getattr(self, name) for name in ("cls", "box", "dfl", "quality", "distill")}
        return {name: value.detach().sum() for name, value in found.items() if value is not None}


def pad_targets(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], ignored: Sequence[Tensor] | None = None, multiple: int = 8
) -> Targets:
    """Pad the ground truth of several images to one length.

    ``ignored`` (G,) bool of each image marks the boxes that are ignored regions, not ground truth; None: none.
    ``multiple`` rounds that length up, so that compiled code sees few shapes. There is at least one row, so that a
    batch without any object has the shapes of every other batch.
    """
    longest = max([len(b) for b in boxes] + [1])
    length = -(-longest // multiple) * multiple
    out_boxes = torch.zeros(len(boxes), length, 4)
    out_labels = torch.zeros(len(boxes), length, dtype=torch.int64)
    valid = torch.zeros(len(boxes), length, dtype=torch.bool)
    out_ignored = torch.zeros_like(valid)
    flags = [torch.zeros(len(b), dtype=torch.bool) for b in boxes] if ignored is None else ignored
    for i, (b, c, flag) in enumerate(zip(boxes, labels, flags, strict=True)):
        out_boxes[i, : len(b)], out_labels[i, : len(b)] = b, c
        valid[i, : len(b)], out_ignored[i, : len(b)] = ~flag, flag
    return Targets(out_boxes, out_labels, valid, out_ignored)
