"""gfocal.json beside a dataset: information that its format cannot store, read by gfocal and ignored by other tools.

YOLO files store no ignored regions, areas, image ids or category ids; VOC files store no ids and no order of classes;
a CSV table stores no classes without objects; the files of most labeling tools store nothing of all this.
``gfocal convert`` writes here what would be lost, and nothing that the files store themselves: if a file is edited
later, the edit counts.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gfocal.errors import DataError

SIDECAR = "gfocal.json"
ABOUT = "Information that the files of this dataset cannot store. gfocal reads it, other tools ignore it."


Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class IgnoredRegion:
    """An ignored region, where a format cannot store it."""

    at: int  # its index among the objects of the image
    label: int
    box: Corners  # xyxy: in YOLO fractions of the image, else in the unit of the format
    area: float  # NaN if not stated


@dataclass(frozen=True)
class LineExtra:
    """Information about the object in one line of a label file, or about one object of another format."""

    # YOLO: the line as it was written; if it differs now, the line was edited and this is outdated.
    # Other formats: the class, beside which the box must be unchanged.
    text: str
    area: float = math.nan
    box: Corners | None = None  # xyxy in the unit of the format; YOLO: only if cx cy w h cannot represent it exactly


@dataclass(frozen=True)
class ImageExtra:
    """Information about one image in one split."""

    image_id: int | None = None
    stated_size: tuple[int, int] | None = None  # height, width; if they are not those of the upright image
    lines: Mapping[int, LineExtra] = field(default_factory=dict)
    ignored: tuple[IgnoredRegion, ...] = ()


NO_EXTRA = ImageExtra()


@dataclass(frozen=True)
class Sidecar:
    """The content of gfocal.json; empty if there is no such file."""

    names: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] | None = None  # indexed by the index of a class in the files
    splits: Mapping[str, Mapping[str, ImageExtra]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # image below the folder -> its original name
    # By ``gfocal split``: file of the dataset ("" for the folder) -> its own split ("" without one) -> new split ->
    # images below the folder. See ``gfocal.data.assigned``.
    moved: Mapping[str, Mapping[str, Mapping[str, tuple[str, ...]]]] = field(default_factory=dict)
    # What a user writes here by hand, for formats that leave it open:
    class_attribute: str | None = None  # the attribute of objects that is their class
    score_threshold: float | None = None  # objects that a model found with a lower score are left out
    voc_one_based: bool = False  # corners in VOC files are indices of pixels that count from 1
    boxes_on_stored_pixels: bool = False  # YOLO's boxes were drawn on pixels that EXIF did not rotate

    @property
    def is_converted(self) -> bool:
        """Whether ``gfocal convert`` wrote the dataset, as far as it left something here."""
        return bool(self.names or self.category_ids or self.splits or self.renamed)

    def image(self, split: str | None, key: str) -> ImageExtra:
        """Information about an image, by the key that its format uses."""
        return self.splits.get(split or "", {}).get(key, NO_EXTRA)

    def free_ids(self, split: str | None) -> Iterator[int]:
        """Unused image ids 1, 2, ... for images that are not listed here, such as those added later."""
        used = {image.image_id for image in self.splits.get(split or "", {}).values()}
        return (number for number in itertools.count(1) if number not in used)


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar of a dataset's folder, empty if there is none. Raises DataError for a broken one."""
    file = folder / SIDECAR
    if not file.is_file():
        return Sidecar()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        ids = content.get("category_ids")
        names = content.get("names")
        sidecar = Sidecar(
            names=None if names is None else tuple(_text(name) for name in names),
            category_ids=None if ids is None else tuple(_id(i) for i in ids),
            splits={
                split: {key: _image(entry) for key, entry in images.items()}
                for split, images in content.get("splits", {}).items()
            },
            renamed={key: _text(name) for key, name in content.get("renamed", {}).items()},
            moved=_moved(content.get("moved", {})),
            class_attribute=None if "class_attribute" not in content else _text(content["class_attribute"]),
            score_threshold=None if "score_threshold" not in content else _score(content["score_threshold"]),
            voc_one_based=_bool(content.get("voc_one_based", False)),
            boxes_on_stored_pixels=_bool(content.get("boxes_on_stored_pixels", False)),
        )
        _check_unique(sidecar.category_ids or (), "category id")
        for images in sidecar.splits.values():
            _check_unique([p.image_id for p in images.values() if p.image_id is not None], "image id")
        return sidecar
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{file}: broken ({' '.join(str(error).split())[:200]}); convert again, or delete it and lose "
            "ids, areas and ignored regions"
        ) from error


