"""gfocal.json beside a dataset: what its format has no place for, read back by gfocal and passed over by others.

YOLO's files know no ignored regions, areas, image ids or category ids; VOC's know no ids and no order of classes; a
CSV no classes without objects. ``gfocal convert`` puts here what would be lost, and nothing that the files say
themselves: a file that is edited later counts as edited.
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
ABOUT = "What the files of this dataset have no place for. gfocal reads it back, other tools pass it over."


@dataclass(frozen=True)
class PlacedBox:
    """A box that stands in the sidecar alone: an ignored region of YOLO's."""

    at: int  # its place among the objects of the image
    label: int
    box: tuple[float, ...]  # xyxy, fractions of the image
    area: float  # NaN where not stated


@dataclass(frozen=True)
class LineExtra:
    """What is known of the object of one line beyond its text."""

    text: str  # the line when it was written: another line now means that it was edited, and this is stale
    area: float = math.nan
    box: tuple[float, ...] | None = None  # xyxy in fractions, where cx cy w h cannot say it exactly


@dataclass(frozen=True)
class ImageExtra:
    """What is known of one image in one split."""

    image_id: int | None = None
    stated_size: tuple[int, int] | None = None  # height, width; where it is not that of the upright image
    lines: Mapping[int, LineExtra] = field(default_factory=dict)
    ignored: tuple[PlacedBox, ...] = ()


NOTHING = ImageExtra()


@dataclass(frozen=True)
class Sidecar:
    """All of gfocal.json; empty where there is none."""

    names: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] | None = None  # indexed by the class's place in the files
    splits: Mapping[str, Mapping[str, ImageExtra]] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)  # image below the folder -> what it was called before

    def image(self, split: str | None, key: str) -> ImageExtra:
        """What is known of an image, by the key of its format."""
        return self.splits.get(split or "", {}).get(key, NOTHING)

    def free_ids(self, split: str | None) -> Iterator[int]:
        """Running numbers for images that are not known here, such as those added later: none is taken."""
        taken = {image.image_id for image in self.splits.get(split or "", {}).values()}
        return (number for number in itertools.count(1) if number not in taken)


def read_sidecar(folder: Path) -> Sidecar:
    """The sidecar of a dataset's folder; an empty one where there is none. DataError for a broken one."""
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
        )
        _refuse_twice(sidecar.category_ids or (), "category id")
        for images in sidecar.splits.values():
            _refuse_twice([p.image_id for p in images.values() if p.image_id is not None], "image id")
        return sidecar
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise DataError(
            f"{file}: broken ({' '.join(str(error).split())[:200]}); convert again, or take it away and lose "
            "ids, areas and ignored regions"
        ) from error


def _refuse_twice(ids: Sequence[int], what: str) -> None:
    twice = [number for number, count in Counter(ids).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {twice[0]} stands twice")


def _image(entry: Any) -> ImageExtra:
    size = None if entry.get("size") is None else tuple(map(_whole, entry["size"]))
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
            PlacedBox(_whole(one["at"]), _whole(one["class"]), _box(one["box"]), _area(one))
            for one in entry.get("ignored", ())
        ),
    )


def _area(entry: Mapping[str, Any]) -> float:
    area = float(entry.get("area", math.nan))
    return area if math.isfinite(area) and area > 0 else math.nan


def _box(value: Any) -> tuple[float, ...]:
    x1, y1, x2, y2 = map(float, value)
    return x1, y1, x2, y2


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r:.50} is no whole number of at least 0")
    return value


def _id(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63:
        raise ValueError(f"{value!r:.50} is no whole number of 64 bits")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def as_json(sidecar: Sidecar) -> dict[str, Any] | None:
    """The content of the file; None when there is nothing to tell."""
    splits = {
        split: {key: told for key, image in images.items() if (told := _told(image))}
        for split, images in sidecar.splits.items()
    }
    content: dict[str, Any] = {
        "names": None if sidecar.names is None else list(sidecar.names),
        "category_ids": None if sidecar.category_ids is None else list(sidecar.category_ids),
        "splits": splits,
        "renamed": dict(sidecar.renamed),
    }
    content = {key: value for key, value in content.items() if value}
    return {"about": ABOUT} | content if content else None


def _told(image: ImageExtra) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if image.image_id is not None:
        told["id"] = image.image_id
    if image.stated_size is not None:
        told["size"] = list(image.stated_size)
    if image.lines:
        told["lines"] = {
            str(number): {"text": line.text}
            | ({} if math.isnan(line.area) else {"area": line.area})
            | ({} if line.box is None else {"box": list(line.box)})
            for number, line in image.lines.items()
        }
    if image.ignored:
        told["ignored"] = [
            {"at": one.at, "class": one.label, "box": list(one.box)}
            | ({} if math.isnan(one.area) else {"area": one.area})
            for one in image.ignored
        ]
    return told
