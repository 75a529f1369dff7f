"""Importing weights of NanoDet-Plus, in every layout in which they are passed on.

* A checkpoint of training (``.ckpt``): ``model.*``, the weights of the last step, and ``avg_model.*``, their moving
  average, to which the published numbers belong.
* That average alone (``.pth``), with the auxiliary part or, as published for inference, without it.
* Tensors whose BatchNorm was folded into the convolutions, named after these: what a conversion to ncnn leaves.

Every tensor is used, or left out by a rule that is stated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.errors import CheckpointImportError
from gfocal.interop.mmdet import Imported
from gfocal.interop.mmdet_checkpoint import class_names
from gfocal.models.caffe import bgr_to_rgb
from gfocal.models.detector import Detector
from gfocal.models.nanodet import INPUT
from gfocal.models.zoo import create

AVERAGE, LAST = "avg_model.", "model."
PROJECT = "distribution_project.project"
BATCH_NORM_EPS = 1e-5
BINS = 8  # values per edge, as published
PRESETS = {58: "nanodet_plus_m", 88: "nanodet_plus_m_1_5x"}  # by half the width of stage 2
# Places of the convolutions and norms of a separable block.
SEPARABLE = {"depthwise": 0, "dwnorm": 1, "pointwise": 3, "pwnorm": 4}
RULES = (
    (r"backbone\.(.+)", r"backbone.\1"),
    (r"fpn\.reduce_layers\.(\d)\.conv\.(\w+)", r"neck.main.laterals.\1.0.\2"),
    (r"fpn\.reduce_layers\.(\d)\.bn\.(\w+)", r"neck.main.laterals.\1.1.\2"),
    (
        r"fpn\.(top_down|bottom_up)_blocks\.(\d)\.blocks\.0\.(ghost\d)\.primary_conv\.(.+)",
        r"neck.main.\1.\2.\3.primary.\4",
    ),
    (
        r"fpn\.(top_down|bottom_up)_blocks\.(\d)\.blocks\.0\.(ghost\d)\.cheap_operation\.(.+)",
        r"neck.main.\1.\2.\3.cheap.\4",
    ),
    (r"fpn\.(top_down|bottom_up)_blocks\.(\d)\.blocks\.0\.shortcut\.(.+)", r"neck.main.\1.\2.shortcut.\3"),
    (r"fpn\.downsamples\.(.+)", r"neck.main.downsamples.\1"),
    (r"fpn\.extra_lvl_(in|out)_conv\.0\.(.+)", r"neck.main.extra_\1.\2"),
    (r"head\.cls_convs\.(.+)", r"head.towers.\1"),
    (r"aux_head\.scales\.(.+)", r"head.auxiliary.scales.\1"),
    (r"aux_head\.gfl_cls\.(\w+)", r"head.auxiliary.cls_out.\1"),
    (r"aux_head\.gfl_reg\.(\w+)", r"head.auxiliary.box_out.\1"),
)


def is_nanodet(names: Sequence[str]) -> bool:
    """Whether names of tensors are those of a NanoDet-Plus or a NanoDet."""
    return any(re.fullmatch(r"(avg_model\.|model\.)?head\.gfl_cls\.0\.weight", name) for name in names)


def import_nanodet(
    state: Mapping[str, Tensor], path: Path, side: int | None = None, names: Sequence[str] | None = None
) -> Imported:
    """The tensors of a file as a detector; it has the auxiliary part if the file has.

    Args:
        state: tensors by their names in the file.
        path: of the file, for messages; and for the side of the input, if its name ends in ``_320`` or ``_416``.
        side: height and width of the network's input in pixels; None: by the file's name, else 416.
        names: of the classes, in the order of training; None: COCO's, if there are 80 classes.

    Raises:
        CheckpointImportError: it is of another network, or a tensor is left over, missing or of another shape.
    """
    state, left_out, notes = choose_weights(state)
    state, computed = without_projections(state, path)
    preset, num_classes, options = recognize(state, path)
    class_list, name_notes = class_names({}, num_classes, path, names)
    model = create(preset, num_classes, names=class_list, pretrained=False, **options)
    found = {ours: value for key, theirs in state.items() for ours, value in place(key, theirs, num_classes)}
    is_folded = "backbone.conv1.0.bias" in state
    if is_folded:
        found = unfold(found, model)
        notes.append("BatchNorm: folded into the convolutions; mean 0 and variance 1 stand in for its statistics")
    load(model, found, path)
    model.has_folded_statistics = is_folded
    if not options["auxiliary"]:
        notes.append("auxiliary part: the file has none, as it is needed in training only")
    side, side_note = input_side(path, side)
    model.input_settings = replace(INPUT, short_side=side, long_side=side)
    return Imported(model.eval(), preset, len(state), (*left_out, *computed), (*name_notes, *notes, side_note))


def choose_weights(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """The tensors to load, without prefix: the moving average if there is one; what is left out, and notes."""
    average = {key.removeprefix(AVERAGE): value for key, value in state.items() if key.startswith(AVERAGE)}
    last = {key: value for key, value in state.items() if key.startswith(LAST)}
    others = {key: value for key, value in state.items() if not key.startswith((AVERAGE, LAST))}
    if average:
        left_out = [
            f"model.*, {len(last)} tensors: the weights of the last step, of which avg_model.* is the average"
        ]
        note = "weights: the moving average, as it was at the last validation before the file was saved"
        return average | others, left_out if last else [], [note]
    if last:
        return (
            {key.removeprefix(LAST): value for key, value in last.items()} | others,
            [],
            ["weights: those of the last step; the file has no moving average of them"],
        )
    return others, [], []


def without_projections(state: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors without the values of the bins, 0 to n, which the preset defines; and what is left out."""
    kept, left_out = {}, []
    for key, value in state.items():
        if key in (f"head.{PROJECT}", f"aux_head.{PROJECT}"):
            if value.ndim != 1 or not torch.equal(value.float(), torch.arange(len(value)).float()):
                raise CheckpointImportError(f"{path}: {key} is not 0, 1, 2, ...")
            left_out.append(f"{key}: the numbers 0 to {len(value) - 1}, which the preset defines")
        else:
            kept[key] = value
    return kept, left_out


