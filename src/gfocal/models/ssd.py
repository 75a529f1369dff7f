"""SSD512 (Liu et al. 2016): VGG-16, seven maps, default boxes of several shapes, one softmax over all classes.

The network is torchvision's VGG-16 with the layers that torchvision's SSD adds to it. It departs from the published
one in three points:

* An image is resized with its aspect ratio preserved and padded to 512 x 512, as everywhere in gfocal; SSD warped it.
* The head predicts the C class logits relative to the background's, which is therefore always 0: the softmax depends
  on differences of logits alone, and the difference of two convolutions is one convolution.
* fc6 and fc7 start at random, not from the subsampled layers of the classifier.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfocal.data.preprocess import InputSettings
from gfocal.models.backbone import fetch_torchvision_weights, load_imagenet_weights
from gfocal.models.dense_head import per_point
from gfocal.models.detector import Detector, class_names
from gfocal.models.freezing import BackbonePart
from gfocal.models.published_settings import PublishedSettings
from gfocal.ops.box_coders import AnchorDeltas
from gfocal.ops.decoding import DecodeSettings
from gfocal.ops.points import make_points
from gfocal.structures import HeadOutputs, Points

STRIDES = (8, 16, 32, 64, 128, 256, 512)
CHANNELS = (512, 1024, 512, 256, 256, 256, 256)
RATIOS: tuple[tuple[float, ...], ...] = ((2,), (2, 3), (2, 3), (2, 3), (2, 3), (2,), (2,))
# Side of the square default box of each map in pixels, and the side that a map after the last one would have:
# 4 %, 10 % ... 106 % of 512 on COCO, 7 %, 15 % ... 105 % on Pascal VOC.
COCO_SIDES = (20.48, 51.2, 133.12, 215.04, 296.96, 378.88, 460.8, 542.72)
VOC_SIDES = (35.84, 76.8, 153.6, 230.4, 307.2, 384.0, 460.8, 537.6)
# The last map comes from a 4 x 4 convolution: batches are padded to a multiple of what it needs.
INPUT = InputSettings(short_side=512, long_side=512, multiple=512)


def ssd512_vgg16(
    num_classes: int = 80,
    *,
    names: Sequence[str] | None = None,
    pretrained: bool = True,
    weights: str | Path | None = None,
    input_settings: InputSettings | None = None,
    softmax: bool = True,
    sides: Sequence[float] = COCO_SIDES,
) -> Detector:
    """SSD512 as it is trained on COCO; ``sides=VOC_SIDES`` are the default boxes for Pascal VOC.

    With ``softmax=False`` the logits of the same head go through a sigmoid for each class: for training with QFL (Li
    et al. 2020, table 1b). Nothing is frozen.
    """
    return Detector(
        VGG16(pretrained, weights),
        nn.Identity(),
        SSDHead(num_classes, sides, softmax),
        class_names(num_classes, names),
        AnchorDeltas(stds=(0.1, 0.1, 0.2, 0.2)),
        input_settings or INPUT,
        built_from={"preset": "ssd512_vgg16", "options": {"softmax": softmax, "sides": list(sides)}},
        published=PublishedSettings(
            criterion="ssd",
            assigner="ssd",
            quality="none" if softmax else "joint",
            box_loss="smooth_l1",
            smooth_l1_beta=1.0,
            box_weight=1.0,
            decode=DecodeSettings(0.02, 1000, 0.45, 200, softmax),
        ),
    )


class VGG16(nn.Module):
    """VGG-16 up to conv5_3, fc6 and fc7 as convolutions, and five further blocks; conv4_3 is normalized and scaled.

    Args:
        pretrained: fetch torchvision's ImageNet weights.
        weights: a local file with ImageNet weights instead.

    Raises:
        WeightsError: the weights cannot be fetched, or do not fit.
    """

    def __init__(self, pretrained: bool = True, weights: str | Path | None = None) -> None:
        # Here: other detectors do without torchvision's networks, whose import takes long.
        from torchvision.models.detection.ssd import SSDFeatureExtractorVGG
        from torchvision.models.vgg import cfgs, make_layers

        super().__init__()
        self.recompute = False
        self.is_frozen = False
        features = make_layers(cfgs["D"])
        for module in features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if weights is not None:
            load_imagenet_weights(features, "VGG-16", Path(weights))
        elif pretrained:
            load_published(features)
        self.body = SSDFeatureExtractorVGG(features, highres=True)
        # torchvision leaves out padding and strides here, which suits an input of 300 pixels; at 512 the paper's
        # maps are of 4, 2 and 1 cells, every block halving the one before.
        *_, conv10, conv11, conv12 = (block[2] for block in self.body.extra)
        for conv in (conv10, conv11):
            conv.stride = (2, 2)
        for conv in (conv10, conv11, conv12):
            conv.padding = (1, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W 288 or more -> seven maps at strides 8, 16 ... 512."""
        return list(self.body(images).values())

    def parts(self) -> list[list[nn.Module]]:
        """All of it: there are no stages that could be frozen or recomputed one by one."""
        return [[self.body]]

    def freeze(self, frozen_stages: int, norm_eval: bool, stem: bool = False, norms: bool = False) -> None:
        """Freeze all of it where ``stem`` is set, else nothing; it has neither stages nor BatchNorm."""
        self.is_frozen = stem
        self.requires_grad_(not stem)

    def freeze_up_to(self, part: BackbonePart | int) -> None:
        """Freeze ``backbone`` or ``none`` of it; ValueError for any other part."""
        if part not in ("none", "backbone"):
            raise ValueError("VGG-16 is frozen as a whole (backbone) or not at all (none)")
        self.freeze(0, False, stem=part == "backbone")

    def freeze_settings(self) -> dict[str, Any]:
        """The arguments of ``freeze`` that it is frozen by."""
        return {"frozen_stages": 0, "norm_eval": False, "stem": self.is_frozen, "norms": False}

    def synchronize_norms(self) -> None:
        """Nothing: it has no BatchNorm."""


