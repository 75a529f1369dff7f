"""COCO results in json, written and read: the format of pycocotools, evaluation servers and other tools."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.atomic import atomic_write
from gfocal.errors import DataError
from gfocal.evaluation.coco_ap import ScoredBoxes

DECIMALS = 3  # of a pixel; COCO's own boxes have 2


@dataclass(frozen=True)
class ImageResults:
    """The records of one image in a results file, in the file's order."""

    boxes: Tensor  # (N, 4) float32, xyxy in pixels of the original image
    scores: Tensor  # (N,) float32
    labels: Tensor  # (N,) int64, 0..C-1
    edge_std: Tensor | None = None  # (N, 4) float32, pixels; sides left, top, right, bottom


def write_coco_results(
    path: str | os.PathLike[str],
    detections: Mapping[int, ScoredBoxes],
    category_ids: Sequence[int],
    edge_std: bool = False,
) -> int:
    """Write detections, keyed by image id, as COCO results; returns the number of records.

    Each record is ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, one per line, lengths in
    pixels rounded to 3 decimals, scores with the 9 digits that identify a float32 and so preserve the order.
    ``category_ids`` are the dataset's own numbers of the classes, indexed by label. An image without detections has
    no record. The file is written atomically.

    ``edge_std`` adds ``"edge_std": [left, top, right, bottom]``, the standard deviation of each edge in pixels, from
    the attribute of that name which ``Detections`` have; other readers of COCO results ignore it.

    Raises ValueError if a number is not finite, a label has no category id, or ``edge_std`` is asked for but missing.
    """
    count = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for image_id, found in detections.items():
            for record in _records(int(image_id), found, category_ids, edge_std):
                file.write(",\n" if count else "\n")
                file.write(json.dumps(record))
                count += 1
        file.write("\n]\n")
    return count


def _records(
    image_id: int, found: ScoredBoxes, category_ids: Sequence[int], edge_std: bool
) -> Iterator[dict[str, Any]]:
    corners = found.boxes.detach().cpu().double()
    rows = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)  # (N, 4) xywh
    scores = found.scores.detach().cpu().double()
    columns = [rows, scores[:, None]]
    if edge_std:
        std = getattr(found, "edge_std", None)
        if not isinstance(std, Tensor):
            raise ValueError(f"image id {image_id}: these detections have no edge_std; write without edge_std=True")
        columns.append(std.detach().cpu().double())
    if not all(torch.isfinite(column).all() for column in columns):
        raise ValueError(f"image id {image_id}: a box, score or edge_std is not finite and cannot be written")
    stds = columns[2].tolist() if edge_std else [None] * len(rows)
    for label, box, score, std in zip(found.labels.tolist(), rows.tolist(), scores.tolist(), stds, strict=True):
        if not 0 <= label < len(category_ids):
            raise ValueError(f"image id {image_id}: label {label}, but there are {len(category_ids)} category ids")
        record: dict[str, Any] = {
            "image_id": image_id,
            "category_id": int(category_ids[label]),
            "bbox": [round(v, DECIMALS) for v in box],
            "score": float(f"{score:.9g}"),
        }
        if std is not None:
            record["edge_std"] = [round(v, DECIMALS) for v in std]
        yield record


def read_coco_results(path: str | os.PathLike[str], category_ids: Sequence[int]) -> dict[int, ImageResults]:
    """Read COCO results of boxes; returns the results of each image that has records, by image id.

    ``category_ids`` are the dataset's own numbers of the classes, indexed by label. ``edge_std`` is None
    for an image none of whose records have it. Raises DataError, naming file and record, for anything but a list of
    well-formed records.
    """
    path = Path(path)
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not a json file ({error}); write the results again") from error
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds a {type(records).__name__}, but COCO results are a list of records, "
            "as 'gfocal eval MODEL DATA --results FILE' writes them"
        )
    label_of = {category_id: label for label, category_id in enumerate(category_ids)}
    by_image: dict[int, list[tuple[list[float], float, int, list[float] | None]]] = {}
    for i, record in enumerate(records):
        where = f"{path}: record {i}"
        if not isinstance(record, dict):
            raise DataError(f"{where}: is {record!r}, expected an object with image_id, category_id, bbox, score")
        if missing := [k for k in ("image_id", "category_id", "bbox", "score") if k not in record]:
            raise DataError(f"{where}: has no {', '.join(missing)}; these must be results of box detection")
        image_id, category = record["image_id"], record["category_id"]
        if type(image_id) is not int:
            raise DataError(f"{where}: image_id {image_id!r} is not an integer")
        if type(category) is not int or category not in label_of:
            raise DataError(
                f"{where}: category_id {category!r} is not one of the dataset's {len(category_ids)}; "
                "read the file with the category ids it was written with"
            )
        x, y, w, h = _numbers(record["bbox"], 4, f"{where}: bbox")
        if w < 0 or h < 0:
            raise DataError(f"{where}: bbox has width {w} and height {h}; it must be x, y, width, height")
        (score,) = _numbers([record["score"]], 1, f"{where}: score")
        std = _numbers(record["edge_std"], 4, f"{where}: edge_std") if "edge_std" in record else None
        by_image.setdefault(image_id, []).append(([x, y, x + w, y + h], score, label_of[category], std))
    return {image_id: _image_results(rows, f"{path}: image_id {image_id}") for image_id, rows in by_image.items()}


def _numbers(value: object, length: int, where: str) -> list[float]:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != length or not all(type(v) in (int, float) and math.isfinite(v) for v in numbers):
        raise DataError(f"{where} is {value!r}, expected {length} finite number{'s' * (length > 1)}")
    return [float(v) for v in numbers]


def _image_results(rows: list[tuple[list[float], float, int, list[float] | None]], where: str) -> ImageResults:
    boxes, scores, labels, stds = zip(*rows, strict=True)
    present = [std for std in stds if std is not None]
    if present and len(present) != len(rows):
        raise DataError(f"{where}: {len(present)} of {len(rows)} records have edge_std; give it to all or to none")
    return ImageResults(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        scores=torch.tensor(scores, dtype=torch.float32),
        labels=torch.tensor(labels, dtype=torch.int64),
        edge_std=torch.tensor(present, dtype=torch.float32) if present else None,
    )
