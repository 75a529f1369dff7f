"""Published GFL checkpoints in: MMDetection 2.x and 3.x, and the original GFocal repository.

Every tensor of the file finds its place or is named with the reason why it does not; nothing is guessed and
no code from a pickle is run.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.data.coco_names import COCO_NAMES
from gfocal.models.detector import Detector
from gfocal.models.zoo import create
from gfocal.points import Origin

# What a head's classification layer is called tells which detector a checkpoint is of.
OTHER_DETECTORS = {
    "atss_cls": "ATSS",
    "retina_cls": "RetinaNet",
    "vfnet_cls": "VarifocalNet",
    "fcos_cls": "FCOS",
    "conv_cls": "FCOS or FoveaBox",
    "rpn_cls": "an RPN",
    "tood_cls": "TOOD",
}
WRAPPERS = ("module.", "ema_model.", "model.", "detector.")


class ImportingError(ValueError):
    """A checkpoint that cannot be imported; the message names the file, the tensor and the reason."""


@dataclass(frozen=True)
class Imported:
    """A detector with a checkpoint's weights, and what was found out about the file."""

    model: Detector
    preset: str
    num_tensors: int
    left_out: tuple[str, ...]  # tensors that carry no weights of the network, and why
    notes: tuple[str, ...]


def import_checkpoint(path: str | Path, origin: Origin | None = None) -> Imported:
    """A GFL checkpoint of MMDetection or GFocal as a detector.

    Args:
        path: the ``.pth`` file.
        origin: where its points lie; None takes what the file's metadata says: ``legacy`` for MMDetection
            1.x, on which the original GFocal repository stands, ``corner`` for every later version.

    Raises:
        ImportingError: the file is missing, truncated, holds code, is of another detector, or a tensor of it
            is left over, missing or of another shape.
    """
    path = Path(path)
    content = read_checkpoint(path)
    meta = content.get("meta") if isinstance(content.get("meta"), Mapping) else {}
    state = content.get("state_dict", content.get("model", content))
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise ImportingError(f"{path}: holds no state dict of tensors; is it a detector's checkpoint?")
    state, left_out = plain_names(state)
    preset, options = recognise(state, path)
    if origin is None:
        version = str((meta or {}).get("mmdet_version", ""))
        origin = "legacy" if version.startswith("1.") else "corner"
    num_classes = state["bbox_head.gfl_cls.weight"].shape[0]
    names, notes = class_names(meta or {}, num_classes, path)
    model = create(preset, num_classes, names=names, pretrained=False, origin=origin, **options)
    fill(model, state, path)
    notes += (f"points: {origin}",)
    return Imported(model.eval(), preset, len(state), tuple(left_out), notes)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint: tensors and plain values only, never a pickled object."""
    if not path.is_file():
        raise ImportingError(f"{path}: there is no such file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an unusual pickle protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"the object {found[1]}" if found else "an object that is no tensor"
        raise ImportingError(
            f"{path}: not a file of tensors and plain values: it holds {what}, which could run code when "
            "loaded, and was not loaded. Mend: in the environment that wrote it, save "
            "{'state_dict': checkpoint['state_dict'], 'meta': {'CLASSES': names}} as a new file"
        ) from error
    except Exception as error:
        raise ImportingError(
            f"{path}: not readable as a checkpoint ({type(error).__name__}); is it truncated? Copy it again"
        ) from error
    if not isinstance(content, dict):
        raise ImportingError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def plain_names(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """Names without wrappers, and what carries no weights of the network.

    Where a file holds an average of the weights beside the weights, MMDetection saves the average under the
    plain names and the other under ``ema_...``: the plain names count.
    """
    items = {str(key): value for key, value in state.items() if isinstance(value, Tensor)}
    for wrapper in WRAPPERS:
        if items and sum(key.startswith(f"{wrapper}backbone.") for key in items):
            inside = {key[len(wrapper) :]: value for key, value in items.items() if key.startswith(wrapper)}
            outside = [key for key in items if not key.startswith(wrapper)]
            items = inside | {key: items[key] for key in outside if key not in inside}
    left_out = []
    result = {}
    for key, value in items.items():
        if key.startswith("ema_") or key in ("steps", "n_averaged"):
            left_out.append(f"{key}: the other half of a weight average")
        elif key.startswith("data_preprocessor."):
            left_out.append(f"{key}: normalisation, which the preset states")
        else:
            # The first deformable convolutions kept their offsets beside the convolution.
            result[key.replace(".conv2_offset.", ".conv2.conv_offset.")] = value
    return result, left_out


def recognise(state: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Any]]:
    """Which preset with which options has a state dict of these names and shapes."""
    if "bbox_head.gfl_cls.weight" not in state:
        kinds = [kind for layer, kind in OTHER_DETECTORS.items() if f"bbox_head.{layer}.weight" in state]
        found = f"it looks like {kinds[0]}" if kinds else "its head is of an unknown kind"
        raise ImportingError(f"{path}: not a GFL checkpoint (no bbox_head.gfl_cls): {found}")
    for key in ("bbox_head.gfl_reg.weight", "backbone.layer1.0.conv1.weight"):
        if key not in state:
            raise ImportingError(f"{path}: {key} is missing")
    num_edges = state["bbox_head.gfl_reg.weight"].shape[0]
    if num_edges % 4 or num_edges < 8:
        raise ImportingError(f"{path}: bbox_head.gfl_reg has {num_edges} channels, not four edges of n + 1 values")
    options: dict[str, Any] = {"n": num_edges // 4 - 1}
    project = state.get("bbox_head.integral.project")
    if project is not None and not torch.equal(project.float(), torch.arange(num_edges // 4).float()):
        raise ImportingError(f"{path}: bbox_head.integral.project is not 0..{num_edges // 4 - 1}")

    blocks = [len({k.split(".")[2] for k in state if k.startswith(f"backbone.layer{i}.")}) for i in range(1, 5)]
    bottleneck = "backbone.layer1.0.conv3.weight" in state
    width = state["backbone.layer1.0.conv1.weight"].shape[0]
    depths = {(False, 2): "r18", (False, 6): "r34", (True, 6): "r50", (True, 23): "r101"}
    body = depths.get((bottleneck, blocks[2]))
    if body == "r101" and width == 128:
        body = "x101_32x4d"
    if body is None or (width != 64 and body != "x101_32x4d"):
        raise ImportingError(f"{path}: no preset has a backbone of {blocks} blocks with first width {width}")
    offsets = {int(k[len("backbone.layer")]): v for k, v in state.items() if k.endswith("conv_offset.weight")}
    if offsets:
        if body not in ("r101", "x101_32x4d"):
            raise ImportingError(f"{path}: no preset has deformable convolutions in {body}")
        channels = {v.shape[0] for v in offsets.values()}
        if channels not in ({18}, {27}):
            raise ImportingError(f"{path}: deformable offsets with {sorted(channels)} channels; known are 18 and 27")
        body += "_dcn"
        options |= {"modulated": channels == {27}, "deformable_stages": sorted(offsets)}
    if body == "r18":
        head = state["bbox_head.cls_convs.0.conv.weight"]
        num_convs = len({k.split(".")[2] for k in state if k.startswith("bbox_head.cls_convs.")})
        options |= {"channels": head.shape[0], "num_convs": num_convs}
    return f"gfl_{body}_fpn", options


def class_names(meta: Mapping[str, Any], num_classes: int, path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes from a checkpoint's metadata, and notes on where they came from."""
    dataset = meta.get("dataset_meta")
    found = meta.get("CLASSES")
    if found is None and isinstance(dataset, Mapping):
        found = dataset.get("classes", dataset.get("CLASSES"))
    if isinstance(found, str):
        found = (found,)
    if isinstance(found, list | tuple):
        names = tuple(str(name) for name in found)
        if len(names) != num_classes:
            raise ImportingError(
                f"{path}: its head has {num_classes} classes, but its metadata names {len(names)} "
                f"({', '.join(names[:3])} ...)"
            )
        return names, ("class names: from the file",)
    if num_classes == len(COCO_NAMES):
        return COCO_NAMES, ("class names: the file has none; 80 classes are taken for COCO's",)
    return tuple(f"class{i}" for i in range(num_classes)), ("class names: the file has none",)


