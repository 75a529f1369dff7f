"""The calibration of a model from annotated images that its training did not see.

1. Detections are matched to objects; the true positives above the thresholds are what guarantees count.
2. The rule for the spread of an edge is the standard one, or fitted to a part of the images.
3. The errors of the other images, in spreads, give the guarantees by split conformal prediction.
4. Isotonic regression gives the curves from score to expected IoU and to precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gfocal.calibration.guarantees import guarantees
from gfocal.calibration.held_out import HeldOutIntervals, hold_out
from gfocal.calibration.matched import IOU_THRESHOLD, Scored, TruePositives, match_detections
from gfocal.calibration.scores import d_ece, fit_score_curves, la_ece
from gfocal.calibration.spread import (
    FIT_SHARE,
    MIN_BOXES_TO_FIT,
    choose_spread_rule,
    fold_of_images,
    relative_spread,
)
from gfocal.data.dataset import ImageData
from gfocal.data.identity import sorted_digests
from gfocal.errors import CalibrationError
from gfocal.structures import Detections
from gfocal.structures.calibration import MAX_DIGESTS, Calibration, SpreadRule, apply_curves, least_count
from gfocal.text import pluralize

FOLDS = 5  # of the cross-validated figures
FEW_IMAGES = 30  # with which a promise is rough


@dataclass(frozen=True)
class ScoreErrors:
    """How far scores are off, 0..1."""

    la_ece: float
    d_ece: float


@dataclass(frozen=True)
class CalibrationResult:
    """A calibration with what it is worth, measured on images that each figure's fit did not see."""

    calibration: Calibration
    held_out: HeldOutIntervals | None  # at the coverage that was asked; None: half of the boxes are too few for it
    scores_before: ScoreErrors
    scores_after: ScoreErrors  # cross-validated
    found: TruePositives
    scored: Scored
    num_counted_images: int  # in which are the boxes that the guarantees count

    def describe_rule(self) -> str:
        """By which rule the spread of an edge is expected, in a line."""
        shared = "the spread of its distribution, the side of its box and the score"
        if self.calibration.is_fitted:
            return f"fitted to {FIT_SHARE:.0%} of the images, which are not counted: {shared}, weighted"
        return (
            f"standard, with no fitted numbers: {shared} (one is fitted from {MIN_BOXES_TO_FIT} boxes on, if better)"
        )

    def describe_few_images(self) -> str:
        """That the promise is rough, where the images are few; else empty."""
        if self.num_counted_images >= FEW_IMAGES:
            return ""
        images = pluralize(self.num_counted_images, "image")
        return f"boxes of one image err alike: of {images} the promise is rough; annotate {FEW_IMAGES} or more"


def calibrate(
    data: ImageData,
    detections: Mapping[int, Detections],
    score_threshold: float | Sequence[float],
    where: str,
    weights: str,
    coverage: float = 0.9,
    iou_threshold: float = IOU_THRESHOLD,
    seed: int = 0,
) -> CalibrationResult:
    """Calibrate edges, boxes and scores.

    Args:
        data: annotated images that the model was not trained on.
        detections: of a model that is not calibrated, by image id, down to the scores that AP needs.
        score_threshold: the one that detections will have in use; one number, or one of each class, by label.
        where: what the data is, in a line.
        weights: digest of the model's weights.
        coverage: at which spread rules are compared, and which must be possible.
        iou_threshold: of a match.
        seed: of the division of the images.

    Raises:
        CalibrationError: no distributions, no true positives, or too few for the coverage.
    """
    found, scored = match_detections(data, detections, score_threshold, iou_threshold)
    least = least_count(coverage)
    _require_enough(found, coverage, where)
    fit, rest = divide_images(found, least, seed)
    rule = SpreadRule() if fit is None else choose_spread_rule(fit, coverage)
    ratios = rest.errors / relative_spread(rule, rest)  # (N, 4)
    boxes, edges, boxes_of_class = guarantees(ratios, rest.labels, least)
    calibration = Calibration(
        spread=rule,
        std_factor=float(ratios.square().mean().sqrt()),
        correlation=correlation_of(rest, rule),
        boxes=boxes,
        edges=edges,
        boxes_of_class=boxes_of_class,
        iou_curves=fit_score_curves(scored, "iou"),
        precision_curves=fit_score_curves(scored, "precision"),
        num_images=len(data),
        num_boxes=len(rest),
        iou_threshold=iou_threshold,
        score_threshold=tuple(score_threshold) if isinstance(score_threshold, Sequence) else score_threshold,
        is_fitted=rule != SpreadRule(),
        data=where[:1000],
        weights=weights,
        images=tuple(sorted_digests(data)[:MAX_DIGESTS]),  # a digest says nothing of the image: any are as good
    )
    return CalibrationResult(
        calibration=calibration,
        held_out=next(iter(hold_out(rest, calibration, [coverage], "box", seed)), None),
        scores_before=score_errors(scored, scored.scores, scored.scores),
        scores_after=cross_validate_scores(scored, seed),
        found=found,
        scored=scored,
        num_counted_images=len(rest.image.unique()),
    )


