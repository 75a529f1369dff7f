"""COCO results in json, written and read: the format of pycocotools, evaluation servers and other tools."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfocal.atomic import atomic_write
from gfocal.errors import DataError
from gfocal.evaluation.coco_ap import ScoredBoxes
from gfocal.text import one_line, pluralize

DECIMALS = 3  # of a pixel; COCO's own boxes have 2


@dataclass(frozen=True)
class ImageResults:
    """The records of one image in a results file, in the file's order."""

    boxes: Tensor  # (N, 4) float64, xyxy in pixels of the original image
    scores: Tensor  # (N,) float64
    labels: Tensor  # (N,) int64, 0..C-1
    xywh: Tensor  # (N, 4) float64, the boxes as they stand in the file
    edge_std: Tensor | None = None  # (N, 4) float32, pixels; sides left, top, right, bottom

    def relabel(self, new_labels: Sequence[int], names: tuple[str, ...] = ()) -> ImageResults:
        """With other classes: label i becomes ``new_labels[i]``; records whose new label is negative are left out.

        ``names`` are for detections that have them.
        """
        labels = torch.tensor(new_labels, dtype=torch.int64)[self.labels]
        keep = labels >= 0
        std = None if self.edge_std is None else self.edge_std[keep]
        return ImageResults(self.boxes[keep], self.scores[keep], labels[keep], self.xywh[keep], std)


def write_coco_results(
    path: str | os.PathLike[str],
    detections: Mapping[int, ScoredBoxes],
    category_ids: Sequence[int],
    edge_std: bool = False,
    image_ids: Mapping[int, int | str] | None = None,
) -> int:
    """Write detections, keyed by image id, as COCO results; returns the number of records.

    Each record is ``{"image_id", "category_id", "bbox": [x, y, width, height], "score"}``, one per line, lengths in
    pixels rounded to 3 decimals, scores with the 9 digits that identify a float32 and so preserve the order.
    ``category_ids`` are the dataset's own numbers of the classes, indexed by label. An image without detections has
    no record. The file is written atomically.

    ``edge_std`` adds ``"edge_std": [left, top, right, bottom]``, the standard deviation of each edge in pixels, from
    the attribute of that name which ``Detections`` have; other readers of COCO results ignore it.

    ``image_ids`` maps the keys of ``detections`` to the ids that are written, which may be text.

    Raises ValueError if a number is not finite, a label has no category id, or ``edge_std`` is asked for but missing.
    """
    count = 0
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write("[")
        for image_id, found in detections.items():
            written_id = int(image_id) if image_ids is None else image_ids[image_id]
            for record in _records(written_id, found, category_ids, edge_std):
                file.write(",\n" if count else "\n")
                file.write(json.dumps(record))
                count += 1
        file.write("\n]\n")
    return count