def our_name(key: str) -> str | None:
    """gfocal's name of an MMDetection tensor; None for one that we compute instead of storing it."""
    if key == "bbox_head.integral.project":
        return None
    rules = (
        (r"backbone\.(.+)", r"backbone.body.\1"),
        (r"neck\.lateral_convs\.(\d)\.conv\.(\w+)", r"neck.laterals.\1.\2"),
        (r"neck\.fpn_convs\.([012])\.conv\.(\w+)", r"neck.outputs.\1.\2"),
        (r"bbox_head\.gfl_cls\.(\w+)", r"head.cls_out.\1"),
        (r"bbox_head\.gfl_reg\.(\w+)", r"head.box_out.\1"),
        (r"bbox_head\.scales\.(\d)\.scale", r"head.scales.\1.scale"),
    )
    for pattern, ours in rules:
        if re.fullmatch(pattern, key):
            return re.sub(pattern, ours, key)
    if found := re.fullmatch(r"neck\.fpn_convs\.([34])\.conv\.(\w+)", key):
        return f"neck.extra.{int(found[1]) - 3}.{found[2]}"
    if found := re.fullmatch(r"bbox_head\.(cls|reg)_convs\.(\d)\.(conv|gn)\.(\w+)", key):
        tower = "cls" if found[1] == "cls" else "box"
        # A tower is a flat sequence of convolution, norm, ReLU.
        return f"head.{tower}_tower.{3 * int(found[2]) + (found[3] == 'gn')}.{found[4]}"
    return key


def fill(model: Detector, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state dict in MMDetection's names; every tensor on both sides must be accounted for."""
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = our_name(key)
        if name is None:
            continue
        if name not in wanted:
            raise ImportingError(f"{path}: {key} has no place in {model.built_from['preset']}")
        if value.shape != wanted[name].shape:
            raise ImportingError(
                f"{path}: {key} has shape {tuple(value.shape)}, but {model.built_from['preset']} needs "
                f"{tuple(wanted[name].shape)}"
            )
        found[name] = value
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}  # absent from the oldest files
    if missing := sorted(wanted.keys() - found.keys() - counters):
        raise ImportingError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    model.load_state_dict(found, strict=False)
