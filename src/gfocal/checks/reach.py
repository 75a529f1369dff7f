"""Whether a detector can say how far its edges are: reach, and the points that are to learn each box.

A point of stride s says each of its four edges on the values 0, delta, ... n * delta strides (Li et al. 2020, section
3): no edge can be further from it than n * delta * s pixels of the network's input. Of an edge beyond, DFL is taught
the last value instead, whatever the ground truth is. How many edges that concerns follows from the boxes, the size of the
input and the assignment of points, before any training; and so does which boxes no point will learn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.assigners.atss import assign_atss
from gfocal.criteria.gfl import Assign
from gfocal.data.augmentation.labelled import thick
from gfocal.data.dataset import ImageData
from gfocal.data.preprocess import InputSettings, resized_shape, scale_xyxy
from gfocal.data.validation import NEARLY
from gfocal.ops.boxes import distances_to_edges
from gfocal.ops.points import Origin, inside_own_padding, make_points
from gfocal.structures import Points, pad_targets


@dataclass(frozen=True)
class LevelReach:
    """One pyramid level."""

    stride: int
    reach: float  # pixels of the network's input
    points: int  # that learn a box
    boxes: int  # that some point of this level learns
    edges_beyond: int

    @property
    def share(self) -> float:
        """Edges beyond reach, of four per point."""
        return self.edges_beyond / max(4 * self.points, 1)


@dataclass(frozen=True)
class LaidBox:
    """A box of which something is to be said."""

    image: int  # index in the data
    box: int  # index in the image
    sides: tuple[float, float]  # width and height in pixels of the network's input
    farthest: float = 0.0  # edge of its points, in strides
    stride: int = 0  # of that point


@dataclass(frozen=True)
class ReachResult:
    """What ``reach_of`` found."""

    n: int
    delta: float
    short_side: int
    long_side: int
    images: int  # that were laid out
    of_images: int  # that there are
    boxes: int
    levels: tuple[LevelReach, ...]
    distances: Tensor  # (E,) float32, every edge of every point that learns a box, in strides, ascending
    sides: Tensor  # (boxes,) float32, square root of each box's area in pixels of the network's input, ascending
    unplaced: tuple[LaidBox, ...]  # boxes that no point learns, but for those that nearly equal another
    beyond: tuple[LaidBox, ...]  # boxes with an edge beyond reach, of some point
    small: tuple[LaidBox, ...]  # boxes of a side under ``LEAST_INPUT``, that some point learns

    @property
    def points(self) -> int:
        """Points that learn a box."""
        return sum(level.points for level in self.levels)

    @property
    def share(self) -> float:
        """Edges beyond reach, of all."""
        return sum(level.edges_beyond for level in self.levels) / max(4 * self.points, 1)

    @property
    def unplaced_share(self) -> float:
        """Boxes that no point learns, of all."""
        return len(self.unplaced) / max(self.boxes, 1)

    def side_quantiles(self) -> dict[float, float]:
        """Share of the boxes -> the side in pixels of the network's input that they do not pass."""
        shares = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        if not len(self.sides):
            return {}
        return {share: float(self.sides[round(share * (len(self.sides) - 1))]) for share in shares}

    def share_beyond(self, strides: float) -> float:
        """Which share of the edges is further away than so many strides."""
        if not len(self.distances):
            return 0.0
        place = torch.searchsorted(self.distances, torch.tensor(strides, dtype=torch.float32), right=True)
        return 1.0 - int(place) / len(self.distances)


LEAST_INPUT = 4.0  # pixels of the network's input


