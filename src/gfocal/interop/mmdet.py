"""Importing published checkpoints: GFL, ATSS, FCOS, FoveaBox and RetinaNet of MMDetection 2.x and 3.x, and of GFocal.

Every tensor of the file is used, or listed with the reason why it is not; nothing is guessed, and no code from a
pickle is executed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from gfocal.errors import CheckpointImportError
from gfocal.interop.mmdet_checkpoint import class_names, config_text, plain_names, read_checkpoint
from gfocal.interop.mmdet_names import GFL, Layout, layout_of, recognize, translate_name
from gfocal.models.caffe import bgr_to_rgb
from gfocal.models.detector import Detector
from gfocal.models.zoo import create
from gfocal.ops.points import Origin

__all__ = ["CheckpointImportError", "Imported", "import_checkpoint"]


@dataclass(frozen=True)
class Imported:
    """A detector with a checkpoint's weights, and facts about the file."""

    model: Detector
    preset: str
    num_tensors: int
    left_out: tuple[str, ...]  # tensors that carry no weights of the network, and why
    notes: tuple[str, ...]


def import_checkpoint(
    path: str | Path,
    origin: Origin | None = None,
    caffe: bool | None = None,
    names: Sequence[str] | None = None,
) -> Imported:
    """A checkpoint of MMDetection or GFocal as a detector.

    Args:
        path: the ``.pth`` file.
        origin: where the points of GFL lie; None: as in the file's metadata, ``legacy`` for MMDetection 1.x, on which
            the original GFocal repository is based, ``corner`` for every later version.
        caffe: whether the backbone of FCOS is of the Caffe kind (``gfocal.models.caffe``), which its tensors do not
            show; None: as in the config in the file's metadata, or True without one, as in every published FCOS.
        names: of the classes, in the order of training; None: those in the file's metadata.

    Raises:
        CheckpointImportError: the file is missing, truncated, holds code, is of another detector, or a tensor of it
            is left over, missing or of another shape.
    """
    path = Path(path)
    return import_content(read_checkpoint(path), path, origin, caffe, names)


def import_content(
    content: Mapping[str, Any],
    path: Path,
    origin: Origin | None,
    caffe: bool | None,
    names: Sequence[str] | None,
) -> Imported:
    """As ``import_checkpoint``, of a file that has been read; ``path`` is for messages."""
    meta = content["meta"] if isinstance(content.get("meta"), Mapping) else {}
    state = content.get("state_dict", content.get("model", content))
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointImportError(f"{path}: holds no state dict of tensors; is it a detector's checkpoint?")
    state, left_out = plain_names(state)
    config = config_text(meta)
    layout = layout_of(state, config, path)
    preset, options = recognize(state, layout, path)
    num_rows = state[f"bbox_head.{layout.cls}.weight"].shape[0]
    if num_rows % layout.per_cell:
        raise CheckpointImportError(
            f"{path}: bbox_head.{layout.cls} has {num_rows} rows for {layout.per_cell} boxes a cell"
        )
    num_classes = num_rows // layout.per_cell
    class_list, notes = class_names(meta, num_classes, path, names)
    place, place_notes = choose_origin(layout, origin, str(meta.get("mmdet_version", "")), path)
    kind, kind_notes = choose_backbone_kind(layout, caffe, config, path)
    try:
        model = create(preset, num_classes, names=class_list, pretrained=False, **options, **place, **kind)
    except ValueError as error:
        raise CheckpointImportError(f"{path}: {preset} cannot be built with what the file holds: {error}") from error
    load_weights(model, state, layout, path)
    # As they were trained; and the statistics of COCO are better than those of a small batch.
    model.backbone.freeze(frozen_stages=1, norm_eval=True, norms=bool(kind.get("caffe")))
    # Images are resized as in training, with OpenCV.
    model.input_settings = replace(model.input_settings, antialias=False)
    return Imported(model.eval(), preset, len(state), tuple(left_out), (*notes, *place_notes, *kind_notes))


def choose_origin(
    layout: Layout, origin: Origin | None, version: str, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The preset's option for where points lie, and a note."""
    legacy = version.startswith("1.")
    if layout is GFL:
        origin = origin or ("legacy" if legacy else "corner")
        return {"origin": origin}, [f"points: {origin}"]
    if origin is not None:
        raise CheckpointImportError(
            f"{path}: where points lie can be chosen for GFL only; {layout.detector} has one place for them"
        )
    if legacy and layout.has_anchors:
        raise CheckpointImportError(
            f"{path}: a {layout.detector} of MMDetection {version}, whose anchors have other centers; 2.x and 3.x "
            "can be imported"
        )
    return {}, []


def choose_backbone_kind(
    layout: Layout, caffe: bool | None, config: str, path: Path
) -> tuple[dict[str, Any], list[str]]:
    """The preset's option for a backbone of the Caffe kind, and a note."""
    found = re.search(r"style='(caffe|pytorch)'", config)
    in_config = None if found is None else found[1] == "caffe"
    if layout.detector != "FCOS":
        if caffe or in_config:
            raise CheckpointImportError(
                f"{path}: a {layout.detector} with a backbone of the Caffe kind, which gfocal supports for FCOS alone"
            )
        return {}, []
    source = "asked for" if caffe is not None else "by the file's config" if in_config is not None else "as published"
    is_caffe = caffe if caffe is not None else in_config is not False
    return {"caffe": is_caffe}, [f"backbone: of the {'Caffe' if is_caffe else 'PyTorch'} kind ({source})"]


def load_weights(model: Detector, state: Mapping[str, Tensor], layout: Layout, path: Path) -> None:
    """Load a state dict in MMDetection's names; every tensor on both sides must be accounted for."""
    wanted = model.state_dict()
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        name = translate_name(key, layout)
        if name is None:
            continue
        if name.startswith("head.edge_quality."):
            value = value.squeeze(-1).squeeze(-1) if value.dim() == 4 else value  # a 1x1 convolution there
        if name not in wanted:
            raise CheckpointImportError(f"{path}: {key} has no place in {model.built_from['preset']}")
        if value.shape != wanted[name].shape:
            raise CheckpointImportError(
                f"{path}: {key} has shape {tuple(value.shape)}, but {model.built_from['preset']} needs "
                f"{tuple(wanted[name].shape)}"
            )
        found[name] = value
    counters = {key for key in wanted if key.endswith("num_batches_tracked")}  # absent from the oldest files
    if missing := sorted(wanted.keys() - found.keys() - counters):
        raise CheckpointImportError(f"{path}: {len(missing)} tensors are missing, the first is {missing[0]}")
    if model.built_from["options"].get("caffe"):
        found["backbone.body.conv1.weight"] = bgr_to_rgb(found["backbone.body.conv1.weight"])
    model.load_state_dict(found, strict=False)
