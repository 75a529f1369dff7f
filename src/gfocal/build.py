"""A config becomes a detector and its criterion: published settings of a preset, and a config's changes of them."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.dsla import assign_dsla
from gfocal.assigners.fcos import assign_fcos
from gfocal.assigners.fovea import assign_fovea
from gfocal.assigners.max_iou import assign_max_iou
from gfocal.assigners.sapd import assign_sapd
from gfocal.assigners.tal import assign_tal
from gfocal.config.config import Config, ConfigError, DistillSettings, MethodSettings, ModelSettings, SizeSettings
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.distillation import DistillingCriterion, Taught
from gfocal.criteria.gfl import Assign, Criterion, GFLCriterion
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.criteria.sapd import SAPDCriterion
from gfocal.criteria.ssd import SSDCriterion, assign_ssd
from gfocal.data.preprocess import InputSettings, scaled_long_side
from gfocal.errors import CheckpointImportError, DownloadError, ModelFileError, PresetError
from gfocal.interop.published_weights import load
from gfocal.losses.box import BoxLoss, SmoothL1Loss, gaussian_loss, log_iou_loss, overlap_loss
from gfocal.models.detector import Detector
from gfocal.models.finetuning import for_classes, freeze
from gfocal.models.initial_edges import begin_edges_at
from gfocal.models.options import check_options
from gfocal.models.published_settings import PublishedSettings
from gfocal.models.zoo import PRESETS, create, get_preset
from gfocal.ops.distributions import GeneralDistribution
from gfocal.training.teaching import explain_unfit_teacher

MIN_SIDE = 32  # pixels: what is not larger is one cell of C5, and a batch of one such image has no variance

# The names in ``PublishedSettings`` and in a config's [method], and the functions that they stand for.
ASSIGNERS: Mapping[str, Assign] = {
    "atss": assign_atss,
    "fcos": assign_fcos,
    "fcos_center": partial(assign_fcos, center_radius=1.5),
    "max_iou": assign_max_iou,
    "fovea": assign_fovea,
    "ssd": assign_ssd,
    "sapd": assign_sapd,
    "dsla": assign_dsla,
    "tal": assign_tal,
}
BOX_LOSSES: Mapping[str, Callable[[PublishedSettings], BoxLoss]] = {
    "giou": lambda _: overlap_loss,
    "log_iou": lambda _: log_iou_loss,
    "smooth_l1": lambda published: SmoothL1Loss(published.smooth_l1_beta),
    "gaussian": lambda _: gaussian_loss,
}
DFL_WEIGHT = GFLCriterion.dfl_weight  # of a detector that is published without DFL
DFL_ALONE = 4.0  # times its weight, where no box loss trains the edges too


def build_model(config: Config, names: Sequence[str]) -> Detector:
    """Build the detector of a config, for the classes of a dataset.

    Raises:
        PresetError: there is no such preset.
        ConfigError: the preset has no such option, or a value does not fit.
        WeightsError: the ImageNet weights cannot be fetched.
        DownloadError: the published weights that ``init_from`` names cannot be.
    """
    settings = config.model
    try:
        if settings.init_from is not None:
            model = for_classes(load(settings.init_from), names)
        else:
            model = create(
                settings.preset,
                len(names),
                names=tuple(names),
                pretrained=settings.pretrained,
                weights=settings.weights,
                **preset_options(settings),
            )
            if settings.initial_distance is not None:
                begin_edges_at(model, settings.initial_distance)
        model.input_settings = choose_size(model.input_settings, config.size)
        if config.images.value_range is not None:
            model.input_settings = replace(
                model.input_settings, value_range=config.images.value_range, is_value_range_stated=True
            )
    except (CheckpointImportError, ConfigError, DownloadError, ModelFileError, PresetError):
        raise
    except ValueError as error:
        raise ConfigError(f"{settings.preset} cannot be built by this config: {error}") from error
    return prepare_for_training(model, config)


def choose_size(published: InputSettings, size: SizeSettings) -> InputSettings:
    """The input settings of a preset with the size of a config.

    Raises:
        ValueError: the size is too small; or a preset's stretched input is to have another shape than the preset's,
            and the config does not say that it is to be stretched.
    """
    short_side = size.short_side or published.short_side
    in_proportion = scaled_long_side(published.long_side, published.short_side, short_side)
    long_side = size.long_side or in_proportion
    if short_side <= MIN_SIDE:
        raise ValueError(f"at a short side of {short_side} pixels an image is one cell; {MIN_SIDE + 1} is the least")
    stretch = published.stretch if size.stretch is None else size.stretch
    if size.stretch is None and stretch and abs(long_side - in_proportion) > 1:
        raise ValueError(
            f"it stretches images to {published.short_side} x {published.long_side} pixels (height x width), and "
            f"size.short_side = {short_side} with size.long_side = {long_side} is another shape; set "
            f"size.long_side = {in_proportion}, or size.stretch = true to stretch to this shape, or "
            "size.stretch = false to keep the aspect ratio of images"
        )
    return replace(published, short_side=short_side, long_side=long_side, antialias=size.antialias, stretch=stretch)


def prepare_for_training(model: Detector, config: Config) -> Detector:
    """Set a detector's frozen parts and activation checkpointing as in the config; returns the detector.

    Raises:
        ConfigError: its backbone has no stages to do this by.
    """
    try:
        if config.model.freeze is not None:
            freeze(model, config.model.freeze)
    except ValueError as error:
        raise ConfigError(f"model.freeze: {error}") from error
    needs_stages = (
        ("run.checkpoint_activations", config.run.checkpoint_activations),
        ("optimizer.layer_decay", config.optimizer.layer_decay < 1),
    )
    has_stages = len(model.backbone.parts()) > 1
    for key, wanted in needs_stages:
        if wanted and not has_stages:
            raise ConfigError(f"{key}: the backbone of {model.built_from['preset']} has no stages; leave it out")
    model.backbone.recompute = config.run.checkpoint_activations
    return model


def preset_options(settings: ModelSettings) -> dict[str, Any]:
    """The options for the preset's function; ConfigError for one that it lacks, of a wrong type or out of bounds."""
    try:
        return check_options(get_preset(settings.preset), settings.options)
    except PresetError:
        raise
    except ValueError as error:
        raise ConfigError(
            f"model.options of {settings.preset}: {error} (model.options={{}} takes the config's away)"
        ) from error


