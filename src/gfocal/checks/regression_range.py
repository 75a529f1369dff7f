"""Which edges lie outside a detector's regression range, and which boxes get no point assigned.

A point of stride s predicts each of its four edges as a distribution over the values 0, delta, ... n * delta strides
(Li et al. 2020, section 3; other codebases call n ``reg_max``): no edge can be farther from it than n * delta * s
pixels of the network's input. The DFL target of a farther edge is clamped to the last value, and the predicted box is
too small. How many edges that concerns, and which boxes get no point at all, follows from the boxes, the size of the
input and the assigner, before any training. Of an assigner that goes by predictions, only what it could do is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.checks.annotations import TINY_SIDE, describe_box, read_box
from gfocal.checks.findings import Finding
from gfocal.checks.geometry import DetectorGeometry
from gfocal.data.augmentation.labeled_image import has_min_side
from gfocal.data.dataset import FileData, ImageData
from gfocal.data.preprocess import input_shape, scale_xyxy
from gfocal.data.validation import NEAR_DUPLICATE_IOU
from gfocal.ops.boxes import distances_to_edges
from gfocal.ops.points import inside_own_padding, make_points
from gfocal.structures import Points, pad_targets
from gfocal.text import pluralize

TOLERATED = 0.01  # fraction of clamped edges, or of unassigned boxes, above which there is a finding and advice
MIN_SHOWN = 0.0001  # a smaller fraction is not printed as a number
SMALL_SIDE = 4.0  # pixels of the network's input
BY_PREDICTIONS = (
    "This detector's predictions decide in training which points learn a box; counted are the points inside each "
    "box, 13 at most, that could predict it best."
)


@dataclass(frozen=True)
class LevelResult:
    """One pyramid level."""

    stride: int
    range_pixels: float  # the regression range in pixels of the network's input
    num_points: int  # that are assigned to a box
    num_boxes: int  # that have a point of this level
    num_clamped: int  # edges outside the regression range

    @property
    def clamped_fraction(self) -> float:
        """Clamped edges, of four per point."""
        return self.num_clamped / max(4 * self.num_points, 1)


@dataclass(frozen=True)
class MeasuredBox:
    """A box that deserves a finding."""

    image: int  # index in the data
    box: int  # index in the image
    sides: tuple[float, float]  # width and height in pixels of the network's input
    max_distance: float = 0.0  # to the farthest edge from one of its points, in strides
    stride: int = 0  # of that point


@dataclass(frozen=True)
class RegressionRangeResult:
    """What ``measure_regression_range`` found."""

    n: int
    delta: float
    short_side: int
    long_side: int
    stretch: bool  # whether images are stretched to short_side x long_side
    num_images: int  # that were measured
    num_images_total: int
    num_boxes: int
    levels: tuple[LevelResult, ...]
    distances: Tensor  # (E,) float32, every edge of every assigned point, in strides, ascending
    sides: Tensor  # (num_boxes,) float32, square root of each box's area in pixels of the input, ascending
    unassigned: tuple[MeasuredBox, ...]  # boxes without a point, except those that nearly equal another
    clamped: tuple[MeasuredBox, ...]  # boxes with an edge outside the regression range of one of their points
    small: tuple[MeasuredBox, ...]  # other boxes with a side under ``SMALL_SIDE``
    by_predictions: bool = False  # training assigns by predictions; counted are the points that could be the best

    @property
    def size_text(self) -> str:
        """The size of the input in words that follow "at"."""
        if self.stretch:
            return f"{self.short_side} x {self.long_side} pixels"
        return f"a short side of {self.short_side}"

    @property
    def num_points(self) -> int:
        """Points that are assigned to a box."""
        return sum(level.num_points for level in self.levels)

    @property
    def clamped_fraction(self) -> float:
        """Edges outside the regression range, of all edges of assigned points."""
        return sum(level.num_clamped for level in self.levels) / max(4 * self.num_points, 1)

    @property
    def unassigned_fraction(self) -> float:
        """Boxes without a point, of all boxes."""
        return len(self.unassigned) / max(self.num_boxes, 1)

    def side_quantiles(self) -> dict[float, float]:
        """Fraction of the boxes -> the side in pixels of the network's input that they do not exceed."""
        fractions = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
        if not len(self.sides):
            return {}
        return {fraction: float(self.sides[round(fraction * (len(self.sides) - 1))]) for fraction in fractions}

    def fraction_beyond(self, strides: float) -> float:
        """Fraction of the edges that are farther than so many strides from their points."""
        if not len(self.distances):
            return 0.0
        place = torch.searchsorted(self.distances, torch.tensor(strides, dtype=torch.float32), right=True)
        return 1.0 - int(place) / len(self.distances)


