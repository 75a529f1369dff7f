"""How far edges and scores of a model can be trusted, measured on annotated images; calibrated or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gfocal.calibration.chance import chance_of_coverage
from gfocal.calibration.coverage import Coverage, crps, ence, measure_coverage
from gfocal.calibration.matched import IOU_THRESHOLD, Scored, TruePositives, match_detections
from gfocal.calibration.scores import d_ece, la_ece
from gfocal.calibration.verdict import Origin, advise, describe_scores
from gfocal.data.dataset import ImageData
from gfocal.structures import Detections
from gfocal.structures.calibration import Calibration, Guarantee, apply_curves, variance_of_bins
from gfocal.text import pluralize


@dataclass(frozen=True)
class Trust:
    """What edges and scores are worth on some annotated images.

    Edges are those of the true positives above ``score_threshold``; scores those of all detections, down to the low
    ones that AP counts. Images without objects count by their false positives, detections on crowd regions not.
    """

    num_boxes: int  # true positives
    iou_threshold: float  # of their matches
    score_threshold: float | Sequence[float]
    is_calibrated: bool
    mean_std: float  # of edge_std, pixels; NaN without distributions or boxes, as the next three
    rms_error: float  # root mean square of the errors of the edges, pixels
    ence: float  # of edge_std, see ``ence``
    crps: float  # mean of the edges' distributions, pixels
    la_ece: float  # of the scores as they are
    d_ece: float
    calibrated_la_ece: float | None  # of the calibrated ones
    calibrated_d_ece: float | None
    boxes: tuple[Coverage, ...]  # of intervals that promise all four edges, at some coverages
    edges: tuple[Coverage, ...]  # of intervals that promise each edge
    num_images: int = 0  # in which the true positives are
    calibrated_on: Origin | None = None  # what the calibration was made from
    advice: tuple[str, ...] = ()  # what the coverage of boxes means, and what to do, in sentences

    def to_json(self) -> dict[str, Any]:
        """All of it as tables, lists and numbers; None for NaN."""
        return {key: None if value != value else value for key, value in asdict(self).items()}

    def describe(self) -> list[str]:
        """Lines for the terminal."""
        lines = []
        if self.mean_std == self.mean_std:
            kind = "calibrated" if self.is_calibrated else "not calibrated"
            boxes = pluralize(self.num_boxes, "true positive")
            lines.append(
                f"edges of {boxes} {describe_scores(self.score_threshold)}: error {self.rms_error:.1f} pixels (root "
                f"mean square), edge_std {self.mean_std:.1f} in the mean ({kind}), off by {self.ence:.0%} (ENCE "
                f"{self.ence:.2f}); distributions off by {self.crps:.2f} pixels (CRPS)"
            )
        for one in self.boxes:
            chance = "" if one.chance is None else f", {one.chance.describe()}"
            lines.append(
                f"boxes, {one.nominal:.0%} promised: {one.boxes:.1%} covered{chance}; intervals {one.width:.1f} "
                f"pixels wide in the mean, interval score {one.interval_score:.1f} (width and misses; lower is "
                "better)"
            )
        lines += [f"  {sentence}" for sentence in self.advice]
        if self.la_ece != self.la_ece:
            return [*lines, "scores: there are no detections"]
        scores = (
            f"scores: LaECE {self.la_ece:.3f} (off from the IoU), D-ECE {self.d_ece:.3f} (off from the share that is "
            "right)"
        )
        if self.calibrated_la_ece is not None:
            scores += f"; calibrated: LaECE {self.calibrated_la_ece:.3f}, D-ECE {self.calibrated_d_ece:.3f}"
        return [*lines, scores]


def measure_trust(
    data: ImageData,
    detections: Mapping[int, Detections],
    score_threshold: float | Sequence[float],
    coverages: Sequence[float] = (0.5, 0.9, 0.95),
    iou_threshold: float = IOU_THRESHOLD,
    model_name: str = "MODEL",
    data_name: str = "DATA",
) -> Trust:
    """Measure edges and scores on annotated images.

    Args:
        data: annotated images, none of which the model was trained or calibrated on.
        detections: by image id, down to the scores that AP needs.
        score_threshold: of the true positives; one number, or one of each class, by label.
        coverages: at which a calibrated model's intervals are measured; those that it cannot promise are left out.
        iou_threshold: of a match.
        model_name: what the commands of the advice call the model.
        data_name: and the data.
    """
    found, scored = match_detections(data, detections, score_threshold, iou_threshold)
    calibration = next((one.calibration for one in detections.values()), None)
    nan = float("nan")
    std, error, ence_of_std, mean_crps = nan, nan, nan, nan
    if len(found) and found.edges.shape[-1]:
        stds = edge_std(found, calibration)
        std, error = float(stds.mean()), float(found.errors.square().mean().sqrt())
        ence_of_std = ence(found.errors, stds)
        mean_crps = float(crps(found.edges.double(), found.bin_sizes.double(), true_distances(found)).mean())
    curves = None if calibration is None else calibrated_errors(scored, calibration)
    boxes, num_images = coverage_of(found, calibration, coverages, "box"), len(found.image.unique())
    origin = None if calibration is None else Origin.of(calibration)
    return Trust(
        num_boxes=len(found),
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        is_calibrated=calibration is not None,
        mean_std=std,
        rms_error=error,
        ence=ence_of_std,
        crps=mean_crps,
        la_ece=la_ece(scored.scores, scored.labels, scored.iou),
        d_ece=d_ece(scored.scores, scored.is_right),
        calibrated_la_ece=None if curves is None else curves[0],
        calibrated_d_ece=None if curves is None else curves[1],
        boxes=boxes,
        edges=coverage_of(found, calibration, coverages, "edge"),
        num_images=num_images,
        calibrated_on=origin,
        advice=() if origin is None else advise(boxes, num_images, score_threshold, origin, model_name, data_name),
    )


def edge_std(found: TruePositives, calibration: Calibration | None) -> Tensor:
    """``Detections.edge_std`` of true positives. (N, 4) float64"""
    if calibration is None:
        return variance_of_bins(found.edges.double())[0].sqrt() * found.bin_sizes
    return calibration.spread(found.edges, found.bin_sizes, found.boxes, found.scores) * calibration.std_factor


def true_distances(found: TruePositives) -> Tensor:
    """Distance of each edge of the ground truth from the point that found it, outwards, pixels. (N, 4)"""
    return torch.cat([found.points - found.gt_boxes[:, :2], found.gt_boxes[:, 2:] - found.points], 1)


def calibrated_errors(scored: Scored, calibration: Calibration) -> tuple[float, float]:
    """LaECE of the expected IoU, and D-ECE of the probability to be right."""
    iou = apply_curves(calibration.iou_curves, scored.scores, scored.labels)
    precision = apply_curves(calibration.precision_curves, scored.scores, scored.labels)
    return la_ece(iou, scored.labels, scored.iou), d_ece(precision, scored.is_right)


def coverage_of(
    found: TruePositives, calibration: Calibration | None, coverages: Sequence[float], guarantee: Guarantee
) -> tuple[Coverage, ...]:
    """Coverage of a calibrated model's intervals; those that are asked and that it can promise.

    Widths are those within the image, as ``Detections.edge_interval`` has them.
    """
    if calibration is None or not len(found):
        return ()
    spread = calibration.spread(found.edges, found.bin_sizes, found.boxes, found.scores)
    limit = found.sizes.flip(1).repeat(1, 2).double()  # (N, 4) width, height, width, height
    measured = []
    for coverage in coverages:
        if calibration.can_promise(coverage):
            half = spread * calibration.factors(found.labels, coverage, guarantee)
            low, high = (found.boxes - half).clamp(min=0), torch.minimum(found.boxes + half, limit)
            covered = (low <= found.gt_boxes) & (found.gt_boxes <= high)
            chance = chance_of_coverage(covered, found.image, found.labels, calibration, coverage, guarantee)
            measured.append(replace(measure_coverage(found.gt_boxes, low, high, coverage), chance=chance))
    return tuple(measured)