def _require_enough(found: TruePositives, coverage: float, where: str) -> None:
    """Raise CalibrationError unless these can promise a coverage."""
    least = least_count(coverage)
    if not len(found):
        raise CalibrationError(
            f"{where}: no detection above the score threshold is right, so there is nothing to calibrate on; "
            "is this data of the model's classes? 'gfocal eval' says how good the model is on it"
        )
    if not found.edges.shape[-1]:
        raise CalibrationError("this model has no edge distributions to calibrate; a GFL or NanoDet preset has")
    if len(found) < least:
        raise CalibrationError(
            f"{where}: a coverage of {coverage:g} needs at least {least:,} true positives, and there are "
            f"{len(found):,}; annotate more images, or ask for less coverage"
        )


def divide_images(found: TruePositives, least: int, seed: int = 0) -> tuple[TruePositives | None, TruePositives]:
    """The true positives of the images to fit a spread rule to, and those that the guarantees count.

    All are counted, and none fitted to, where there are so few that the guarantees need every one.
    """
    if len(found) < max(MIN_BOXES_TO_FIT, 4 * least):
        return None, found
    num_images = len(found.image.unique())
    to_fit = fold_of_images(found.image, num_images, seed) < int(FIT_SHARE * num_images)
    fit, rest = found.select(to_fit), found.select(~to_fit)
    # A few images may have most of the boxes.
    return (fit, rest) if len(rest) >= 2 * least and len(fit.image.unique()) >= FOLDS else (None, found)


def correlation_of(found: TruePositives, rule: SpreadRule) -> tuple[tuple[float, ...], ...]:
    """Correlation of the errors of x1, y1, x2, y2, in coordinates and in spreads, without their mean.

    Where boxes are shifted as a whole, x1 and x2 have errors of the same sign.
    """
    signed = (found.boxes - found.gt_boxes) / relative_spread(rule, found)  # (N, 4), in coordinates
    if len(found) < 3:
        return tuple(tuple(float(i == j) for j in range(4)) for i in range(4))
    deviation = signed.std(0).clamp(min=1e-12)
    covariance = torch.cov(signed.T) / (deviation.unsqueeze(0) * deviation.unsqueeze(1))
    covariance = (covariance + covariance.T).div(2).clamp(-1, 1).fill_diagonal_(1.0)
    return tuple(tuple(row) for row in covariance.tolist())


def cross_validate_scores(scored: Scored, seed: int = 0) -> ScoreErrors:
    """Errors of calibrated scores: each image's by curves that were fitted to other images."""
    iou, precision = cross_fit_scores(scored, seed)
    return score_errors(scored, iou, precision)


def score_errors(scored: Scored, iou: Tensor, precision: Tensor) -> ScoreErrors:
    """How far these scores of the detections, (N,) each, are from their IoUs and from how often they are right."""
    return ScoreErrors(la_ece(iou, scored.labels, scored.iou), d_ece(precision, scored.is_right))


def cross_fit_scores(scored: Scored, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Calibrated scores, expected IoU and precision, by curves that were fitted to other images. (D,), (D,)"""
    fold = fold_of_images(scored.image, FOLDS, seed)
    iou, precision = torch.zeros(len(scored)), torch.zeros(len(scored))
    for i in range(FOLDS):
        rest, held = scored.select(fold != i), fold == i
        if not len(rest) or not bool(held.any()):
            continue
        own = scored.select(held)
        iou[held] = apply_curves(fit_score_curves(rest, "iou"), own.scores, own.labels)
        precision[held] = apply_curves(fit_score_curves(rest, "precision"), own.scores, own.labels)
    return iou, precision