def build_criterion(model: Detector, method: MethodSettings) -> Criterion:
    """Build the criterion of a detector: as published with its preset, with the changes of ``method``.

    Raises:
        ConfigError: the method needs something that this detector does not have.
    """
    published = model.published
    if published.criterion == "sapd":
        return _build_sapd(model, method)
    if published.criterion == "ssd":
        return _build_ssd(model, method)
    if published.criterion == "nanodet":
        return _build_nanodet(model, method)
    if published.criterion == "gfl" and replace(method, exclude_ignored=True) == MethodSettings():
        assert isinstance(model.box_coder, GeneralDistribution)
        return GFLCriterion(
            box_coder=model.box_coder,
            assign=ASSIGNERS[published.assigner],
            beta=published.beta,
            cls_weight=published.cls_weight,
            box_weight=published.box_weight,
            dfl_weight=published.dfl_weight,
            exclude_ignored=method.exclude_ignored,
        )
    return _build_dense(model, method)


def add_teacher(criterion: Criterion, model: Detector, distill: DistillSettings) -> Criterion:
    """The criterion of a detector with the teacher of a config beside it; as it is without one.

    Raises:
        ConfigError: the teacher's edges are not distributions of the same kind, at the same points.
        ModelFileError: there is no such model, or it is damaged.
        DownloadError: published weights that cannot be downloaded.
    """
    if distill.teacher is None:
        return criterion
    teacher = load(distill.teacher)
    if reason := explain_unfit_teacher(model, teacher):
        student = model.built_from["preset"]
        raise ConfigError(f"distill.teacher: {distill.teacher} cannot teach {student}: {reason}")
    assert isinstance(criterion, Taught)
    return DistillingCriterion(criterion, teacher, distill.weight, distill.region_weight, distill.temperature)


