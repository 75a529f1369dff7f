"""Which criterion teaches which detector: the published choices, and what a recipe's [method] changes of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.fcos import assign_fcos
from gfocal.assigners.fovea import assign_fovea
from gfocal.assigners.max_iou import assign_max_iou
from gfocal.configs import MethodSettings, RecipeError
from gfocal.criterion import Assign, Criterion, GFLCriterion
from gfocal.dense_criterion import DenseCriterion, Quality
from gfocal.distributions import GeneralDistribution
from gfocal.losses.box import CodedLoss, gaussian_loss, log_iou_loss, overlap_loss
from gfocal.models.detector import Detector
from gfocal.representations import GaussianDistances
from gfocal.sapd_criterion import SAPDCriterion
from gfocal.ssd_criterion import SSDCriterion

ASSIGNERS: Mapping[str, Assign] = {
    "atss": assign_atss,
    "fcos": assign_fcos,
    "fcos_centre": partial(assign_fcos, centre_radius=1.5),
    "max_iou": assign_max_iou,
    "fovea": assign_fovea,
}
DFL_WEIGHT = GFLCriterion.dfl_weight


def criterion_of(model: Detector, method: MethodSettings) -> Criterion:
    """The criterion of a detector: as published with its preset, but for what ``method`` says.

    Raises:
        RecipeError: the method asks for something that this detector does not have.
    """
    preset = model.built_from["preset"]
    if preset == "sapd_r50_fpn":
        return _few(SAPDCriterion(model), method, preset, {"spare_ignored": None})
    if preset == "ssd512_vgg16":
        # Whether scores are read by a softmax or by sigmoids was decided with the network.
        quality: Literal["none", "joint"] = "none" if model.decode_settings.softmax else "joint"
        if method.quality is not None and method.quality != quality:
            raise RecipeError(
                f"method: quality {method.quality!r} does not go with this {preset}; give model.options "
                f"softmax = {'false' if quality == 'none' else 'true'}"
            )
        allowed = {"quality": None, "beta": None, "spare_ignored": None}
        return _few(SSDCriterion(model.distribution, quality=quality), method, preset, allowed)
    if preset.startswith("gfl_") and replace(method, spare_ignored=True) == MethodSettings():
        assert isinstance(model.distribution, GeneralDistribution)
        return GFLCriterion(distribution=model.distribution, spare_ignored=method.spare_ignored)
    has_branch = bool(model.built_from["options"].get("quality_branch", False))
    is_general = isinstance(model.distribution, GeneralDistribution)
    published = _published(model, preset, has_branch, is_general)
    changes: dict[str, Any] = {
        name: getattr(method, name)
        for name in ("quality", "measure", "beta", "gamma", "alpha", "spare_ignored")
        if getattr(method, name) is not None
    }
    if method.assigner is not None:
        changes["assign"] = ASSIGNERS[method.assigner]
    if method.dfl is not None:
        changes["dfl_weight"] = DFL_WEIGHT if method.dfl else 0.0
    try:
        criterion = replace(published, **changes)
    except ValueError as error:
        raise RecipeError(f"method: {preset}: {error}") from error
    if (criterion.quality == "branch") != has_branch:
        mend = f"give model.options quality_branch = {'false' if has_branch else 'true'}"
        if preset not in ("atss_r50_fpn", "fcos_r50_fpn"):
            mend = "take atss_r50_fpn or fcos_r50_fpn, which may have one"
        raise RecipeError(
            f"method: quality {criterion.quality!r} does not go with a detector that has "
            f"{'a' if has_branch else 'no'} quality branch; {mend}, or another quality"
        )
    for name, needed in (("beta", "joint"), ("gamma", "none, branch or guided"), ("alpha", "none, branch or guided")):
        if getattr(method, name) is not None and (criterion.quality == "joint") != (name == "beta"):
            loss = "QFL" if name == "beta" else "the Focal Loss"
            raise RecipeError(
                f"method: {name} belongs to {loss}, but with quality {criterion.quality!r} there is none; "
                f"leave it out, or give a quality of {needed}"
            )
    if method.assigner == "max_iou" and preset != "retinanet_r50_fpn":
        raise RecipeError(f"method: the assigner max_iou needs anchors of several shapes, which {preset} has not")
    return criterion


def _published(model: Detector, preset: str, has_branch: bool, is_general: bool) -> DenseCriterion:
    """The choices and numbers that a detector was published with."""
    distribution = model.distribution
    if preset == "retinanet_r50_fpn":
        return DenseCriterion(distribution, assign_max_iou, quality="none", box_loss=CodedLoss(0.0), box_weight=1.0)
    if preset == "foveabox_r50_fpn":
        return DenseCriterion(
            distribution,
            assign_fovea,
            quality="none",
            gamma=1.5,
            alpha=0.4,
            box_loss=CodedLoss(0.11),
            box_weight=1.0,
            count_images=True,
        )
    if preset.startswith("gfl_"):
        return DenseCriterion(distribution, assign_atss, dfl_weight=DFL_WEIGHT)
    quality: Quality = "branch" if has_branch else "none"
    box_loss, box_weight = overlap_loss, 2.0
    if isinstance(distribution, GaussianDistances):
        box_loss, box_weight = gaussian_loss, 1.0
    elif preset == "fcos_r50_fpn":
        box_loss, box_weight = (overlap_loss if is_general else log_iou_loss), 1.0
    return DenseCriterion(
        distribution,
        assign_fcos if preset == "fcos_r50_fpn" else assign_atss,
        quality=quality,
        measure="centerness" if has_branch else "iou",
        box_loss=box_loss,
        box_weight=box_weight,
    )


def _few(criterion: Any, method: MethodSettings, preset: str, allowed: Mapping[str, Any]) -> Criterion:
    """A criterion of its own, of which a method may change but a few things."""
    changes = {name: value for name, value in vars(method).items() if value is not None}
    for name, value in changes.items():
        if name not in allowed or (allowed[name] is not None and value not in allowed[name]):
            known = ", ".join(allowed) or "nothing"
            raise RecipeError(f"method: {preset} takes no {name} = {value!r}; of its method one may change: {known}")
    return replace(criterion, **changes)
