"""What concerns a whole dataset rather than single boxes: numbers of another convention, images that were resized
after annotation, images that are rotated by EXIF, crowd flags on most objects.

Each is one problem, for the whole dataset. Where the meaning is certain, the records are converted; where it is only
likely (``REFUSED``), training refuses to start.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from gfocal.data import box_layouts
from gfocal.data.box_layouts import CENTERS, CORNERS, Layout, is_outside
from gfocal.data.class_ids import IDS_SHIFTED
from gfocal.data.dataset import Problem
from gfocal.data.image_record import ImageRecord, Usable
from gfocal.text import pluralize

FRACTIONS = "all numbers are in 0..1: interpreted as fractions of the image"
RESIZED = "images were resized after annotation: boxes are scaled to the files"
MOSTLY_IGNORED = (
    "most objects are ignored in training and evaluation: if they are objects, clear the flags, or give "
    "--ignored-as-objects"
)
TURNED = "images are rotated upright by their EXIF orientation: check that boxes were drawn on upright images"
TURNED_YOLO = (
    "images are rotated upright by their EXIF orientation: if the boxes were drawn on the stored pixels, as by "
    'LabelImg, write {"boxes_on_stored_pixels": true} into gfocal.json beside the data'
)
OTHER_LAYOUTS = (CORNERS, CENTERS, box_layouts.CORNERS_FOR_CENTERS, box_layouts.TOP_LEFT, box_layouts.SIDES)
DOUBTFUL_LAYOUTS = (box_layouts.SWAPPED_SIDES, box_layouts.MAYBE_CORNERS)
WHOLE_DATASET = (
    *(FRACTIONS, RESIZED, MOSTLY_IGNORED, TURNED, TURNED_YOLO, IDS_SHIFTED, box_layouts.MAYBE_RESIZED),
    *OTHER_LAYOUTS,
    *DOUBTFUL_LAYOUTS,
)
REFUSED = (*OTHER_LAYOUTS, IDS_SHIFTED)

MIN_IGNORED = 8  # ignored objects, where there are others
MIN_BOXES, MIN_BOXES_OF_GROWN = 3, 8  # with fewer, nothing is said of fractions, of enlarged images
MAX_STATED = 10**9  # pixels; files state sides of hundreds of digits, which no float holds
MAX_STATED_OUTSIDE = (
    0.05  # boxes outside of the stated size, per box outside of the file, in images that were resized
)
GROWN = 0.8  # stated size, relative to the file's, below which images may have been enlarged
REACH = 0.7  # how far boxes must reach into stated sizes that are smaller than the files'

_Boxes = npt.NDArray[np.float64]


def convert_records(
    usable: Sequence[Usable],
    orientations: Sequence[int],
    problems: list[Problem],
    where: str,
    *,
    layout: Layout,
    flag: str,
    in_pixels: bool,
) -> list[Usable]:
    """Convert records whose numbers have another meaning, and report what concerns the whole dataset.

    Args:
        usable: images with height and width of their files; their boxes are changed in place.
        orientations: EXIF orientations that the images are rotated by on reading; 1 for none.
        problems: of the dataset; those found here are added.
        where: file or folder, for problems.
        layout: what the annotations state of a box.
        flag: how the annotations mark ignored objects, for problems.
        in_pixels: whether numbers are pixels even if all are in 0..1.

    Returns the images whose stated size differs from their file's, and whose boxes were not scaled to the file.
    """
    if not in_pixels:
        _read_fractions(usable, problems, where, layout == "xywh")
    differing = _scale_resized(usable, problems, where)
    _report_layout(usable, problems, where, layout)
    _turn(usable, orientations, problems, where)
    _count_ignored(usable, problems, where, flag)
    return differing


def _table(usable: Sequence[Usable], has_relative: bool = False) -> tuple[_Boxes, npt.NDArray[np.float64]]:
    """The boxes of all images in pixels, xyxy, and width and height of their images. (N, 4), (N, 2)

    Boxes in fractions are left out, or converted with ``has_relative``.
    """
    used = [(image, size) for image, size in usable if has_relative or not image.relative]
    rows = [(*box, size[1], size[0]) for image, size in used for box in image.boxes]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    if has_relative:
        relative = [image.relative for image, _ in used for _ in image.boxes]
        with np.errstate(over="ignore"):  # what becomes infinite is left out below
            table[relative, :4] *= table[relative][:, [4, 5, 4, 5]]
    table = table[np.isfinite(table).all(1)]
    return table[:, :4], table[:, 4:]


def _read_fractions(usable: Sequence[Usable], problems: list[Problem], where: str, is_xywh: bool) -> None:
    """Make the boxes of a dataset relative if all of its numbers are in 0..1, and not all are 0 or 1."""
    boxes, _ = _table(usable)
    if len(boxes) < MIN_BOXES or any(image.relative and image.boxes for image, _ in usable):
        return
    if is_xywh:  # as the file has them: corners or centers in their place may add up to more than 1
        boxes[:, 2:] -= boxes[:, :2]
    if boxes.min() < -1e-3 or boxes.max() > 1 + 1e-3 or (boxes == boxes.round()).all():
        return
    problems.append(Problem(where, pluralize(len(boxes), "box", "boxes"), FRACTIONS, "kept"))
    for image, (height, width) in usable:
        image.relative = True
        image.stated = [None] * len(image.boxes)
        image.areas = [area * height * width if area <= 1 else area for area in image.areas]


def _scale_resized(usable: Sequence[Usable], problems: list[Problem], where: str) -> list[Usable]:
    """Scale boxes to the files where these were resized; the other images whose stated size differs."""
    differing = [one for one in usable if one[0].stated_size not in (None, one[1])]
    turned = [one for one in differing if one[0].stated_size == one[1][::-1] or not _is_positive(one[0].stated_size)]
    resized = [one for one in differing if not one[0].relative and one not in turned]
    boxes, sizes = _table(resized)
    counts = [sum(all(map(math.isfinite, box)) for box in image.boxes) for image, _ in resized]
    if not len(boxes):
        return differing
    pairs = [[min(side, MAX_STATED) for side in _stated(image)] for image, _ in resized]
    stated = np.repeat(np.array(pairs, dtype=np.float64)[:, ::-1], counts, axis=0)  # width, height
    factors = stated / sizes
    outside, beyond = is_outside(boxes, sizes), is_outside(boxes, stated)
    is_shrunk = outside.any() and beyond.sum() <= MAX_STATED_OUTSIDE * outside.sum()
    has_others = any(image.stated_size == size for image, size in usable)
    is_grown = (
        not (has_others or beyond.any())
        and len(boxes) >= MIN_BOXES_OF_GROWN
        and bool((factors <= GROWN).all())
        and bool(((boxes[:, 2:] / stated).max(0) >= REACH).all())
    )
    if not is_shrunk and not is_grown:
        return differing
    low, high = float(factors.min()), float(factors.max())
    times = f"{low:.3g}" if high - low <= 0.02 * high else f"{low:.3g} to {high:.3g}"
    record = (
        f"stated sizes of {len(resized)} of {pluralize(len(usable), 'image')} are {times} times the files', and "
        f"{len(boxes) - beyond.sum()} of {pluralize(len(boxes), 'box', 'boxes')} fit them, "
        f"{len(boxes) - outside.sum()} the files"
    )
    problems.append(Problem(where, record, RESIZED, "scaled"))
    for image, (height, width) in resized:
        stated_height, stated_width = _stated(image)
        _scale(image, width / stated_width, height / stated_height)
    return [one for one in differing if not any(one is other for other in resized)]


def _is_positive(size: tuple[int, int] | None) -> bool:
    return size is not None and min(size) > 0


def _stated(image: ImageRecord) -> tuple[int, int]:
    assert image.stated_size is not None, "only images with a stated size are compared"
    return image.stated_size


def _scale(image: ImageRecord, x: float, y: float) -> None:
    image.boxes = [(x1 * x, y1 * y, x2 * x, y2 * y) for x1, y1, x2, y2 in image.boxes]
    image.areas = [area * x * y for area in image.areas]
    image.stated = [
        None if one is None else (one[0] * x, one[1] * y, one[2] * x, one[3] * y, one[4] * x * y)
        for one in image.stated
    ]


def _report_layout(usable: Sequence[Usable], problems: list[Problem], where: str, layout: Layout) -> None:
    """Report boxes that seem to be something else than the format has, or to be those of larger images."""
    boxes, sizes = _table(usable, has_relative=True)
    found = box_layouts.find_other_layout(boxes, sizes, layout)
    if found is None:
        in_pixels = [one for one in usable if not one[0].relative]
        boxes, sizes = _table(in_pixels)
        counts = [sum(all(map(math.isfinite, box)) for box in image.boxes) for image, _ in in_pixels]
        found = box_layouts.find_resized(boxes, sizes, np.repeat(np.arange(len(counts)), counts))
    if found is not None:
        problems.append(Problem(where, found.record, found.reason, "kept"))


def _turn(usable: Sequence[Usable], orientations: Sequence[int], problems: list[Problem], where: str) -> None:
    """Turn boxes that were drawn on stored pixels; report images that are rotated where no stated size settles it."""
    pairs = [(image, value) for (image, _), value in zip(usable, orientations, strict=True) if value > 1]
    for image, orientation in pairs:
        if image.on_stored_pixels and image.relative:
            image.boxes = [turn_fractions(box, orientation) for box in image.boxes]
    unclear = [
        image
        for image, orientation in pairs
        if not image.on_stored_pixels and (image.stated_size is None or orientation < 5)
    ]
    if unclear:
        reason = TURNED_YOLO if all(image.relative for image in unclear) else TURNED
        record = f"{len(unclear)} of {pluralize(len(usable), 'image')}, e.g. {unclear[0].path.name}"
        problems.append(Problem(where, record, reason, "kept"))


def turn_fractions(box: Sequence[float], orientation: int) -> tuple[float, float, float, float]:
    """A box in fractions of the stored pixels as fractions of the upright image, by EXIF orientation 1..8."""
    x1, y1, x2, y2 = box
    if orientation >= 5:  # the first row of the stored pixels becomes a column
        x1, y1, x2, y2 = y1, x1, y2, x2
    if orientation in (2, 3, 6, 7):
        x1, x2 = 1 - x2, 1 - x1
    if orientation in (3, 4, 7, 8):
        y1, y2 = 1 - y2, 1 - y1
    return x1, y1, x2, y2


def _count_ignored(usable: Sequence[Usable], problems: list[Problem], where: str, flag: str) -> None:
    """Report datasets most of whose objects are ignored; a region that is ignored for each class counts once."""
    ignored = {
        (number, *box)
        for number, (image, _) in enumerate(usable)
        for box, crowd in zip(image.boxes, image.crowd, strict=True)
        if crowd
    }
    trained = sum(not crowd for image, _ in usable for crowd in image.crowd)
    if len(ignored) >= max(trained, 1 if not trained else MIN_IGNORED):
        record = (
            f"{len(ignored)} of {pluralize(len(ignored) + trained, 'object')} are marked as {flag} and not trained"
        )
        problems.append(Problem(where, record, MOSTLY_IGNORED, "kept"))