def _build_dense(model: Detector, method: MethodSettings) -> DenseCriterion:
    published = model.published
    criterion = DenseCriterion(
        box_coder=model.box_coder,
        assign=ASSIGNERS[published.assigner],
        quality=published.quality,
        measure=published.measure,
        beta=published.beta,
        gamma=published.gamma,
        alpha=published.alpha,
        box_loss=BOX_LOSSES[published.box_loss](published),
        cls_weight=published.cls_weight,
        box_weight=published.box_weight,
        dfl_weight=published.dfl_weight,
        count_images=published.count_images,
    )
    changes: dict[str, Any] = {
        name: getattr(method, name)
        for name in (
            "quality",
            "measure",
            "cls_loss",
            "beta",
            "gamma",
            "alpha",
            "beta_warmup",
            "box_weights",
            "exclude_ignored",
        )
        if getattr(method, name) is not None
    }
    if method.cls_loss == "varifocal":  # those of the published Focal Loss are not its own
        changes |= {f"varifocal_{name}": changes.pop(name) for name in ("gamma", "alpha") if name in changes}
    if method.assigner is not None:
        changes |= {"assign": ASSIGNERS[method.assigner], "task_aligned": method.assigner == "tal"}
    if method.dfl is not None:
        changes["dfl_weight"] = DFL_WEIGHT if method.dfl else 0.0
    changes |= _weights_of_dfl_alone(model, method, changes.get("dfl_weight", published.dfl_weight))
    if method.box_loss == "giou":
        changes["box_loss"] = overlap_loss
    try:
        criterion = replace(criterion, **changes)
    except ValueError as error:
        raise ConfigError(f"method: {model.built_from['preset']}: {error}") from error
    _check_method(model, method, criterion)
    return criterion


def _weights_of_dfl_alone(model: Detector, method: MethodSettings, dfl_weight: float) -> dict[str, Any]:
    """The weights that ``method.box_loss`` changes; ConfigError where edges are not trained with DFL."""
    if method.box_loss is None:
        return {}
    if not isinstance(model.box_coder, GeneralDistribution) or not dfl_weight:
        raise ConfigError(
            f"method: box_loss = {method.box_loss!r} is beside DFL, with which {model.built_from['preset']} is not "
            "trained here; leave it out, or take a detector with box='general' and set method.dfl = true"
        )
    return {"box_weight": 0.0, "dfl_weight": DFL_ALONE * dfl_weight} if method.box_loss == "none" else {}


def _check_method(model: Detector, method: MethodSettings, criterion: DenseCriterion) -> None:
    """ConfigError where a method does not fit the head of a detector, or itself."""
    has_branch = model.published.quality == "branch"
    if (criterion.quality == "branch") != has_branch:
        fix = f"give model.options quality_branch = {'false' if has_branch else 'true'}"
        if "quality_branch" not in model.built_from["options"]:
            able = [name for name, preset in PRESETS.items() if "quality_branch" in typing.get_type_hints(preset)]
            fix = f"take {' or '.join(able)}, which may have one"
        raise ConfigError(
            f"method: quality {criterion.quality!r} does not go with a detector that has "
            f"{'a' if has_branch else 'no'} quality branch; {fix}, or another quality"
        )
    _check_loss(method, criterion)
    if method.assigner == "tal" and method.measure is not None:
        raise ConfigError("method: the assigner tal gives the targets itself, so there is no measure; leave it out")
    if method.assigner == "max_iou" and getattr(model.head, "per_cell", 1) == 1:
        raise ConfigError(
            f"method: the assigner max_iou needs anchors of several shapes, which {model.built_from['preset']} lacks"
        )


