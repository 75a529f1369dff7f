"""The annotations of a COCO file: boxes, boxes of outlines, crowd flags, and labels of whole images."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.class_ids import report_shift
from gfocal.data.dataset import Problem
from gfocal.data.image_record import ImageRecord
from gfocal.data.images import size_and_orientation
from gfocal.data.masks import MASK_SIZE, box_around_outline, mask_size
from gfocal.data.outlines import NO_ROTATION, OUTLINE, ROTATED, Corners, hull_of_rotated
from gfocal.data.readers.fields import doubt_flag, read_flag, read_id
from gfocal.data.readers.reading import to_number
from gfocal.data.validation import MALFORMED, UNKNOWN_CLASS, UNLISTED
from gfocal.errors import ImageError

AREA_OF_BOX = "area_is_of_box"  # key of annotations: the area was not stated, and the writer has put that of the box
FIVE_NUMBERS = (
    f"{MALFORMED}: 5 numbers in place of x, y, width, height; if the fifth is a rotation, write the upright box"
)
EMPTY_LABEL = "label of an empty image, without a box: the image is background"
# Names of categories that say of a whole image that it has no object, by their letters.
EMPTY_NAMES = frozenset(
    {"empty", "emptyimage", "blank", "background", "none", "nothing", "negative", "vacant", "nofinding"}
    | {"noobject", "noobjects", "noanimal", "noanimals", "nodetection"}
)

Id = int | str
Sizes = dict[Path, tuple[int, int] | None]  # height and width of image files; None: unreadable
Records = Mapping[Id, ImageRecord | None]  # by image id; None for a listed image that cannot be used


def is_empty_name(name: str) -> bool:
    """Whether a category says of a whole image that it has no object."""
    return re.sub("[^a-z]+", "", name.lower()) in EMPTY_NAMES


def label_only_categories(annotations: Iterable[Any]) -> tuple[set[Id], set[Id]]:
    """Ids of categories that label whole images, without a box; and of those that have boxes."""
    whole: set[Id] = set()
    boxed: set[Id] = set()
    for entry in annotations:
        if isinstance(entry, dict) and (key := read_id(entry.get("category_id"))) is not None:
            (boxed if entry.get("bbox") or entry.get("segmentation") else whole).add(key)
    return whole, boxed


def add_objects(
    annotations: Iterable[Any],
    records: Records,
    labels: Mapping[Id, int],
    empty: set[Id],
    file: str,
    problems: list[Problem],
) -> None:
    """Add the boxes of annotations to their images.

    ``labels`` has the label of each category id, ``empty`` the ids of those that label empty images. An object
    without a box gets that of its outline; an image with an object that has neither is left out. Annotations that
    cannot be used are added to ``problems``.
    """
    ids: Counter[int] = Counter()
    sizes: Sizes = {}
    for number, entry in enumerate(annotations, 1):
        if not isinstance(entry, dict):
            problems.append(Problem(file, f"annotations, entry {number}", "not a record", "dropped"))
            continue
        record = f"annotation {entry.get('id', f'without id, entry {number}')}"
        image, category = read_id(entry.get("image_id")), read_id(entry.get("category_id"))
        if image is None or image not in records:
            problems.append(Problem(file, f"{record}: image_id {entry.get('image_id')!r:.80}", UNLISTED, "dropped"))
            continue
        listed = records[image]
        if listed is None:
            continue
        if category in empty and not (entry.get("bbox") or entry.get("segmentation")):
            problems.append(Problem(file, f"{record}: {listed.path.name}", EMPTY_LABEL, "kept"))
            continue
        if isinstance(category, int):
            ids[category] += 1
        if category is None or category not in labels:
            shown = f"{record}: category_id {entry.get('category_id')!r:.80}"
            problems.append(Problem(file, shown, UNKNOWN_CLASS, "dropped"))
            listed.num_lost += 1
        else:
            _add_object(entry, listed, labels[category], record, sizes, problems)
    known = [key for key in (*labels, *empty) if isinstance(key, int)]
    problems += report_shift(ids, known, sum(n for key, n in ids.items() if key not in known), file)


def _add_object(
    entry: dict[str, Any], image: ImageRecord, label: int, record: str, sizes: Sizes, problems: list[Problem]
) -> None:
    box = _read_box(entry.get("bbox"))
    if box is None or (box[0] == box[2] and box[1] == box[3]):  # some tools write 0, 0, 0, 0 where there is none
        outline = box_around_outline(entry.get("segmentation"))
        if outline is not None and (difference := _compare_size(entry["segmentation"], image, sizes)):
            if not image.left_out:
                image.left_out, image.left_out_for = MASK_SIZE, f"{record}: {difference}"
            return
        if outline is not None:
            problems.append(Problem(image.file, record, OUTLINE, "kept"))
        box = outline or box
    if box is None and not entry.get("bbox"):
        image.left_out = OBJECTS_WITHOUT_BOX
        return
    if box is None:
        shown = f"{record}: bbox {entry.get('bbox')!r:.80}"
        has_five = isinstance(entry["bbox"], list) and len(entry["bbox"]) == 5
        problems.append(Problem(image.file, shown, FIVE_NUMBERS if has_five else MALFORMED, "dropped"))
        image.num_lost += 1
        return
    degrees = _rotation(entry, box)
    if math.isnan(degrees):
        shown = f"{record}: rotation {entry['attributes']['rotation']!r:.80}"
        problems.append(Problem(image.file, shown, NO_ROTATION, "kept"))
    elif degrees:
        problems.append(Problem(image.file, f"{record}: {degrees:g} degrees", ROTATED, "kept"))
        box = hull_of_rotated(box, degrees)
    area = _stated_area(entry)
    x, y, width, height = map(float, entry["bbox"]) if box == _read_box(entry.get("bbox")) else to_xywh(box)
    stated = (x, y, width, height, area)  # not from the corners: a rounding can change a match
    is_ignored = _is_ignored(entry, record, image.file, problems)
    image.add(box, label, is_ignored, record, area if area > 0 else math.nan, stated)


def _compare_size(segmentation: Any, image: ImageRecord, sizes: Sizes) -> str:
    """How the size of a mask differs from that of its image; empty if it does not.

    A mask may have been drawn before its image was resized: then it is of the stated size. One of width and height
    in place of height and width would give another box.
    """
    mask = mask_size(segmentation)
    if mask is None:
        return ""
    if image.path not in sizes:
        try:
            sizes[image.path] = size_and_orientation(image.path, image.stated_size)[0]
        except (ImageError, OSError):
            sizes[image.path] = None  # reported by the validation
    size = sizes[image.path]
    if size is None or mask == size or (mask == image.stated_size and mask != size[::-1]):
        return ""
    text = f"mask of height {mask[0]} and width {mask[1]}, image of height {size[0]} and width {size[1]}"
    return text + "; its size must be [height, width]" * (mask == size[::-1])


def to_xywh(box: Corners) -> Corners:
    """A box xyxy as x, y, width, height."""
    return box[0], box[1], box[2] - box[0], box[3] - box[1]


def _read_box(value: Any) -> Corners | None:
    """COCO's x, y, width, height as xyxy; None if they are not four numbers."""
    try:
        x, y, width, height = map(float, value if isinstance(value, list) else ())
    except (TypeError, ValueError, OverflowError):
        return None
    return x, y, x + width, y + height