def load_published(features: nn.Module) -> None:
    """Load torchvision's ImageNet weights into the convolutions of a VGG-16, in place."""
    from torchvision.models.vgg import VGG16_Weights

    state = fetch_torchvision_weights(VGG16_Weights.IMAGENET1K_V1, "VGG-16")
    features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")})


class SSDHead(nn.Module):
    """One 3x3 convolution per map for the classes and one for the boxes; each default box is a point.

    Args:
        num_classes: C, without the background.
        sides: of the square default boxes in pixels, one per map and one more.
        softmax: whether the classes share a softmax with the background; else each has a sigmoid, and every score
            starts at 0.01, so that the many negatives do not dominate the first steps.
    """

    def __init__(self, num_classes: int, sides: Sequence[float] = COCO_SIDES, softmax: bool = True) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        if len(sides) != len(STRIDES) + 1 or min(sides) <= 0:
            raise ValueError(f"sides are {len(STRIDES) + 1} numbers above 0, not {tuple(sides)}")
        self.num_classes, self.level_strides = num_classes, STRIDES
        shapes = [box_shapes(*level) for level in zip(sides[:-1], sides[1:], RATIOS, strict=True)]
        self.per_cell = tuple(len(level) for level in shapes)
        # Not saved with the weights: the preset's options determine it.
        self.register_buffer("shapes", torch.tensor([box for level in shapes for box in level]), persistent=False)
        self.cls_outs = nn.ModuleList(
            nn.Conv2d(c, n * num_classes, 3, padding=1) for c, n in zip(CHANNELS, self.per_cell, strict=True)
        )
        self.box_outs = nn.ModuleList(
            nn.Conv2d(c, n * 4, 3, padding=1) for c, n in zip(CHANNELS, self.per_cell, strict=True)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.xavier_uniform_(module.weight)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        if not softmax:
            for out in self.cls_outs:
                assert isinstance(out, nn.Conv2d)
                assert out.bias is not None
                nn.init.normal_(out.weight, std=0.01)
                nn.init.constant_(out.bias, -math.log(99))

    def forward(self, maps: Sequence[Tensor]) -> HeadOutputs:
        """Seven maps -> logits of all default boxes, those of a cell one after the other."""
        cls_logits, box_logits = [], []
        for level, cls_out, box_out in zip(maps, self.cls_outs, self.box_outs, strict=True):
            cls_logits.append(per_point(cls_out(level), self.num_classes))  # (B, h*w*A, C)
            box_logits.append(per_point(box_out(level).float(), 4))
        map_shapes = [(level.shape[-2], level.shape[-1]) for level in maps]
        return HeadOutputs(
            cls_logits=torch.cat(cls_logits, 1),
            box_logits=torch.cat(box_logits, 1).unsqueeze(-1),  # (B, P, 4, 1)
            points=default_boxes(map_shapes, self.level_strides, self.get_buffer("shapes").split(self.per_cell)),
        )


def box_shapes(side: float, next_side: float, ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Width and height of each default box of a map (section 2.2): two squares, and each ratio wide and tall."""
    between = math.sqrt(side * next_side)
    shapes = [(side, side), (between, between)]
    for ratio in ratios:
        longer, shorter = side * math.sqrt(ratio), side / math.sqrt(ratio)
        shapes += [(longer, shorter), (shorter, longer)]
    return shapes


def default_boxes(
    map_shapes: Sequence[tuple[int, int]], level_strides: Sequence[int], level_boxes: Sequence[Tensor]
) -> Points:
    """One point for each default box, at the center of its cell; those of a cell follow one another.

    Args:
        map_shapes: height and width of each level's map.
        level_strides: stride of each level.
        level_boxes: (A, 2) of each level, width and height of its default boxes in pixels; A may differ.
    """
    cells = make_points(map_shapes, level_strides, "center", level_boxes[0].device)
    per_cell = tuple(len(boxes) for boxes in level_boxes)
    # Index of its cell for each point: no tensor is made from numbers that would have to be copied to the device.
    of_cell = torch.cat(
        [
            torch.arange(start, start + count, device=cells.xy.device).repeat_interleave(n)
            for start, count, n in zip(accumulate(cells.counts, initial=0), cells.counts, per_cell, strict=False)
        ]
    )  # (P,)
    halves = torch.cat([boxes.repeat(n, 1) for boxes, n in zip(level_boxes, cells.counts, strict=True)]) / 2  # (P, 2)
    points = cells.select(of_cell)
    anchors = torch.cat((points.xy - halves, points.xy + halves), -1)
    return replace(points, shapes=cells.shapes, anchors=anchors, per_cell=per_cell)
