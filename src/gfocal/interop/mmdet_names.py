"""MMDetection's names of the parts of a detector, and the preset of gfocal that has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.errors import CheckpointImportError
from gfocal.models.edge_quality import TOP_K

# timm's names of the backbones, for the presets that take any body.
BODIES = {
    "r18": "resnet18.tv_in1k",
    "r34": "resnet34.tv_in1k",
    "r50": "resnet50.tv_in1k",
    "r101": "resnet101.tv_in1k",
    "x101_32x4d": "resnext101_32x4d.gluon_in1k",
}
# Layers of detectors that gfocal does not have.
OTHER_DETECTORS = {
    "bbox_head.vfnet_cls": "VarifocalNet",
    "bbox_head.tood_cls": "TOOD",
    "bbox_head.rpn_cls": "an RPN",
    "rpn_head.rpn_cls": "an RPN or a detector of two stages",
}


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one detector's head in a checkpoint."""

    detector: str
    preset: str | None  # None: one preset for each backbone, named after it
    heads: tuple[str, ...]  # MMDetection's classes of this head; other classes may have the same tensors
    cls: str
    box: str
    quality: str | None = None
    normed: bool = True  # towers of [convolution, norm, ReLU], else of [convolution, ReLU]
    per_cell: int = 1
    has_anchors: bool = False  # boxes are coded from them


LAYOUTS = (
    Layout("GFL", None, ("GFLHead", "LDHead", "GFocalHead"), "gfl_cls", "gfl_reg"),
    Layout("ATSS", "atss_r50_fpn", ("ATSSHead",), "atss_cls", "atss_reg", "atss_centerness", has_anchors=True),
    Layout("FCOS", "fcos_r50_fpn", ("FCOSHead",), "conv_cls", "conv_reg", "conv_centerness"),
    Layout("FoveaBox", "foveabox_r50_fpn", ("FoveaHead",), "conv_cls", "conv_reg", normed=False),
    Layout(
        "RetinaNet",
        "retinanet_r50_fpn",
        ("RetinaHead",),
        "retina_cls",
        "retina_reg",
        normed=False,
        per_cell=9,
        has_anchors=True,
    ),
)
GFL = LAYOUTS[0]
EDGE_QUALITY = "bbox_head.reg_conf.0.weight"  # of GFLv2 alone
# Options in a config that change the meaning of an FCOS head's outputs, but not its tensors.
FCOS_VARIANTS = ("norm_on_bbox=True", "centerness_on_reg=True")


def layout_of(state: Mapping[str, Tensor], config: str, path: Path) -> Layout:
    """The layout of a state dict by its names; CheckpointImportError if unknown or if the config contradicts."""
    for layout in LAYOUTS:
        layers = (layout.cls, layout.quality or layout.cls)
        if all(f"bbox_head.{layer}.weight" in state for layer in layers):
            break
    else:
        kinds = [kind for layer, kind in OTHER_DETECTORS.items() if f"{layer}.weight" in state]
        found = f"it looks like {kinds[0]}" if kinds else "its head is of an unknown kind"
        known = ", ".join(layout.detector for layout in LAYOUTS)
        raise CheckpointImportError(f"{path}: not a checkpoint of {known}: {found}")
    heads = set(re.findall(r"type='(\w+Head)'", config))
    if heads and not heads & set(layout.heads):
        raise CheckpointImportError(
            f"{path}: its tensors are named as those of {layout.detector}, but its config names "
            f"{', '.join(sorted(heads))}, whose outputs have another meaning"
        )
    variants = [text for text in FCOS_VARIANTS if text in config] if layout.detector == "FCOS" else []
    if variants:
        raise CheckpointImportError(f"{path}: a variant of FCOS that gfocal does not have: {', '.join(variants)}")
    return layout