def _rotation(entry: dict[str, Any], box: Corners) -> float:
    """Degrees by which a box is rotated about its center, as CVAT writes it; 0 if it is around its outline.

    NaN if they are no number.
    """
    attributes = entry.get("attributes")
    stated = attributes.get("rotation") if isinstance(attributes, dict) else None
    if stated is None or stated == "":
        return 0.0
    degrees = to_number(stated)
    if not math.isfinite(degrees):
        return math.nan
    outline = box_around_outline(entry.get("segmentation"))
    is_around = outline is not None and max(abs(a - b) for a, b in zip(outline, box, strict=True)) <= 1
    return 0.0 if is_around or degrees % 180 == 0 else float(degrees)


def _is_ignored(entry: dict[str, Any], record: str, file: str, problems: list[Problem]) -> bool:
    """Whether a flag says that an object is neither ground truth nor background."""
    for key in ("iscrowd", "ignore"):
        if reason := doubt_flag(entry.get(key)):
            problems.append(Problem(file, f"{record}: {key} {entry[key]!r:.80}", reason, "kept"))
    return any(read_flag(entry.get(key)) for key in ("iscrowd", "ignore"))


def _stated_area(entry: Mapping[str, Any]) -> float:
    """The area in square pixels, even if no object has it; NaN if not stated."""
    area = entry.get("area")
    if entry.get(AREA_OF_BOX) is True or not isinstance(area, int | float) or isinstance(area, bool):
        return math.nan
    return float(area) if -1e300 < area < 1e300 else math.nan  # larger integers are not representable