@contextmanager
def one_thread() -> Iterator[None]:
    """Tensors of a few hundred numbers are not worth more threads, which on a busy machine wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
@one_thread()
def reach_of(
    data: ImageData,
    strides: Sequence[int],
    n: int,
    delta: float,
    input_settings: InputSettings,
    *,
    origin: Origin = "corner",
    assign: Assign = assign_atss,
    most_images: int | None = None,
) -> ReachResult:
    """Lay out the boxes of a dataset as training does, and count edges beyond reach and boxes without a point.

    Crops and other random augmentations are left out; images have the size of ``input_settings``. With
    ``most_images`` it looks at no more than so many, evenly spaced. It takes a millisecond an image at a short
    side of 320, five at 800.
    """
    count = len(data) if most_images is None else min(most_images, len(data))
    grid_of = lru_cache(maxsize=64)(lambda shape: _points(shape, strides, origin))
    images = 0
    laid: list[_Laid] = []
    for index in (i * len(data) // count for i in range(count)):
        sample = data.sample(index)
        if sample.size is None:
            continue
        images += 1
        kept = (~sample.crowd & thick(sample.boxes)).nonzero().flatten()
        if len(kept):
            shape = resized_shape(*sample.size, input_settings.short_side, input_settings.long_side)
            ground_truth = sample.boxes[kept] * scale_xyxy(sample.size, shape)
            multiple = input_settings.multiple
            grid = grid_of(tuple(-(-side // multiple) * multiple for side in shape))
            laid.append(_lay(ground_truth, torch.tensor([shape]), grid, assign, index, kept))
    return _summed(laid, strides, n, delta, input_settings, images, len(data))


@dataclass(frozen=True)
class _Laid:
    """The boxes of one image at the network's input, and the points that learn them."""

    image: int
    box: Tensor  # (G,) int64, index in the image
    sides: Tensor  # (G, 2) width and height
    twice: Tensor  # (G,) bool, nearly equal to another
    owner: Tensor  # (N,) int64, 0..G-1: which box a point learns
    stride: Tensor  # (N,) of the point
    ltrb: Tensor  # (N, 4) from the point to the edges of its box, in strides


def _lay(ground_truth: Tensor, shape: Tensor, grid: Points, assign: Assign, image: int, box: Tensor) -> _Laid:
    labels = torch.zeros(len(ground_truth), dtype=torch.int64)
    assignment = assign(grid, pad_targets([ground_truth], [labels]), inside_own_padding(grid, shape))
    positive = (assignment.gt_index[0] >= 0).nonzero().flatten()
    owner, stride = assignment.gt_index[0][positive], grid.strides[positive]
    ltrb = distances_to_edges(grid.xy[positive], ground_truth[owner]) / stride.unsqueeze(-1)
    twice = (box_iou(ground_truth, ground_truth).fill_diagonal_(0) >= NEARLY).any(-1)
    return _Laid(image, box, ground_truth[:, 2:] - ground_truth[:, :2], twice, owner, stride, ltrb)


def _summed(
    laid: Sequence[_Laid],
    strides: Sequence[int],
    n: int,
    delta: float,
    input_settings: InputSettings,
    images: int,
    of_images: int,
) -> ReachResult:
    reach = n * delta
    unplaced, beyond, small = [], [], []
    for one in laid:
        farthest = torch.full((len(one.box),), -1.0)  # of a box without a point
        farthest = farthest.scatter_reduce(0, one.owner, one.ltrb.amax(-1), "amax")
        for g, edge in enumerate(farthest.tolist()):
            at = one.stride[(one.owner == g) & (one.ltrb.amax(-1) == farthest[g])]
            width, height = one.sides[g].tolist()
            box = LaidBox(one.image, int(one.box[g]), (width, height), edge, int(at[0]) if len(at) else 0)
            if edge < 0:
                unplaced += [] if bool(one.twice[g]) else [box]
            elif edge > reach:
                beyond.append(box)
            elif min(width, height) < LEAST_INPUT:
                small.append(box)
    empty = torch.zeros(0)
    stride = torch.cat([empty, *(one.stride for one in laid)])  # (N,)
    ltrb = torch.cat([torch.zeros(0, 4), *(one.ltrb for one in laid)])  # (N, 4)
    levels = []
    for level in strides:
        here = stride == level
        boxes = sum(len(one.owner[one.stride == level].unique()) for one in laid)
        levels.append(LevelReach(level, reach * level, int(here.sum()), boxes, int((ltrb[here] > reach).sum())))
    sides = torch.cat([empty, *(one.sides.prod(-1).sqrt() for one in laid)])
    return ReachResult(
        n=n,
        delta=delta,
        short_side=input_settings.short_side,
        long_side=input_settings.long_side,
        images=images,
        of_images=of_images,
        boxes=len(sides),
        levels=tuple(levels),
        distances=ltrb.flatten().sort().values,
        sides=sides.sort().values,
        unplaced=tuple(unplaced),
        beyond=tuple(beyond),
        small=tuple(small),
    )


def _points(shape: tuple[int, int], strides: Sequence[int], origin: Origin) -> Points:
    """The grid of a padded image; each level covers it, its last cells in part."""
    shapes = [(-(-shape[0] // stride), -(-shape[1] // stride)) for stride in strides]
    return make_points(shapes, strides, origin)
