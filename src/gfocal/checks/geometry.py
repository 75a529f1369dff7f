"""What of a detector decides which points are assigned to a box, and how far from a point an edge can be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.dsla import assign_dsla, choose
from gfocal.assigners.tal import assign_tal
from gfocal.criteria.gfl import Assign, Criterion
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.necks import STRIDES
from gfocal.ops.boxes import boxes_from_distances, distances_to_edges, iou
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import Origin
from gfocal.structures import PADDING, Assignment, Points, Targets

ORIGINS: tuple[Origin, ...] = ("corner", "legacy", "center")


@dataclass(frozen=True)
class DetectorGeometry:
    """Strides, points, regression range, input size and assigner of a detector with General distributions."""

    strides: tuple[int, ...]
    origin: Origin  # where in its cell a point lies
    n: int  # reg_max: an edge is at most n * delta strides from its point
    delta: float  # strides between two values of the distribution
    input_settings: InputSettings
    assign: Assign = assign_atss
    supports_finer_level: bool = False  # whether the preset offers a level of half the finest stride
    # Whether training assigns points by the detector's predictions, for which ``assign`` stands in.
    by_predictions: bool = False

    @property
    def regression_range(self) -> float:
        """The largest distance of an edge from its point, in strides."""
        return self.n * self.delta

    def with_short_side(self, short_side: int) -> DetectorGeometry:
        """The same at another input size of the same ratio."""
        return replace(self, input_settings=self.input_settings.with_short_side(short_side))

    def with_finer_level(self) -> DetectorGeometry:
        """The same with one more level, of half the finest stride."""
        return replace(self, strides=(self.strides[0] // 2, *self.strides), supports_finer_level=False)


def read_geometry(
    model: Detector, criterion: Criterion, short_sides: tuple[int, int] | None = None
) -> DetectorGeometry | None:
    """The geometry of a detector as ``criterion`` trains it; None if its edges have no regression range.

    ``short_sides`` is the range from which augmentation draws the short side: the largest counts, at which edges are
    farthest from their points and small boxes largest.
    """
    box_coder, strides = model.box_coder, getattr(model.head, "level_strides", ())
    point_layout = getattr(model.head, "origin", getattr(model.head, "point_layout", None))
    origin = next((name for name in ORIGINS if name == point_layout), None)  # None for heads with anchors
    if not isinstance(box_coder, GeneralDistribution) or origin is None or not strides:
        return None
    labels = getattr(criterion, "base", criterion)  # beside a teacher
    assign = getattr(labels, "assign", assign_atss)
    by_predictions = assign in (assign_dsla, assign_tal)
    if by_predictions:
        assign = partial(assign_by_reach, regression_range=box_coder.regression_range)
    geometry = DetectorGeometry(
        tuple(strides),
        origin,
        box_coder.n,
        box_coder.delta,
        model.input_settings,
        assign,
        by_predictions=by_predictions,
        supports_finer_level=model.built_from["options"].get("finest") == STRIDES[0],
    )
    if short_sides is None:
        return geometry
    size = model.input_settings
    if size.stretch:  # the long side is scaled with the short one
        return geometry.with_short_side(short_sides[1])
    return replace(geometry, input_settings=replace(size, short_side=min(short_sides[1], size.long_side)))


def assign_by_reach(
    points: Points, targets: Targets, taking_part: Tensor, regression_range: float, topk: int = 13
) -> Assignment:
    """What DSLA and TAL tend to, were predictions as good as the regression range allows.

    What they do is not known before.

    A box gets the ``topk`` points inside it whose best possible prediction, with each edge at most
    ``regression_range`` strides away, overlaps it most; of equals those nearest to its center. A point that several
    boxes claim goes to the one it can predict best. Arguments and result as those of the assigners.
    """
    gt_boxes = targets.boxes.float().unsqueeze(2)  # (B, G, 1, 4)
    distances = distances_to_edges(points.xy, gt_boxes)  # (B, G, P, 4)
    strides = points.strides.unsqueeze(-1)
    reachable = boxes_from_distances(points.xy, (distances / strides).clamp(0, regression_range) * strides)
    off_center = (distances[..., :2] - distances[..., 2:]).abs() / (gt_boxes[..., 2:] - gt_boxes[..., :2]).clamp(
        min=1
    )
    cost = 1e-3 * off_center.amax(-1) - iou(reachable, gt_boxes).clamp(min=1e-7).log()  # (B, G, P)
    may_be = (distances.amin(-1) > 0) & targets.valid.unsqueeze(2) & taking_part.unsqueeze(1)
    number = torch.full(targets.valid.shape, topk, device=cost.device)
    gt_index, slots, slot_positive = choose(torch.where(may_be, cost, torch.inf), number, topk)
    return Assignment(torch.where(taking_part, gt_index, PADDING), slots, slot_positive)
