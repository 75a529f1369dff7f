"""Resuming a run: what identifies it, which images are done, and the names of the files it writes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from gfocal.data.classes import ClassMap
from gfocal.data.value_range import Range
from gfocal.errors import DataError
from gfocal.inference.intervals import usable_calibration
from gfocal.inference.journal import (
    JOURNAL_FILE,
    Journal,
    describe_difference,
    read_end,
    read_header,
    read_records,
)
from gfocal.inference.results import JSON_FILE
from gfocal.models.exported import AnyDetector, ExportedDetector
from gfocal.models.stored_calibration import calibration_to_json
from gfocal.ops.tiles import Tiling
from gfocal.text import pluralize
from gfocal.visualize.annotate import DrawStyle
from gfocal.visualize.viewer.viewer_page import ViewerFile


def run_header(
    model: AnyDetector,
    threshold: float | Sequence[float],
    draw: bool,
    style: DrawStyle,
    value_range: Range | None,
    classes: ClassMap | None = None,
    precision: str = "float32",
    coverage: float | None = None,
    viewer: ViewerFile | None = None,
    tiling: Tiling | None = None,
) -> dict[str, Any]:
    """What identifies a run: everything that its results depend on. Only the same run can be resumed."""
    header: dict[str, Any] = {
        "names": list(model.names if classes is None else classes.names),
        "score_threshold": threshold if isinstance(threshold, float) else list(threshold),
        "draw": draw,
        "edges": style.edges,
        "drawn_labels": style.labels,
        "line_width": style.line_width,
        "font_size": style.font_size,
        "font": style.font_path,
        "value_range": None if value_range is None else list(value_range),
        "max_detections": model.decode_settings.max_detections,
        "nms_iou": model.decode_settings.nms_threshold,
        "class_agnostic_nms": model.decode_settings.class_agnostic_nms,
        "precision": precision,
        "model": fingerprint(model),  # after what it depends on, as the first difference is reported
    }
    if classes is not None and not classes.is_identity:
        header["labels"] = list(classes.new_labels)
    if (calibration := usable_calibration(model)) is not None:
        text = json.dumps(calibration_to_json(calibration), sort_keys=True)
        header |= {"calibration": hashlib.sha256(text.encode()).hexdigest()[:16], "coverage": coverage}
    if viewer is not None:
        header["viewer"] = "images by their number" if viewer.side is None else f"images of {viewer.side} pixels"
    if tiling is not None:
        header["tiles"] = {"size": tiling.size, "overlap": tiling.overlap, "levels": tiling.levels}
    return header


def fingerprint(model: AnyDetector) -> str:
    """A hash of weights and settings, 16 characters: models with the same one give the same detections."""
    sha = hashlib.sha256()
    about = [model.built_from, asdict(model.input_settings), asdict(model.decode_settings), model.names]
    sha.update(json.dumps(about, default=str).encode())
    if isinstance(model, ExportedDetector):
        sha.update(model.digest().encode())
        return sha.hexdigest()[:16]
    for name, tensor in sorted(model.state_dict().items()):
        sha.update(name.encode())
        sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return sha.hexdigest()[:16]


def open_journal(folder: Path, header: Mapping[str, Any], resume: bool) -> tuple[Journal, dict[str, str]]:
    """The journal of a run, and the images that are done: file -> name of what was written for it.

    The journal of a run that has ended is replaced: its results are written.

    Raises:
        DataError: the run of the journal has not ended, without ``resume``; or it is another run, with ``resume``.
    """
    path = folder / JOURNAL_FILE
    if not path.is_file():
        return Journal(path, header), {}
    if not resume:
        count = sum(1 for _ in read_records(path))
        if count and read_end(path) is None:
            raise DataError(
                f"{path}: a run was stopped here after {pluralize(count, 'image')}; continue it (--resume), name "
                "another folder, or remove this file to start again"
            )
        return Journal(path, header), {}
    if (why := describe_difference(read_header(path), header)) is not None:
        raise DataError(
            f"{path}: of a run with other settings: {why}; resume with the same ones, or name another folder"
        )
    done: dict[str, str] = {}
    with path.open("rb") as file:
        length = len(file.readline())
    for record, end in read_records(path):
        done[record["file"]] = record["name"]
        length = end
    return Journal(path, header, length), done


def is_finished(folder: Path, files: Sequence[str], header: Mapping[str, Any]) -> bool:
    """Whether the results of this run are there already, for all its files."""
    if (folder / JOURNAL_FILE).is_file() or not (folder / JSON_FILE).is_file():
        return False
    try:
        content = json.loads((folder / JSON_FILE).read_text(encoding="utf-8"))
        there = {image["file_name"] for image in content["images"]}
        return content["info"]["run"] == dict(header) and there.issuperset(files)
    except (ValueError, KeyError, TypeError):
        return False


def unique_names(files: Sequence[str], done: Mapping[str, str]) -> list[str]:
    """For each file a unique name, without suffix, of what is written for it; a file that is done keeps its own."""
    taken = {name.casefold() for name in done.values()}
    found = []
    for file in files:
        name = done.get(file)
        if name is None:
            stem = name = Path(file).stem
            number = 1
            while name.casefold() in taken:  # on many disks A.jpg and a.jpg are one file
                number += 1
                name = f"{stem}_{number}"
            taken.add(name.casefold())
        found.append(name)
    return found