@contextmanager
def single_thread() -> Iterator[None]:
    """Run torch on one thread: for tensors of a few hundred numbers more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
@single_thread()
def measure_regression_range(
    data: ImageData, geometry: DetectorGeometry, max_images: int | None = None
) -> RegressionRangeResult:
    """Assign points to the boxes of a dataset as training does; count clamped edges and unassigned boxes.

    Where training assigns them by the detector's predictions, those that could predict a box best are counted.

    Crops and other random augmentations are left out; images have the size of ``geometry.input_settings``. With
    ``max_images`` only that many, evenly spaced, are measured. Takes 1 ms an image at a short side of 320, 5 ms at
    800.
    """
    settings = geometry.input_settings
    count = len(data) if max_images is None else min(max_images, len(data))
    points_of_shape = lru_cache(maxsize=64)(lambda shape: _make_points(shape, geometry))
    num_images = 0
    assigned: list[_AssignedImage] = []
    for index in (i * len(data) // count for i in range(count)):
        sample = data.sample(index)
        if sample.size is None:
            continue
        num_images += 1
        trained = (~sample.crowd & has_min_side(sample.boxes)).nonzero().flatten()
        if len(trained):
            shape = input_shape(sample.size, settings)
            gt_boxes = sample.boxes[trained] * scale_xyxy(sample.size, shape)
            points = points_of_shape(tuple(-(-side // settings.multiple) * settings.multiple for side in shape))
            assigned.append(_assign_points(gt_boxes, shape, points, geometry, index, trained))
    return _summarize(assigned, geometry, num_images, len(data))


@dataclass(frozen=True)
class _AssignedImage:
    """The boxes of one image at the network's input, and the points assigned to them."""

    image: int
    box: Tensor  # (G,) int64, index in the image
    sides: Tensor  # (G, 2) width and height
    is_duplicate: Tensor  # (G,) bool, nearly equal to another box
    gt_index: Tensor  # (N,) int64, 0..G-1: the box of each assigned point
    stride: Tensor  # (N,) of the point
    ltrb: Tensor  # (N, 4) from the point to the edges of its box, in strides


def _assign_points(
    gt_boxes: Tensor, shape: tuple[int, int], points: Points, geometry: DetectorGeometry, image: int, box: Tensor
) -> _AssignedImage:
    labels = torch.zeros(len(gt_boxes), dtype=torch.int64)
    inside = inside_own_padding(points, torch.tensor([shape]))
    assignment = geometry.assign(points, pad_targets([gt_boxes], [labels]), inside)
    positive = (assignment.gt_index[0] >= 0).nonzero().flatten()
    gt_index, stride = assignment.gt_index[0][positive], points.strides[positive]
    ltrb = distances_to_edges(points.xy[positive], gt_boxes[gt_index]) / stride.unsqueeze(-1)
    is_duplicate = (box_iou(gt_boxes, gt_boxes).fill_diagonal_(0) >= NEAR_DUPLICATE_IOU).any(-1)
    return _AssignedImage(image, box, gt_boxes[:, 2:] - gt_boxes[:, :2], is_duplicate, gt_index, stride, ltrb)


