"""From a config to a run: the only room, beside the command line, that knows configs and parts alike."""

# FOLDED methods: Which criterion teaches which detector: the published choices, and what a config's [method] changes of them.
from __future__ import annotations

import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.fcos import assign_fcos
from gfocal.assigners.fovea import assign_fovea
from gfocal.assigners.max_iou import assign_max_iou
from gfocal.config.config import Config, ConfigError, MethodSettings, ModelSettings
from gfocal.config.values import fitted
from gfocal.criteria.dense import DenseCriterion, Quality
from gfocal.criteria.gfl import Assign, Criterion, GFLCriterion
from gfocal.criteria.sapd import SAPDCriterion
from gfocal.criteria.ssd import SSDCriterion
from gfocal.errors import ModelFileError, PresetError
from gfocal.losses.box import CodedLoss, gaussian_loss, log_iou_loss, overlap_loss
from gfocal.models.backbone import Backbone
from gfocal.models.detector import Detector
from gfocal.models.finetuning import for_classes, freeze
from gfocal.models.model_file import load_model
from gfocal.models.zoo import create, preset_named
from gfocal.ops.box_coders import GaussianDistances
from gfocal.ops.distributions import GeneralDistribution

LEAST_SIDE = 32  # pixels: what is not larger is one cell of C5, and a batch of one such image has no variance
# Arguments of a preset that other parts of a config, or the data, decide.
NOT_OPTIONS = ("num_classes", "names", "pretrained", "weights", "input_settings", "return")


def build_model(config: Config, names: Sequence[str]) -> Detector:
    """The detector of a config, for the classes of a dataset.

    Raises:
        PresetError: there is no such preset.
        ConfigError: the preset has no such option, or a value does not fit.
        WeightsError: the ImageNet weights cannot be had.
    """
    settings = config.model
    try:
        if settings.init_from is not None:
            model = for_classes(load_model(settings.init_from), names)
        else:
            model = create(
                settings.preset,
                len(names),
                names=tuple(names),
                pretrained=settings.pretrained,
                weights=settings.weights,
                **checked_options(settings),
            )
        size = model.input_settings
        short_side = config.size.short_side or size.short_side
        long_side = config.size.long_side or max(size.long_side * short_side // size.short_side, short_side)
        if short_side <= LEAST_SIDE:
            raise ValueError(
                f"at a short side of {short_side} pixels an image is one cell; {LEAST_SIDE + 1} is the least"
            )
        model.input_settings = replace(
            size, short_side=short_side, long_side=long_side, antialias=config.size.antialias
        )
    except (ConfigError, ModelFileError, PresetError):
        raise
    except ValueError as error:
        raise ConfigError(f"{settings.preset} cannot be built by this config: {error}") from error
    return prepared(model, config)


def prepared(model: Detector, config: Config) -> Detector:
    """A detector made ready for training as the config says: what is frozen, what is computed twice.

    Raises:
        ConfigError: its backbone has no stages to do this by.
    """
    try:
        if config.model.freeze is not None:
            freeze(model, config.model.freeze)
    except ValueError as error:
        raise ConfigError(f"model.freeze: {error}") from error
    needing = [("run.checkpoint_activations", config.run.checkpoint_activations)]
    needing.append(("optimizer.layer_decay", config.optimizer.layer_decay < 1))
    has_stages = isinstance(model.backbone, Backbone) and len(model.backbone.parts()) > 1
    for key, wanted in needing:
        if wanted and not has_stages:
            raise ConfigError(f"{key}: the backbone of {model.built_from['preset']} has no stages; leave it out")
    if isinstance(model.backbone, Backbone):
        model.backbone.recompute = config.run.checkpoint_activations
    return model


def checked_options(settings: ModelSettings) -> dict[str, Any]:
    """The options for the preset's function; ConfigError for one that it lacks, or of a wrong type."""
    hints = typing.get_type_hints(preset_named(settings.preset))
    known = [key for key in hints if key not in NOT_OPTIONS]
    for key in settings.options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(known)}"
            raise ConfigError(
                f"model.options: {settings.preset} has no option {key!r}; {hint} "
                "(model.options={} takes the config's away)"
            )
    where = f"model.options of {settings.preset}"
    return {key: fitted(value, hints[key], where, key) for key, value in settings.options.items()}