def recognize(state: Mapping[str, Tensor], layout: Layout, path: Path) -> tuple[str, dict[str, Any]]:
    """The preset, and its options, that has a state dict of these names and shapes."""
    box = f"bbox_head.{layout.box}.weight"
    for key in (box, "backbone.layer1.0.conv1.weight"):
        if key not in state:
            raise CheckpointImportError(f"{path}: {key} is missing")
    num_edges = state[box].shape[0]
    options: dict[str, Any] = {}
    if layout is GFL:
        if num_edges % 4 or num_edges < 8:
            raise CheckpointImportError(
                f"{path}: bbox_head.gfl_reg has {num_edges} channels, not four edges of n + 1 values"
            )
        options["n"] = num_edges // 4 - 1
        if EDGE_QUALITY in state:
            if state[EDGE_QUALITY].flatten(1).shape[1] != 4 * (TOP_K + 1):
                raise CheckpointImportError(
                    f"{path}: {EDGE_QUALITY} reads {state[EDGE_QUALITY].shape[1]} numbers, not those of GFLv2 as "
                    f"published: the {TOP_K} largest of each edge and their mean"
                )
            options["dgqp"] = True
        project = state.get("bbox_head.integral.project")
        if project is not None and not torch.equal(project.float(), torch.arange(num_edges // 4).float()):
            raise CheckpointImportError(f"{path}: bbox_head.integral.project is not 0..{num_edges // 4 - 1}")
    elif num_edges != 4 * layout.per_cell:
        raise CheckpointImportError(
            f"{path}: bbox_head.{layout.box} has {num_edges} channels; as published it is "
            f"{4 * layout.per_cell}: {layout.per_cell} boxes to a cell"
        )

    body = body_of(state, path)
    offsets = {int(k[len("backbone.layer")]): v for k, v in state.items() if k.endswith("conv_offset.weight")}
    if offsets:
        if body not in ("r101", "x101_32x4d") or layout is not GFL:
            raise CheckpointImportError(
                f"{path}: no preset of {layout.detector} has deformable convolutions in {body}"
            )
        channels = {v.shape[0] for v in offsets.values()}
        if channels not in ({18}, {27}):
            raise CheckpointImportError(
                f"{path}: deformable offsets with {sorted(channels)} channels; known are 18 and 27"
            )
        options |= {"modulated": channels == {27}, "deformable_stages": sorted(offsets)}
    if layout.preset is None:
        if body == "r18":
            options |= tower_sizes(state)
        return f"gfl_{body}{'_dcn' if offsets else ''}_fpn", options
    return layout.preset, {"body": BODIES[body]} | tower_sizes(state)


def body_of(state: Mapping[str, Tensor], path: Path) -> str:
    """The backbone, a key of ``BODIES``, by the shapes of its tensors."""
    blocks = [len({k.split(".")[2] for k in state if k.startswith(f"backbone.layer{i}.")}) for i in range(1, 5)]
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    width = state["backbone.layer1.0.conv1.weight"].shape[0]
    depths = {(False, 2): "r18", (False, 6): "r34", (True, 6): "r50", (True, 23): "r101"}
    body = depths.get((bottleneck, blocks[2]))
    if body == "r101" and width == 128:
        body = "x101_32x4d"
    if body is None or (width != 64 and body != "x101_32x4d"):
        raise CheckpointImportError(f"{path}: no preset has a backbone of {blocks} blocks with first width {width}")
    return body


def tower_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Width and depth of a head's towers, as options of a preset."""
    depth = len({key.split(".")[2] for key in state if key.startswith("bbox_head.cls_convs.")})
    first = state.get("bbox_head.cls_convs.0.conv.weight")
    return {} if first is None else {"channels": first.shape[0], "num_convs": depth}


def translate_name(key: str, layout: Layout = GFL) -> str | None:
    """gfocal's name of a tensor of MMDetection; None for one that gfocal computes."""
    if layout is GFL and key == "bbox_head.integral.project":
        return None
    rules = (
        (r"backbone\.(.+)", r"backbone.body.\1"),
        (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"neck.laterals.\1.\2"),
        (r"neck\.fpn_convs\.([012])\.conv\.(\w+)", r"neck.outputs.\1.\2"),
        (r"bbox_head\.scales\.(\d)\.scale", r"head.scales.\1.scale"),
        (r"bbox_head\.reg_conf\.0\.(\w+)", r"head.edge_quality.hidden.\1"),  # GFLv2
        (r"bbox_head\.reg_conf\.2\.(\w+)", r"head.edge_quality.out.\1"),
    )
    for pattern, ours in rules:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    if found := re.fullmatch(r"neck\.fpn_convs\.([34])\.conv\.(\w+)", key):
        return f"neck.extra.{int(found[1]) - 3}.{found[2]}"
    outputs = {layout.cls: "cls_out", layout.box: "box_out", layout.quality: "quality_out"}
    if (found := re.fullmatch(r"bbox_head\.(\w+)\.(\w+)", key)) and found[1] in outputs:
        return f"head.{outputs[found[1]]}.{found[2]}"
    parts = "conv|gn" if layout.normed else "conv"
    if found := re.fullmatch(rf"bbox_head\.(cls|reg)_convs\.(\d)\.({parts})\.(\w+)", key):
        tower = "cls" if found[1] == "cls" else "box"
        # A tower is a flat sequence of convolution, norm if there is one, ReLU.
        length = 3 if layout.normed else 2
        return f"head.{tower}_tower.{length * int(found[2]) + (found[3] == 'gn')}.{found[4]}"
    return key