def _make_points(shape: tuple[int, int], geometry: DetectorGeometry) -> Points:
    """The points of a padded image; each level covers it, its last cells in part."""
    shapes = [(-(-shape[0] // stride), -(-shape[1] // stride)) for stride in geometry.strides]
    return make_points(shapes, geometry.strides, geometry.origin)


def _summarize(
    assigned: Sequence[_AssignedImage], geometry: DetectorGeometry, num_images: int, num_images_total: int
) -> RegressionRangeResult:
    limit = geometry.regression_range
    unassigned, clamped, small = _sort_boxes(assigned, limit)
    empty = torch.zeros(0)
    stride = torch.cat([empty, *(one.stride for one in assigned)])  # (N,)
    ltrb = torch.cat([torch.zeros(0, 4), *(one.ltrb for one in assigned)])  # (N, 4)
    levels = []
    for level in geometry.strides:
        here = stride == level
        num_boxes = sum(len(one.gt_index[one.stride == level].unique()) for one in assigned)
        num_clamped = int((ltrb[here] > limit).sum())
        levels.append(LevelResult(level, limit * level, int(here.sum()), num_boxes, num_clamped))
    sides = torch.cat([empty, *(one.sides.prod(-1).sqrt() for one in assigned)])
    return RegressionRangeResult(
        n=geometry.n,
        delta=geometry.delta,
        short_side=geometry.input_settings.short_side,
        long_side=geometry.input_settings.long_side,
        stretch=geometry.input_settings.stretch,
        num_images=num_images,
        num_images_total=num_images_total,
        num_boxes=len(sides),
        levels=tuple(levels),
        distances=ltrb.flatten().sort().values,
        sides=sides.sort().values,
        unassigned=tuple(unassigned),
        clamped=tuple(clamped),
        small=tuple(small),
        by_predictions=geometry.by_predictions,
    )


def _sort_boxes(
    assigned: Sequence[_AssignedImage], limit: float
) -> tuple[list[MeasuredBox], list[MeasuredBox], list[MeasuredBox]]:
    """The unassigned boxes, those with a clamped edge, and the small ones among the others."""
    unassigned, clamped, small = [], [], []
    for one in assigned:
        max_distance = torch.full((len(one.box),), -1.0)  # of an unassigned box
        max_distance = max_distance.scatter_reduce(0, one.gt_index, one.ltrb.amax(-1), "amax")
        for g, distance in enumerate(max_distance.tolist()):
            at = one.stride[(one.gt_index == g) & (one.ltrb.amax(-1) == max_distance[g])]
            width, height = one.sides[g].tolist()
            box = MeasuredBox(one.image, int(one.box[g]), (width, height), distance, int(at[0]) if len(at) else 0)
            if distance < 0:
                unassigned += [] if bool(one.is_duplicate[g]) else [box]
            elif distance > limit:
                clamped.append(box)
            elif min(width, height) < SMALL_SIDE:
                small.append(box)
    return unassigned, clamped, small


def describe_clamping(result: RegressionRangeResult) -> str:
    """The clamped fractions in one sentence: of all edges, then of each level that has such edges."""
    levels = [
        f"{describe_clamped(level)} at stride {level.stride} (range {level.range_pixels:g} pixels)"
        for level in result.levels
        if level.num_clamped
    ]
    return (
        f"{format_fraction(result.clamped_fraction)} of the edges lie outside the regression range "
        f"(n = reg_max = {result.n}, delta = {result.delta:g}, at {result.size_text}): "
        f"{', '.join(levels) or 'on no level'}"
    )


def describe_unassigned(result: RegressionRangeResult) -> str:
    """How many boxes have no point of their own, and what that means in training."""
    count = f"{len(result.unassigned):,} of {pluralize(result.num_boxes, 'box', 'boxes')}"
    share = f"({result.unassigned_fraction:.1%})"
    if result.by_predictions:
        return (
            f"{count} {share} have no point of their own at {result.size_text}, none inside or all claimed by other "
            "boxes; predictions decide in training whether they get one all the same, and objects like them are "
            "hardly found"
        )
    return (
        f"{count} {share} get no point assigned at {result.size_text}: nothing is trained to find them, so objects "
        "like them are hardly found"
    )


def format_fraction(fraction: float) -> str:
    """A percentage; what is not zero is never shown as 0%."""
    if not fraction:
        return "0%"
    return f"{fraction:.2%}" if fraction >= MIN_SHOWN else "under 0.01%"


def describe_clamped(level: LevelResult) -> str:
    """The clamped fraction of a level, or how many edges they are where they are very few."""
    if 0 < level.clamped_fraction < MIN_SHOWN:
        return pluralize(level.num_clamped, "edge")
    return format_fraction(level.clamped_fraction)


def check_regression_range(
    result: RegressionRangeResult,
    data: FileData,
    split: str,
    where: str,
    max_clamped_fraction: float,
    no_larger_range: str = "",
    no_larger_input: str = "",
) -> list[Finding]:
    """A finding for each box that is concerned, and one for all of them where they are many.

    ``no_larger_range`` and ``no_larger_input`` say why there is no advice for clamped edges and unassigned boxes.
    """
    findings = []
    if result.clamped_fraction > TOLERATED or result.clamped_fraction > max_clamped_fraction:
        code = "many-edges-outside-regression-range"
        if result.clamped_fraction > max_clamped_fraction:
            code = "too-many-edges-outside-regression-range"
        text = describe_clamping(result)
        findings.append(_without_advice(Finding(code, where, split, text, split), no_larger_range))
    if result.unassigned_fraction > TOLERATED:
        text = describe_unassigned(result)
        finding = Finding("many-unassigned-boxes", where, split, text, split)
        findings.append(_without_advice(finding, no_larger_input))
    for box in result.clamped:
        text = (
            f"{box.max_distance:.1f} strides of {box.stride} pixels from a point to the farthest edge, "
            f"outside n * delta = {result.n * result.delta:g}; {_describe_size(box)}"
        )
        findings.append(_make_finding("edges-outside-regression-range", box, data, split, text))
    for code, boxes in (("unassigned-box", result.unassigned), ("small-box-at-input", result.small)):
        for box in boxes:
            if not _is_tiny(box, data):  # else it has a finding already
                findings.append(_make_finding(code, box, data, split, _describe_size(box)))
    return findings


def _without_advice(finding: Finding, reason: str) -> Finding:
    """A finding whose usual advice cannot be taken for a reason; as it is without one."""
    return replace(finding, own_command="", own_fix=reason) if reason else finding


def _describe_size(box: MeasuredBox) -> str:
    return f"{box.sides[0]:.1f} x {box.sides[1]:.1f} pixels at the input"


def _is_tiny(box: MeasuredBox, data: FileData) -> bool:
    x1, y1, x2, y2 = read_box(data.samples[box.image], box.box)
    return min(x2 - x1, y2 - y1) < TINY_SIDE


def _make_finding(code: str, box: MeasuredBox, data: FileData, split: str, text: str) -> Finding:
    sample = data.samples[box.image]
    record = describe_box(sample, box.box, data.names)
    return Finding(code, str(sample.path), record, text, split, sample.path, (read_box(sample, box.box),))