def _check_loss(method: MethodSettings, criterion: DenseCriterion) -> None:
    """ConfigError where a method sets something of a loss that it does not have."""
    loss = {"qfl": "QFL", "varifocal": "the Varifocal Loss"}[criterion.cls_loss]
    loss = loss if criterion.quality == "joint" else "the Focal Loss"
    focal = "a quality of none, branch or guided, or cls_loss = 'varifocal'"
    owners = {
        "cls_loss": (("QFL", "the Varifocal Loss"), "a quality of joint"),
        "beta": (("QFL",), "a quality of joint and no other cls_loss"),
        "beta_warmup": (("QFL",), "a quality of joint and no other cls_loss"),
        "gamma": (("the Focal Loss", "the Varifocal Loss"), focal),
        "alpha": (("the Focal Loss", "the Varifocal Loss"), focal),
    }
    for name, (losses, needed) in owners.items():
        if getattr(method, name) is not None and loss not in losses:
            raise ConfigError(
                f"method: {name} belongs to {' or '.join(losses)}, but with quality {criterion.quality!r} the "
                f"class loss is {loss}; leave it out, or give {needed}"
            )


def _build_ssd(model: Detector, method: MethodSettings) -> SSDCriterion:
    published, preset = model.published, model.built_from["preset"]
    # Softmax or sigmoids: the head was initialized for one of them.
    if method.quality is not None and method.quality != published.quality:
        raise ConfigError(
            f"method: quality {method.quality!r} does not go with this {preset}; give model.options "
            f"softmax = {'false' if published.quality == 'none' else 'true'}"
        )
    _check_keys(method, preset, ("quality", "beta", "exclude_ignored"))
    assert published.quality in ("none", "joint")
    return SSDCriterion(
        box_coder=model.box_coder,
        assign=ASSIGNERS[published.assigner],
        quality=published.quality,
        beta=published.beta if method.beta is None else method.beta,
        box_loss=BOX_LOSSES[published.box_loss](published),
        cls_weight=published.cls_weight,
        box_weight=published.box_weight,
        exclude_ignored=method.exclude_ignored,
    )


def _build_sapd(model: Detector, method: MethodSettings) -> SAPDCriterion:
    published = model.published
    _check_keys(method, model.built_from["preset"], ("exclude_ignored",))
    return SAPDCriterion(
        model,
        assign=ASSIGNERS[published.assigner],
        gamma=published.gamma,
        alpha=published.alpha,
        cls_weight=published.cls_weight,
        box_weight=published.box_weight,
        exclude_ignored=method.exclude_ignored,
    )


def _build_nanodet(model: Detector, method: MethodSettings) -> NanoDetCriterion:
    published = model.published
    _check_keys(method, model.built_from["preset"], ("box_loss", "beta", "exclude_ignored"))
    assert isinstance(model.box_coder, GeneralDistribution)
    criterion = NanoDetCriterion(
        box_coder=model.box_coder,
        assign=ASSIGNERS[published.assigner],
        beta=published.beta if method.beta is None else method.beta,
        cls_weight=published.cls_weight,
        box_weight=published.box_weight,
        dfl_weight=published.dfl_weight,
        exclude_ignored=method.exclude_ignored,
    )
    return replace(criterion, **_weights_of_dfl_alone(model, method, published.dfl_weight))


def _check_keys(method: MethodSettings, preset: str, allowed: Sequence[str]) -> None:
    """ConfigError where a method changes more than a criterion of its own allows."""
    for name, value in vars(method).items():
        if value is not None and name not in allowed:
            raise ConfigError(
                f"method: {preset} takes no {name} = {value!r}; of its method one may change: {', '.join(allowed)}"
            )
