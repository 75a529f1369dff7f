"""The detectors that Li et al. 2020 compare with, as presets with the published numbers filled in.

``body`` is a ResNet-50, or any timm network with feature maps at strides 8, 16 and 32; ``channels`` and ``num_convs``
are width and depth of neck and head. Where a preset takes ``box``, it is the representation of an edge (table 5 of
the paper), and ``n`` (``reg_max`` elsewhere) and ``delta`` are those of the General distribution, in strides.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from gfocal.data.preprocess import InputSettings
from gfocal.models.backbone import TimmBackbone, published_resnet
from gfocal.models.caffe import MEAN, STD, convert_bgr_weights, make_caffe
from gfocal.models.dense_head import DenseHead
from gfocal.models.detector import Detector, class_names
from gfocal.models.heads import norm_groups
from gfocal.models.necks import FPN, STRIDES
from gfocal.models.published_settings import PublishedSettings
from gfocal.ops.box_coders import AnchorDeltas, BoxCoder, DiracDistances, GaussianDistances, LogDistances
from gfocal.ops.decoding import DecodeSettings
from gfocal.ops.distributions import GeneralDistribution
from gfocal.ops.points import ATSS_ANCHORS, RETINANET_ANCHORS

RESNET_50 = "resnet50.tv_in1k"
DECODE = DecodeSettings(nms_threshold=0.5)  # of all but ATSS, which has GFL's 0.6
RETINANET = PublishedSettings(
    assigner="max_iou", quality="none", box_loss="smooth_l1", smooth_l1_beta=0.0, box_weight=1.0, decode=DECODE
)
FOVEABOX = PublishedSettings(
    assigner="fovea",
    quality="none",
    gamma=1.5,
    alpha=0.4,
    box_loss="smooth_l1",
    smooth_l1_beta=0.11,
    box_weight=1.0,
    count_images=True,
    decode=DECODE,
)


def retinanet_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    channels: int = 256,
    num_convs: int = 4,
    body: str = RESNET_50,
) -> Detector:
    """RetinaNet (Lin et al. 2017): nine anchors per cell, boxes as deltas of an anchor; 37.97 M parameters."""
    backbone = published_resnet(body, pretrained, weights)
    box = AnchorDeltas()
    head = DenseHead(
        num_classes, channels, channels, num_convs, box.num_bins, STRIDES, RETINANET_ANCHORS, None, "none", False
    )
    neck = FPN(backbone.channels, channels, len(STRIDES), extra_from_input=True)
    options = {"channels": channels, "num_convs": num_convs, "body": body}
    return _detector("retinanet_r50_fpn", options, backbone, neck, head, box, names, input_settings, RETINANET)


def foveabox_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    channels: int = 256,
    num_convs: int = 4,
    body: str = RESNET_50,
) -> Detector:
    """FoveaBox (Kong et al. 2020), without feature alignment: points without anchors; 36.42 M parameters."""
    backbone = published_resnet(body, pretrained, weights)
    box = LogDistances(2.0)
    head = DenseHead(num_classes, channels, channels, num_convs, box.num_bins, STRIDES, "center", None, "none", False)
    neck = FPN(backbone.channels, channels, len(STRIDES), extra_from_input=True)
    options = {"channels": channels, "num_convs": num_convs, "body": body}
    return _detector("foveabox_r50_fpn", options, backbone, neck, head, box, names, input_settings, FOVEABOX)


def fcos_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    box: Literal["dirac", "gaussian", "general"] = "dirac",
    n: int = 16,
    delta: float = 1.0,
    quality_branch: bool = True,
    channels: int = 256,
    num_convs: int = 4,
    body: str = RESNET_50,
    caffe: bool = False,
) -> Detector:
    """FCOS (Tian et al. 2019), its quality branch on the tower of the scores; 32.30 M parameters.

    ``caffe`` builds the kind of ResNet that it was published with (see ``gfocal.models.caffe``); timm has no ImageNet
    weights of that kind, so ``weights`` names a file of such a network, or ``pretrained`` is False.
    """
    backbone = _caffe_resnet(body, pretrained, weights) if caffe else published_resnet(body, pretrained, weights)
    box_coder = DiracDistances(in_pixels=True) if box == "dirac" else _distances(box, n, delta)
    quality: Literal["cls", "none"] = "cls" if quality_branch else "none"
    head = DenseHead(
        num_classes,
        channels,
        channels,
        num_convs,
        box_coder.num_bins,
        STRIDES,
        "center",
        norm_groups(channels),
        quality,
    )
    neck = FPN(backbone.channels, channels, len(STRIDES), relu_between_extra=True)
    options = {
        "box": box,
        "n": n,
        "delta": delta,
        "quality_branch": quality_branch,
        "channels": channels,
        "num_convs": num_convs,
        "body": body,
        "caffe": caffe,
    }
    published = PublishedSettings(
        assigner="fcos",
        quality="branch" if quality_branch else "none",
        measure="centerness" if quality_branch else "iou",
        box_loss="log_iou" if box == "dirac" else "gaussian" if box == "gaussian" else "giou",
        box_weight=1.0,
        decode=DECODE,
    )
    return _detector("fcos_r50_fpn", options, backbone, neck, head, box_coder, names, input_settings, published)


def atss_r50_fpn(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    box: Literal["deltas", "dirac", "gaussian", "general"] = "deltas",
    n: int = 16,
    delta: float = 1.0,
    quality_branch: bool = True,
    channels: int = 256,
    num_convs: int = 4,
    body: str = RESNET_50,
) -> Detector:
    """ATSS (Zhang et al. 2020), the paper's baseline: one square anchor per cell, from which ``box="deltas"`` codes
    its boxes, and a quality branch on the tower of the boxes; 32.30 M parameters.

    Every other ``box`` is four distances from the anchor's center, in strides.
    """
    backbone = published_resnet(body, pretrained, weights)
    coded = box == "deltas"
    box_coder = AnchorDeltas((0.1, 0.1, 0.2, 0.2)) if coded else _distances(box, n, delta)
    quality: Literal["box", "none"] = "box" if quality_branch else "none"
    head = DenseHead(
        num_classes,
        channels,
        channels,
        num_convs,
        box_coder.num_bins,
        STRIDES,
        ATSS_ANCHORS if coded else "corner",
        norm_groups(channels),
        quality,
    )
    neck = FPN(backbone.channels, channels, len(STRIDES))
    options = {
        "box": box,
        "n": n,
        "delta": delta,
        "quality_branch": quality_branch,
        "channels": channels,
        "num_convs": num_convs,
        "body": body,
    }
    published = PublishedSettings(
        assigner="atss",
        quality="branch" if quality_branch else "none",
        measure="centerness" if quality_branch else "iou",
        box_loss="gaussian" if box == "gaussian" else "giou",
        box_weight=1.0 if box == "gaussian" else 2.0,
    )
    return _detector("atss_r50_fpn", options, backbone, neck, head, box_coder, names, input_settings, published)


def _caffe_resnet(body: str, pretrained: bool, weights: str | Path | None) -> TimmBackbone:
    """``published_resnet`` of the Caffe kind; the norms of one with weights are frozen, as published."""
    if pretrained and weights is None:
        raise ValueError(
            "timm has no ImageNet weights of the Caffe kind; name a file with weights=PATH, or start from random "
            "weights with pretrained=False, or take caffe=False"
        )
    backbone = published_resnet(body, pretrained, weights)
    make_caffe(backbone.body)
    if weights is not None:
        convert_bgr_weights(backbone.body)
        backbone.freeze(backbone.freezing.frozen_stages, backbone.freezing.norm_eval, norms=True)
    backbone.mean, backbone.std = MEAN, STD
    return backbone


def _distances(box: str, n: int, delta: float) -> BoxCoder:
    """The box coder of four distances in strides, by its name in table 5."""
    if box == "dirac":
        return DiracDistances()
    if box == "gaussian":
        return GaussianDistances(n, delta)
    if box == "general":
        return GeneralDistribution(n, delta)
    raise ValueError(f"box is the representation of an edge: dirac, gaussian, general, or ATSS's deltas; not {box!r}")


def _detector(
    preset: str,
    options: dict[str, Any],
    backbone: TimmBackbone,
    neck: FPN,
    head: DenseHead,
    box_coder: BoxCoder,
    names: Sequence[str] | None,
    input_settings: InputSettings | None,
    published: PublishedSettings,
) -> Detector:
    """Backbone, neck and head as a detector; ``options`` are the preset's, which a saved file repeats."""
    return Detector(
        backbone,
        neck,
        head,
        class_names(head.num_classes, names),
        box_coder,
        input_settings or InputSettings(backbone.mean, backbone.std),
        built_from={"preset": preset, "options": options},
        published=published,
    )