def _moved(content: Any) -> dict[str, dict[str, dict[str, tuple[str, ...]]]]:
    return {
        file: {
            source: {target: tuple(map(_text, names)) for target, names in targets.items()}
            for source, targets in sources.items()
        }
        for file, sources in content.items()
    }


def _check_unique(ids: Sequence[int], what: str) -> None:
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{what} {repeated[0]} occurs twice")


def _image(entry: Any) -> ImageExtra:
    size = None if entry.get("size") is None else tuple(map(_count, entry["size"]))
    if size is not None and len(size) != 2:
        raise ValueError("a size is height and width")
    return ImageExtra(
        image_id=None if "id" not in entry else _id(entry["id"]),
        stated_size=size,
        lines={
            int(number): LineExtra(
                _text(line["text"]),
                _area(line),
                _box(line["box"]) if "box" in line else None,
            )
            for number, line in entry.get("lines", {}).items()
        },
        ignored=tuple(
            IgnoredRegion(_count(one["at"]), _count(one["class"]), _box(one["box"]), _area(one))
            for one in entry.get("ignored", ())
        ),
    )


def _area(entry: Mapping[str, Any]) -> float:
    area = float(entry.get("area", math.nan))
    return area if math.isfinite(area) and area > 0 else math.nan


def _box(value: Any) -> Corners:
    x1, y1, x2, y2 = map(float, value)
    return x1, y1, x2, y2


def _score(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"score_threshold {value!r:.50} is not a number from 0 to 1")
    return float(value)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{value!r:.50} is neither true nor false")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r:.50} is not an integer of at least 0")
    return value


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r:.50} is not a 64-bit integer")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a string")
    return value


def to_json(sidecar: Sidecar) -> dict[str, Any] | None:
    """The content of the file; None if it would be empty."""
    splits = {
        split: {key: entry for key, image in images.items() if (entry := _image_to_json(image))}
        for split, images in sidecar.splits.items()
    }
    content: dict[str, Any] = {
        "names": None if sidecar.names is None else list(sidecar.names),
        "category_ids": None if sidecar.category_ids is None else list(sidecar.category_ids),
        "splits": splits,
        "renamed": dict(sidecar.renamed),
        "moved": sidecar.moved,
        "class_attribute": sidecar.class_attribute,
        "score_threshold": sidecar.score_threshold,
        "voc_one_based": sidecar.voc_one_based or None,
    }
    content = {key: value for key, value in content.items() if value or value == 0.0}
    return {"about": ABOUT} | content if content else None


def _image_to_json(image: ImageExtra) -> dict[str, Any]:
    entry: dict[str, Any] = {}
    if image.image_id is not None:
        entry["id"] = image.image_id
    if image.stated_size is not None:
        entry["size"] = list(image.stated_size)
    if image.lines:
        entry["lines"] = {
            str(number): {"text": line.text}
            | ({} if math.isnan(line.area) else {"area": line.area})
            | ({} if line.box is None else {"box": list(line.box)})
            for number, line in image.lines.items()
        }
    if image.ignored:
        entry["ignored"] = [
            {"at": one.at, "class": one.label, "box": list(one.box)}
            | ({} if math.isnan(one.area) else {"area": one.area})
            for one in image.ignored
        ]
    return entry