def recognize(state: Mapping[str, Tensor], path: Path) -> tuple[str, int, dict[str, Any]]:
    """Preset, number of classes and options by the shapes of the tensors."""
    keys = ("backbone.stage2.0.branch2.0.weight", "fpn.reduce_layers.0.conv.weight", "head.gfl_cls.3.weight")
    if missing := [key for key in keys if key not in state or state[key].ndim != 4]:
        raise CheckpointImportError(
            f"{path}: a NanoDet, but not NanoDet-Plus with ShuffleNetV2: {missing[0]} is missing"
        )
    width, channels, rows = (state[key].shape[0] for key in keys)
    if width not in PRESETS:
        raise CheckpointImportError(
            f"{path}: its ShuffleNetV2 has {2 * width} channels in stage 2; there are presets for 1.0x and 1.5x, "
            f"{' and '.join(str(2 * known) for known in PRESETS)} channels"
        )
    edges = state.get("aux_head.gfl_reg.weight")
    num_edges = 4 * BINS if edges is None else edges.shape[0]
    if num_edges % 4 or num_edges < 8 or rows <= num_edges:
        raise CheckpointImportError(
            f"{path}: head.gfl_cls has {rows} rows, not classes and {num_edges} for the edges"
        )
    auxiliary = any(key.startswith("aux_") for key in state)
    return PRESETS[width], rows - num_edges, {"n": num_edges // 4 - 1, "channels": channels, "auxiliary": auxiliary}


def place(key: str, value: Tensor, num_classes: int) -> list[tuple[str, Tensor]]:
    """Our names of a tensor, with its values; the rows of the main head's last convolution are two tensors here."""
    if found := re.fullmatch(r"head\.gfl_cls\.(\d)\.(weight|bias)", key):
        level, kind = found.groups()
        return [
            (f"head.cls_outs.{level}.{kind}", value[:num_classes]),
            (f"head.box_outs.{level}.{kind}", value[num_classes:]),
        ]
    if key == "backbone.conv1.0.weight" and value.ndim == 4 and value.shape[1] == 3:
        return [(key, bgr_to_rgb(value))]
    return [(translate_name(key), value)]


def translate_name(key: str) -> str:
    """gfocal's name of a tensor of NanoDet-Plus other than the main head's last convolutions; itself if unknown."""
    if key.startswith("aux_fpn."):
        return translate_name(key.removeprefix("aux_")).replace("neck.main.", "neck.auxiliary.", 1)
    if found := re.fullmatch(r"aux_head\.(cls|reg)_convs\.(\d)\.(conv|gn)\.(\w+)", key):
        tower = "cls" if found[1] == "cls" else "box"
        return f"head.auxiliary.{tower}_tower.{3 * int(found[2]) + (found[3] == 'gn')}.{found[4]}"
    for pattern, ours in RULES:
        if re.fullmatch(pattern, key):
            name = re.sub(pattern, ours, key)
            return re.sub(r"\.(depthwise|dwnorm|pointwise|pwnorm)\.", lambda part: f".{SEPARABLE[part[1]]}.", name)
    return key


def unfold(found: Mapping[str, Tensor], model: Detector) -> dict[str, Tensor]:
    """Folded tensors for a network that has its BatchNorm: each layer becomes the bias that was folded into it.

    Its weight cancels the square root of its variance 1 and epsilon.
    """
    wanted = model.state_dict()
    result = {}
    for key, value in found.items():
        layer = re.fullmatch(r"(.+\.)(\d+)\.bias", key)
        if layer is None or key in wanted:
            result[key] = value
            continue
        norm = f"{layer[1]}{int(layer[2]) + 1}"  # it follows its convolution
        result[f"{norm}.bias"] = value
        result[f"{norm}.weight"] = torch.full_like(value, (1 + BATCH_NORM_EPS) ** 0.5)
        result[f"{norm}.running_mean"], result[f"{norm}.running_var"] = (
            torch.zeros_like(value),
            torch.ones_like(value),
        )
    return result


def load(model: Detector, found: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors by our names; every one on both sides must be accounted for."""
    wanted, preset = model.state_dict(), model.built_from["preset"]
    for key, value in found.items():
        if key not in wanted:
            raise CheckpointImportError(f"{path}: {key} has no place in {preset}")
        if value.shape != wanted[key].shape:
            raise CheckpointImportError(
                f"{path}: {key} has shape {tuple(value.shape)}, but {preset} needs {tuple(wanted[key].shape)}"
            )
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}  # folded tensors have none
    if missing := sorted(wanted.keys() - found.keys() - counters):
        raise CheckpointImportError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    model.load_state_dict(dict(found), strict=False)


def input_side(path: Path, side: int | None) -> tuple[int, str]:
    """Height and width of the network's input, which the weights do not tell, and a note."""
    why = "as asked for"
    if side is None:
        named = re.search(r"[_-](320|416)(?!\d)", path.stem)
        why = "by the file's name" if named else "assumed: the weights do not tell"
        side = int(named[1]) if named else INPUT.short_side
    if side < 64 or side % 32:
        raise CheckpointImportError(f"{path}: the side of the input is a multiple of 32, at least 64, not {side}")
    return side, f"input: {side} x {side} ({why})"
