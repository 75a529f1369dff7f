"""The criterion of each detector: the published settings, and what a config may change of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gfocal.assigners.atss import assign_atss
from gfocal.assigners.dsla import assign_dsla
from gfocal.assigners.fcos import assign_fcos
from gfocal.assigners.fovea import assign_fovea
from gfocal.assigners.max_iou import assign_max_iou
from gfocal.assigners.tal import assign_tal
from gfocal.build import build_criterion
from gfocal.config.config import Config, ConfigError, MethodSettings, with_changes
from gfocal.criteria.dense import DenseCriterion
from gfocal.criteria.gfl import GFLCriterion
from gfocal.criteria.nanodet import NanoDetCriterion
from gfocal.criteria.sapd import SAPDCriterion
from gfocal.criteria.ssd import SSDCriterion
from gfocal.losses.box import SmoothL1Loss, gaussian_loss, log_iou_loss, overlap_loss
from gfocal.models.detector import Detector
from gfocal.models.zoo import PRESETS, create
from gfocal.ops.distributions import GeneralDistribution

SMALL = {"body": "resnet18.tv_in1k", "channels": 32, "num_convs": 1}


def detector(preset: str, **options: Any) -> Detector:
    small: dict[str, Any] = {} if preset == "ssd512_vgg16" else SMALL
    if preset == "gfl_r18_fpn":
        small = {"channels": 32, "num_convs": 1}
    if preset == "nanodet_plus_m":
        small = {"channels": 32}
    return create(preset, 2, pretrained=False, **small, **options)


def test_gfl_as_published_has_the_gfl_criterion() -> None:
    model = create("gfl_light_fpn", 2, pretrained=False, channels=32, num_convs=1, n=8, delta=2.0)
    criterion = build_criterion(model, MethodSettings())
    assert isinstance(criterion, GFLCriterion)
    assert criterion == GFLCriterion(GeneralDistribution(8, 2.0))
    changed = build_criterion(model, MethodSettings(beta=1.0))
    assert isinstance(changed, DenseCriterion)
    published = GFLCriterion()
    assert (changed.quality, changed.measure, changed.beta) == ("joint", "iou", 1.0)
    assert (changed.dfl_weight, changed.box_weight) == (published.dfl_weight, published.box_weight)
    assert changed.assign is published.assign


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_a_criterion(preset: str) -> None:
    with torch.device("meta"):
        model = create(preset, 2, pretrained=False)
    published = model.published
    assert model.decode_settings == published.decode
    criterion: Any = build_criterion(model, MethodSettings())
    kinds = {
        "gfl": GFLCriterion,
        "dense": DenseCriterion,
        "ssd": SSDCriterion,
        "sapd": SAPDCriterion,
        "nanodet": NanoDetCriterion,
    }
    assert type(criterion) is kinds[published.criterion]
    assert (criterion.cls_weight, criterion.box_weight) == (published.cls_weight, published.box_weight)
    # Of these the numbers are repeated as defaults, for whoever calls them directly.
    if published.criterion == "ssd":
        assert replace(criterion, quality="none") == SSDCriterion(model.box_coder)
    if published.criterion == "sapd":
        assert criterion == SAPDCriterion(model)
    if published.criterion == "nanodet":
        assert criterion == NanoDetCriterion()


def test_the_published_choices() -> None:
    def of(preset: str, **options: Any) -> DenseCriterion:
        found = build_criterion(detector(preset, **options), MethodSettings())
        assert isinstance(found, DenseCriterion)
        return found

    retina = of("retinanet_r50_fpn")
    assert (retina.assign, retina.quality, retina.box_loss) == (assign_max_iou, "none", SmoothL1Loss(0.0))
    assert (retina.alpha, retina.gamma, retina.box_weight) == (0.25, 2.0, 1.0)
    fovea = of("foveabox_r50_fpn")
    assert (fovea.assign, fovea.quality, fovea.box_loss) == (assign_fovea, "none", SmoothL1Loss(0.11))
    assert (fovea.alpha, fovea.gamma, fovea.count_images) == (0.4, 1.5, True)
    fcos = of("fcos_r50_fpn")
    assert (fcos.assign, fcos.quality, fcos.measure) == (assign_fcos, "branch", "centerness")
    assert (fcos.box_loss, fcos.box_weight) == (log_iou_loss, 1.0)
    atss = of("atss_r50_fpn")
    assert (atss.assign, atss.quality, atss.measure) == (assign_atss, "branch", "centerness")
    assert (atss.box_loss, atss.box_weight, atss.dfl_weight) == (overlap_loss, 2.0, 0.0)
    assert of("atss_r50_fpn", quality_branch=False).quality == "none"
    assert of("atss_r50_fpn", box="gaussian").box_loss is gaussian_loss
    for softmax, quality in ((True, "none"), (False, "joint")):
        ssd = build_criterion(detector("ssd512_vgg16", softmax=softmax), MethodSettings())
        assert isinstance(ssd, SSDCriterion)
        assert ssd.quality == quality
    sapd = create("sapd_r50_fpn", 2, pretrained=False, **SMALL)
    assert isinstance(build_criterion(sapd, MethodSettings()), SAPDCriterion)
    nanodet = create("nanodet_plus_m", 2, pretrained=False, n=8, channels=32)
    changed = build_criterion(nanodet, MethodSettings(beta=1.5, exclude_ignored=False))
    assert changed == NanoDetCriterion(GeneralDistribution(8), assign_dsla, beta=1.5, exclude_ignored=False)


def test_a_method_changes_what_it_names_and_nothing_else() -> None:
    model = detector("atss_r50_fpn", box="general", quality_branch=False)
    method = MethodSettings(assigner="fcos_center", quality="joint", measure="iou", beta=2.5, dfl=True)
    found = build_criterion(model, method)
    assert isinstance(found, DenseCriterion)
    assert (found.quality, found.measure, found.beta, found.dfl_weight) == ("joint", "iou", 2.5, 0.25)
    assert found.assign is not assign_atss
    assert found.box_coder == model.box_coder
    assert found.box_loss is overlap_loss


def test_task_aligned_assignment_and_the_varifocal_loss() -> None:
    model = detector("gfl_r18_fpn")
    published = build_criterion(model, MethodSettings(cls_loss="qfl"))
    assert isinstance(published, DenseCriterion)
    aligned = build_criterion(model, MethodSettings(assigner="tal"))
    assert aligned == replace(published, assign=assign_tal, task_aligned=True)
    method = MethodSettings(cls_loss="varifocal", gamma=1.5, alpha=0.5)
    changes: dict[str, Any] = {
        "cls_loss": "varifocal",
        "varifocal_gamma": 1.5,
        "varifocal_alpha": 0.5,
    }
    assert build_criterion(model, method) == replace(published, **changes)
    fovea = build_criterion(detector("foveabox_r50_fpn"), MethodSettings(quality="joint", cls_loss="varifocal"))
    assert isinstance(fovea, DenseCriterion)
    assert (fovea.varifocal_gamma, fovea.varifocal_alpha) == (2.0, 0.75)  # not those of its Focal Loss


def test_the_box_loss_beside_dfl() -> None:
    model = detector("gfl_r18_fpn")
    giou = build_criterion(model, MethodSettings(box_loss="giou"))
    assert isinstance(giou, DenseCriterion)
    assert (giou.box_loss, giou.box_weight, giou.dfl_weight) == (overlap_loss, 2.0, 0.25)
    assert build_criterion(model, MethodSettings(box_loss="none")) == replace(giou, box_weight=0.0, dfl_weight=1.0)
    nanodet = detector("nanodet_plus_m")
    published = build_criterion(nanodet, MethodSettings())
    assert isinstance(published, NanoDetCriterion)
    assert build_criterion(nanodet, MethodSettings(box_loss="giou")) == published
    alone = build_criterion(nanodet, MethodSettings(box_loss="none"))
    assert alone == replace(published, box_weight=0.0, dfl_weight=1.0)
    atss = detector("atss_r50_fpn", box="general", quality_branch=False)
    with_dfl = build_criterion(atss, MethodSettings(quality="joint", dfl=True, box_loss="none"))
    assert isinstance(with_dfl, DenseCriterion)
    assert (with_dfl.box_weight, with_dfl.dfl_weight) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("preset", "options", "method", "message"),
    [
        ("atss_r50_fpn", {}, {"box_loss": "none"}, "is beside DFL"),
        ("gfl_r18_fpn", {}, {"dfl": False, "box_loss": "none"}, "is beside DFL"),
        ("ssd512_vgg16", {}, {"box_loss": "none"}, "takes no box_loss"),
        ("atss_r50_fpn", {}, {"dfl": True}, "no bins"),
        ("atss_r50_fpn", {}, {"quality": "joint"}, "quality_branch = false"),
        ("atss_r50_fpn", {"quality_branch": False}, {"quality": "branch"}, "quality_branch = true"),
        ("atss_r50_fpn", {}, {"assigner": "max_iou"}, "anchors of several shapes"),
        ("atss_r50_fpn", {}, {"beta": 1.0}, "beta belongs to QFL"),
        ("gfl_r18_fpn", {}, {"alpha": 0.5}, "alpha belongs to the Focal Loss or the Varifocal Loss"),
        (
            "gfl_r18_fpn",
            {},
            {"cls_loss": "varifocal", "beta": 1.0},
            "beta belongs to QFL, but .* is the Varifocal Loss",
        ),
        ("atss_r50_fpn", {}, {"cls_loss": "varifocal"}, "learns the quality in the class score"),
        ("atss_r50_fpn", {}, {"cls_loss": "qfl"}, "the class loss is the Focal Loss; .* a quality of joint"),
        ("atss_r50_fpn", {}, {"assigner": "tal"}, "TAL gives targets of the class score"),
        ("gfl_r18_fpn", {}, {"assigner": "tal", "measure": "iou"}, "there is no measure"),
        ("nanodet_plus_m", {}, {"cls_loss": "varifocal"}, "takes no cls_loss"),
        ("ssd512_vgg16", {}, {"assigner": "tal"}, "takes no assigner"),
        ("gfl_r18_fpn", {}, {"quality": "branch"}, "take atss_r50_fpn"),
        ("sapd_r50_fpn", {}, {"beta": 1.0}, "takes no beta = 1.0"),
        ("nanodet_plus_m", {}, {"assigner": "atss"}, "takes no assigner = 'atss'; .* beta, exclude_ignored"),
        ("nanodet_plus_m", {}, {"gamma": 1.0}, "takes no gamma"),
        ("ssd512_vgg16", {}, {"quality": "joint"}, "softmax = false"),
        ("ssd512_vgg16", {}, {"dfl": True}, "takes no dfl"),
    ],
)
def test_incompatible_methods_are_refused(
    preset: str, options: dict[str, Any], method: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_criterion(detector(preset, **options), MethodSettings(**method))


def test_a_config_sets_the_method() -> None:
    changes = {"method.quality": "joint", "method.beta": "1", "method.dfl": "true", "method.alpha": "0.5"}
    method = with_changes(Config(), changes).method
    assert method == MethodSettings(quality="joint", beta=1.0, dfl=True, alpha=0.5)
    for key, value in (("method.beta", "-1"), ("method.alpha", "2"), ("method.assigner", "hungarian")):
        with pytest.raises(ConfigError, match=key.split(".")[1]):
            with_changes(Config(), {key: value})
