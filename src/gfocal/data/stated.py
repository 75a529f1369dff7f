"""Objects exactly as annotation files state them, for evaluation.

Training clips boxes to the image, rounds them to float32 and drops what it cannot learn from. Evaluation programs of
COCO do none of this, so numbers equal theirs only on the boxes as they are stated: x, y, width, height in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class StatedObjects:
    """The objects of one image."""

    image_id: int | str  # as the file states it
    boxes: Tensor  # (S, 4) float64, x, y, width, height in pixels, anywhere
    labels: Tensor  # (S,) int64
    crowd: Tensor  # (S,) bool
    areas: Tensor  # (S,) float64, square pixels; NaN where not stated: that of the box


@dataclass(frozen=True)
class StatedTable:
    """The objects of all images of a dataset; of the same images as the ``SampleTable`` that has it."""

    image_ids: tuple[int | str, ...]
    offsets: Tensor  # (N + 1,) int64: image i has the objects offsets[i] to offsets[i + 1] - 1
    boxes: Tensor  # (S, 4) float64
    labels: Tensor  # (S,) int64
    crowd: Tensor  # (S,) bool
    areas: Tensor  # (S,) float64
    # Where boxes were scaled to the image files: x, y, width, height and area before. (S, 5) float64
    in_file: Tensor | None = None

    def __getitem__(self, index: int) -> StatedObjects:
        own = slice(*self.offsets[index : index + 2].tolist())
        columns = (self.boxes[own], self.labels[own], self.crowd[own], self.areas[own])
        return StatedObjects(self.image_ids[index], *columns)

    def select(self, indices: Tensor) -> StatedTable:
        """The objects of the images at some indices, in that order."""
        ids = tuple(self.image_ids[i] for i in indices.tolist())
        offsets, rows = select_groups(self.offsets, indices)
        in_file = None if self.in_file is None else self.in_file[rows]
        columns = (self.boxes[rows], self.labels[rows], self.crowd[rows], self.areas[rows])
        return StatedTable(ids, offsets, *columns, in_file)

    def relabel(self, new_labels: Tensor) -> StatedTable:
        """With other classes: label i becomes ``new_labels[i]``; objects whose new label is negative are left out."""
        labels = new_labels[self.labels]
        keep = labels >= 0
        offsets = count_up(keep, self.offsets)
        return replace(
            self,
            offsets=offsets,
            boxes=self.boxes[keep],
            labels=labels[keep],
            crowd=self.crowd[keep],
            areas=self.areas[keep],
            in_file=None if self.in_file is None else self.in_file[keep],
        )

    def before_scaling(self) -> StatedTable:
        """With the coordinates of the annotation file, in which detections in a file are too."""
        if self.in_file is None:
            return self
        return replace(self, boxes=self.in_file[:, :4], areas=self.in_file[:, 4], in_file=None)


def concatenate_stated(tables: Sequence[StatedTable]) -> StatedTable:
    """One table of the images of several."""
    counts = torch.cat([table.offsets.diff() for table in tables])
    in_file = [torch.cat((t.boxes, t.areas[:, None]), 1) if t.in_file is None else t.in_file for t in tables]
    return StatedTable(
        image_ids=tuple(image_id for table in tables for image_id in table.image_ids),
        offsets=make_offsets(counts),
        boxes=torch.cat([table.boxes for table in tables]),
        labels=torch.cat([table.labels for table in tables]),
        crowd=torch.cat([table.crowd for table in tables]),
        areas=torch.cat([table.areas for table in tables]),
        in_file=torch.cat(in_file) if any(table.in_file is not None for table in tables) else None,
    )


def index_by_stated_id(
    image_ids: Sequence[int], stated: StatedTable | None
) -> tuple[Mapping[int | str, int], Mapping[int, int | str]]:
    """Image ids of the file -> those of the dataset, and the reverse.

    Where the file's are not unique, as in datasets that were concatenated, both are those of the dataset.
    """
    ids = tuple(image_ids) if stated is None or len(set(stated.image_ids)) < len(image_ids) else stated.image_ids
    return dict(zip(ids, image_ids, strict=True)), dict(zip(image_ids, ids, strict=True))


def make_offsets(counts: Tensor) -> Tensor:
    """Start of each group of entries, and the end of the last one, from their lengths. (N,) -> (N + 1,)"""
    return torch.cat((counts.new_zeros(1), counts.cumsum(0)))


def select_groups(offsets: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Offsets of the chosen groups once they are concatenated, and the indices of their entries."""
    counts = offsets.diff()[chosen]
    new = make_offsets(counts)
    return new, torch.arange(int(new[-1])) + (offsets[chosen] - new[:-1]).repeat_interleave(counts)


def count_up(keep: Tensor, offsets: Tensor) -> Tensor:
    """Offsets of groups of which only the entries of a mask are kept."""
    return torch.cat((offsets.new_zeros(1), keep.long().cumsum(0)))[offsets]