ASSIGNERS: Mapping[str, Assign] = {
    "atss": assign_atss,
    "fcos": assign_fcos,
    "fcos_center": partial(assign_fcos, center_radius=1.5),
    "max_iou": assign_max_iou,
    "fovea": assign_fovea,
}
DFL_WEIGHT = GFLCriterion.dfl_weight


def criterion_of(model: Detector, method: MethodSettings) -> Criterion:
    """The criterion of a detector: as published with its preset, but for what ``method`` says.

    Raises:
        ConfigError: the method asks for something that this detector does not have.
    """
    preset = model.built_from["preset"]
    if preset == "sapd_r50_fpn":
        return _few(SAPDCriterion(model), method, preset, {"spare_ignored": None})
    if preset == "ssd512_vgg16":
        # Whether scores are read by a softmax or by sigmoids was decided with the network.
        quality: Literal["none", "joint"] = "none" if model.decode_settings.softmax else "joint"
        if method.quality is not None and method.quality != quality:
            raise ConfigError(
                f"method: quality {method.quality!r} does not go with this {preset}; give model.options "
                f"softmax = {'false' if quality == 'none' else 'true'}"
            )
        allowed = {"quality": None, "beta": None, "spare_ignored": None}
        return _few(SSDCriterion(model.box_coder, quality=quality), method, preset, allowed)
    if preset.startswith("gfl_") and replace(method, spare_ignored=True) == MethodSettings():
        assert isinstance(model.box_coder, GeneralDistribution)
        return GFLCriterion(box_coder=model.box_coder, spare_ignored=method.spare_ignored)
    has_branch = bool(model.built_from["options"].get("quality_branch", False))
    is_general = isinstance(model.box_coder, GeneralDistribution)
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
        raise ConfigError(f"method: {preset}: {error}") from error
    if (criterion.quality == "branch") != has_branch:
        fix = f"give model.options quality_branch = {'false' if has_branch else 'true'}"
        if preset not in ("atss_r50_fpn", "fcos_r50_fpn"):
            fix = "take atss_r50_fpn or fcos_r50_fpn, which may have one"
        raise ConfigError(
            f"method: quality {criterion.quality!r} does not go with a detector that has "
            f"{'a' if has_branch else 'no'} quality branch; {fix}, or another quality"
        )
    for name, needed in (("beta", "joint"), ("gamma", "none, branch or guided"), ("alpha", "none, branch or guided")):
        if getattr(method, name) is not None and (criterion.quality == "joint") != (name == "beta"):
            loss = "QFL" if name == "beta" else "the Focal Loss"
            raise ConfigError(
                f"method: {name} belongs to {loss}, but with quality {criterion.quality!r} there is none; "
                f"leave it out, or give a quality of {needed}"
            )
    if method.assigner == "max_iou" and preset != "retinanet_r50_fpn":
        raise ConfigError(f"method: the assigner max_iou needs anchors of several shapes, which {preset} has not")
    return criterion


def _published(model: Detector, preset: str, has_branch: bool, is_general: bool) -> DenseCriterion:
    """The choices and numbers that a detector was published with."""
    box_coder = model.box_coder
    if preset == "retinanet_r50_fpn":
        return DenseCriterion(box_coder, assign_max_iou, quality="none", box_loss=CodedLoss(0.0), box_weight=1.0)
    if preset == "foveabox_r50_fpn":
        return DenseCriterion(
            box_coder,
            assign_fovea,
            quality="none",
            gamma=1.5,
            alpha=0.4,
            box_loss=CodedLoss(0.11),
            box_weight=1.0,
            count_images=True,
        )
    if preset.startswith("gfl_"):
        return DenseCriterion(box_coder, assign_atss, dfl_weight=DFL_WEIGHT)
    quality: Quality = "branch" if has_branch else "none"
    box_loss, box_weight = overlap_loss, 2.0
    if isinstance(box_coder, GaussianDistances):
        box_loss, box_weight = gaussian_loss, 1.0
    elif preset == "fcos_r50_fpn":
        box_loss, box_weight = (overlap_loss if is_general else log_iou_loss), 1.0
    return DenseCriterion(
        box_coder,
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
            raise ConfigError(f"method: {preset} takes no {name} = {value!r}; of its method one may change: {known}")
    return replace(criterion, **changes)