def _records(
    image_id: int | str, found: ScoredBoxes, category_ids: Sequence[int], edge_std: bool
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


def read_coco_results(
    path: str | os.PathLike[str],
    category_ids: Sequence[int],
    image_ids: Mapping[int | str, int] | None = None,
    unknown_categories: Counter[str] | None = None,
) -> dict[int, ImageResults]:
    """Read COCO results of boxes; returns the results of each image that has records, by image id.

    Numbers stay as they are in the file, in float64. ``category_ids`` are the dataset's own numbers of the classes,
    indexed by label. ``image_ids`` maps image ids of the file, which may be text, to those of the result; None: they
    are integers and stay. An id may be written as text where the dataset has a number, and the reverse.
    ``edge_std`` is None for an image none of whose records have it. Records of other categories are left out and
    counted in ``unknown_categories``, if that is given, else they are an error.

    Raises DataError, naming file and record, for anything but a list of well-formed records of known images and
    classes.
    """
    path = Path(path)
    records = _load(path)
    label_of: dict[int | str, int] = {category_id: label for label, category_id in enumerate(category_ids)}
    by_image: dict[int, list[_Row]] = {}
    unlisted: dict[str, int] = {}  # image ids that the data do not have, with the first record
    for i, record in enumerate(records):
        where = f"{path}: record {i}"
        if not isinstance(record, dict):
            raise DataError(
                f"{where}: is {one_line(repr(record))}, expected an object with image_id, category_id, bbox, score"
            )
        if missing := [k for k in ("image_id", "category_id", "bbox", "score") if k not in record]:
            raise DataError(f"{where}: has no {', '.join(missing)}; these must be results of box detection")
        label = _find_id(record["category_id"], label_of)
        if label is None and unknown_categories is not None:
            unknown_categories[one_line(str(record["category_id"]))] += 1
            continue
        if label is None:
            raise DataError(
                f"{where}: category_id {one_line(repr(record['category_id']))} is not one of the dataset's "
                f"{len(category_ids)}; read the file with the category ids it was written with"
            )
        x, y, w, h = _numbers(record["bbox"], 4, f"{where}: bbox")
        if w < 0 or h < 0:
            raise DataError(f"{where}: bbox has width {w} and height {h}; it must be x, y, width, height")
        (score,) = _numbers([record["score"]], 1, f"{where}: score")
        std = _numbers(record["edge_std"], 4, f"{where}: edge_std") if "edge_std" in record else None
        image_id = _image_id(record["image_id"], image_ids, where)
        if image_id is None:
            unlisted.setdefault(one_line(str(record["image_id"])), i)
        else:
            by_image.setdefault(image_id, []).append(((x, y, w, h), score, label, std))
    if unlisted:
        first = next(iter(unlisted))
        raise DataError(
            f"{path}: {pluralize(len(unlisted), 'image id')} not among those of the data, the first is {first}; "
            "evaluate on the images that the detections were made on (--split selects them)"
        )
    return {image_id: _image_results(rows, f"{path}: image_id {image_id}") for image_id, rows in by_image.items()}


def _load(path: Path) -> list[Any]:
    try:
        records = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a json file ({error}); write the results again") from error
    if not isinstance(records, list):
        raise DataError(
            f"{path}: holds a {type(records).__name__}, but COCO results are a list of records, "
            "as 'gfocal eval MODEL DATA --results FILE' writes them"
        )
    return records


_Row = tuple[tuple[float, float, float, float], float, int, list[float] | None]  # xywh, score, label, edge_std


def _image_id(value: object, image_ids: Mapping[int | str, int] | None, where: str) -> int | None:
    """The image id of a record; None where ``image_ids`` lack it."""
    if image_ids is None and type(value) is int:
        return value
    if image_ids is None or type(value) not in (int, float, str):
        raise DataError(f"{where}: image_id {one_line(repr(value))} is not an integer")
    return _find_id(value, image_ids)


def _find_id(value: object, known: Mapping[int | str, int]) -> int | None:
    """What an id means among the known ones; decimals and numbers written as text are integers."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is int:
        return known[value] if value in known else known.get(str(value)) if abs(value) < 10**20 else None
    if not isinstance(value, str):
        return None
    is_number = len(value) <= 20 and re.fullmatch(r"-?(0|[1-9]\d*)", value, re.ASCII)
    return known.get(value, known.get(int(value)) if is_number else None)


def _numbers(value: object, length: int, where: str) -> list[float]:
    numbers = value if isinstance(value, list) and all(type(v) in (int, float) for v in value) else []
    try:
        found = [float(v) for v in numbers]
    except OverflowError:  # an integer of hundreds of digits
        found = []
    if len(found) != length or not all(map(math.isfinite, found)):
        raise DataError(f"{where} is {one_line(repr(value))}, expected {length} finite number{'s' * (length > 1)}")
    return found


def _image_results(rows: list[_Row], where: str) -> ImageResults:
    boxes, scores, labels, stds = zip(*rows, strict=True)
    xywh = torch.tensor(boxes, dtype=torch.float64)
    present = [std for std in stds if std is not None]
    if present and len(present) != len(rows):
        raise DataError(f"{where}: {len(present)} of {len(rows)} records have edge_std; give it to all or to none")
    return ImageResults(
        boxes=torch.cat([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1),
        scores=torch.tensor(scores, dtype=torch.float64),
        labels=torch.tensor(labels, dtype=torch.int64),
        xywh=xywh,
        edge_std=torch.tensor(present, dtype=torch.float32) if present else None,
    )
