"""Detections that ``gfocal detect`` wrote, read for an evaluation: its detections.json, or YOLO text files.

They name images by file and classes by name, where COCO results have the ids of a dataset.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gfocal.data.dataset import ImageData
from gfocal.data.images import image_size
from gfocal.errors import DataError
from gfocal.interop.coco_results import ImageResults
from gfocal.text import one_line, pluralize

CLASSES_FILE = "classes.txt"


@dataclass(frozen=True)
class _Found:
    """The detections in one image."""

    file: str  # as it was given to gfocal detect; for YOLO the name of the text file
    rows: list[tuple[list[float], float, str]]  # x, y, width, height; score; name of the class
    is_relative: bool = False  # center x, center y, width and height in fractions of the image
    stds: list[list[float]] | None = None


def read_own_results(path: Path, data: ImageData) -> tuple[dict[int, ImageResults], list[str]]:
    """Detections of the images of a dataset, by image id, and notes on what was left out.

    ``path`` is detections.json, or a folder of text files with classes.txt in or beside it. Images are matched by
    their path, else by their file name, else by the name without suffix; classes by name. Raises DataError where
    nothing matches, or a file is damaged.
    """
    found = list(_read_json(path) if path.is_file() else _read_yolo(path))
    samples = _Samples(data)
    label_of = {name: label for label, name in enumerate(data.names)}
    results: dict[int, ImageResults] = {}
    foreign = 0
    unknown: Counter[str] = Counter()
    for one in found:
        index = samples.find(one.file)
        if index is None:
            foreign += 1
            continue
        unknown.update(name for _, _, name in one.rows if name not in label_of)
        sample = data.sample(index)
        size = _size(data, index) if one.is_relative and one.rows else (1, 1)
        results[sample.image_id] = _results(one, label_of, size)
    if not results:
        raise DataError(f"{path}: none of its {pluralize(len(found), 'image')} is among those of the data")
    if unknown and not any(len(result.labels) for result in results.values()):
        raise DataError(
            f"{path}: none of its classes ({_listed(unknown)}) is among those of the data "
            f"({one_line(', '.join(data.names))}); --rename OLD=NEW renames a class of the data"
        )
    notes = []
    if foreign:
        notes.append(f"{path}: {pluralize(foreign, 'image')} not among those of the data, left out")
    if unknown:
        notes.append(
            f"{path}: {pluralize(unknown.total(), 'detection')} of classes that the data do not have, left out: "
            f"{_listed(unknown)}"
        )
    if missing := len(data) - len(results):
        notes.append(
            f"{path}: says nothing of {pluralize(missing, 'image')} of the data, which count as without objects"
        )
    return results, notes


def _listed(names: Mapping[str, int]) -> str:
    return one_line(", ".join(names))


class _Samples:
    """The images of a dataset, found by path, file name or stem; a name that several have finds none."""

    def __init__(self, data: ImageData) -> None:
        self.by_path: dict[Path, int] = {}
        names: dict[str, list[int]] = defaultdict(list)
        for index in range(len(data)):
            path = data.sample(index).path
            if path is not None:
                self.by_path[path.absolute()] = index
                for name in {path.name, path.stem}:
                    names[name].append(index)
        self.by_name = {name: indices[0] for name, indices in names.items() if len(indices) == 1}

    def find(self, file: str) -> int | None:
        path = Path(file)
        for known in (self.by_path.get(path.absolute()), self.by_name.get(path.name), self.by_name.get(path.stem)):
            if known is not None:
                return known
        return None


def _size(data: ImageData, index: int) -> tuple[int, int]:
    sample = data.sample(index)
    if sample.size is not None:
        return sample.size
    assert sample.path is not None, "it was found by its path"
    return image_size(sample.path)


def _results(one: _Found, label_of: Mapping[str, int], size: tuple[int, int]) -> ImageResults:
    height, width = size
    known = [k for k, (_, _, name) in enumerate(one.rows) if name in label_of]
    boxes = torch.tensor([one.rows[k][0] for k in known], dtype=torch.float64).reshape(-1, 4)
    if one.is_relative:
        boxes = boxes * torch.tensor([width, height, width, height], dtype=torch.float64)
        boxes[:, :2] -= boxes[:, 2:] / 2
    return ImageResults(
        boxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        scores=torch.tensor([one.rows[k][1] for k in known], dtype=torch.float64),
        labels=torch.tensor([label_of[one.rows[k][2]] for k in known], dtype=torch.int64),
        xywh=boxes,
        edge_std=torch.tensor([one.stds[k] for k in known], dtype=torch.float32).reshape(-1, 4) if one.stds else None,
    )


def _read_json(path: Path) -> Iterator[_Found]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        by_image: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
        for annotation in content["annotations"]:
            by_image[annotation["image_id"]].append(annotation)
        for image in content["images"]:
            records = by_image[image["id"]]
            rows = [(_finite(r["bbox"], 4), _finite([r["score"]], 1)[0], names[r["category_id"]]) for r in records]
            has_std = bool(records) and all("edge_std" in record for record in records)
            stds = [_finite(record["edge_std"], 4) for record in records] if has_std else None
            yield _Found(str(image["file_name"]), rows, False, stds)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            f"{path}: not detections as 'gfocal detect' writes them "
            f"({type(error).__name__}: {one_line(str(error))}); COCO results are a list of records with image_id, "
            "category_id, bbox and score"
        ) from error


def _read_yolo(folder: Path) -> Iterator[_Found]:
    classes = next(home / CLASSES_FILE for home in (folder, folder.parent) if (home / CLASSES_FILE).is_file())
    names = classes.read_text(encoding="utf-8-sig").splitlines()
    for file in sorted(folder.glob("*.txt")):
        if file.name == CLASSES_FILE:
            continue
        rows = []
        for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
            if not line.strip():
                continue
            try:
                label, *numbers = line.split()
                *box, score = _finite([float(v) for v in numbers], 5)
                rows.append((box, score, names[int(label)]))
            except (ValueError, IndexError) as error:
                raise DataError(
                    f"{file}: line {number}: expected class, center x, center y, width, height and score, with a "
                    f"class of the {len(names)} in {classes}; found {one_line(line)!r}"
                ) from error
        yield _Found(file.name.removesuffix(".txt"), rows, True)


def _finite(values: Any, length: int) -> list[float]:
    found = [float(v) for v in values]
    if len(found) != length or not all(map(math.isfinite, found)):
        raise ValueError(f"expected {length} finite numbers")
    return found
