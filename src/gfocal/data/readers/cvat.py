"""Reader of CVAT's xml, "CVAT for images 1.1" and "CVAT for video 1.1", of tasks, jobs and projects.

Corners are edges in pixels; boxes are rotated clockwise about their centers. Subsets of a project are splits. Frames
of a video are named by their number: ``frame_000012``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from gfocal.data.annotated import WHOLE, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.outlines import OUTLINE, ROTATED, Corners, hull, hull_of_ellipse, hull_of_rotated
from gfocal.data.paths import find_split, resolve_inside, sort_splits, split_name
from gfocal.data.readers.fields import read_flag
from gfocal.data.readers.reading import BROKEN_IMAGE, Reading, leave_out, to_numbers
from gfocal.data.readers.unboxed import Unboxed
from gfocal.data.readers.xml_files import parse_xml, root_tag
from gfocal.errors import DataError

DEFAULT = "default"  # CVAT's name of the subset of images that are in none
UNKNOWN_SHAPE = "image has a shape of an unknown kind: neither ground truth nor background"
NO_NAMES = "frames are named by their numbers (frame_000000), as the files of a video have no names"

NO_OUTSIDE = "frame has a shape whose flag outside is neither 0 nor 1: neither ground truth nor background"
KEY_FRAMES = (
    "frame is between two shapes of a track, and the file has none of it: neither ground truth nor background"
)

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_WITHOUT_BOX = ("tag", "points", "polyline", "cuboid", "skeleton")
_SHAPES = ("box", "polygon", "mask", "ellipse", *_WITHOUT_BOX)
_MOST_FRAMES = 5_000_000
_MOST_FILES = 64  # a folder of more xml files is not of tasks
_SUBSET = re.compile(rb'<image\b[^>]*?\bsubset\s*=\s*(?:"([^"]*)"|\'([^\']*)\')')


@dataclass(frozen=True)
class _File:
    """One xml file; parsed once for all its subsets."""

    path: Path
    root: Path  # the folder of the dataset

    @cached_property
    def content(self) -> _Content:
        return _read_file(self)

    @cached_property
    def subsets(self) -> list[str]:
        """Subsets in the order of the file, from a quick scan."""
        found: dict[str, None] = {}
        with self.path.open("rb") as stream:
            tail = b""
            while block := stream.read(1 << 22):
                found |= dict.fromkeys(
                    (one or other).decode("utf-8", errors="replace") for one, other in _SUBSET.findall(tail + block)
                )
                tail = block[-2048:]
        return list(found)


@dataclass
class _Content:
    reading: Reading
    subsets: dict[int, str] = field(default_factory=dict)  # id() of an image -> its subset
    labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Source:
    """The images of one split."""

    file: _File
    subset: str | None  # None: all


def _find(path: Path) -> Mapping[str, _Source] | None:
    if path.is_file():
        return _split(_File(path, path.parent)) if path.suffix.lower() == ".xml" and _is_own(path) else None
    for home in (path, path / "annotations", path / "Annotations"):
        listed = sorted(home.glob("*.xml"))[:_MOST_FILES] if home.is_dir() else []
        files = [_File(file, path) for file in listed if _is_own(file)]
        if len(files) == 1:
            return _split(files[0])
        if files:
            named = {find_split(file.path.stem) or file.path.stem: _Source(file, None) for file in reversed(files)}
            if len(named) < len(files):  # train_1.xml, train_2.xml
                named = {file.path.stem: _Source(file, None) for file in files}
            return {name: named[name] for name in sort_splits(named)}
    return None


def _is_own(file: Path) -> bool:
    return file.is_file() and not file.name.startswith(".") and root_tag(file) == "annotations"


def _split(file: _File) -> dict[str, _Source]:
    if set(file.subsets) <= {DEFAULT}:
        return {WHOLE: _Source(file, None)}
    named = {split_name(subset) or subset: _Source(file, subset) for subset in file.subsets}
    if len(named) < len(file.subsets):  # val and valid
        named = {subset: _Source(file, subset) for subset in file.subsets}
    return {name: named[name] for name in sort_splits(named)}


def _parse(source: _Source) -> Parsed:
    content = source.file.content
    images = [
        image
        for image in content.reading.images
        if source.subset is None or content.subsets.get(id(image), DEFAULT) == source.subset
    ]
    parsed = content.reading.parsed(content.labels or None)
    return Parsed(images, parsed.classes, problems=parsed.problems)


def _read_file(source: _File) -> _Content:
    file = source.path
    try:
        root = parse_xml(file)
    except ValueError as error:
        raise DataError(f"{file}: broken xml: {error}") from error
    if root.tag != "annotations":
        raise DataError(f"{file}: not CVAT's xml: its first tag is not <annotations>")
    content, unboxed = _Content(Reading(str(file))), Unboxed()
    reading = content.reading
    has_folders = (source.root / "images").is_dir()
    for number, entry in enumerate(root.iter("image"), 1):
        image = _image(entry, number, str(file))
        subset = entry.get("subset", DEFAULT)
        own = resolve_inside(source.root / "images", subset) if has_folders and "\0" not in subset else None
        if own is not None and os.path.isdir(own):
            image.folders = (own.relative_to(source.root).as_posix(),)
        content.subsets[id(image)] = subset
        reading.images.append(image)
        for shape in entry:
            _add_shape(image, shape, shape.get("label", ""), reading, unboxed)
        entry.clear()  # the tree and all boxes at once would take twice the memory
    tracks = root.findall("track")
    if tracks or root.findtext("meta/*/mode") == "interpolation":
        _add_frames(root, tracks, str(file), reading, unboxed)
    if not reading.images:
        raise DataError(f"{file}: CVAT's xml without <image> and <track>")
    unboxed.leave_out_images(reading)
    reading.note_empty_images()
    content.labels = _labels(root, reading.images)
    return content


def _image(entry: Any, number: int, file: str) -> AnnotatedImage:
    name = entry.get("name", "")
    size = to_numbers(entry.attrib, ("height", "width"))
    image = AnnotatedImage(name or f"image {number}", file, None if size is None else (int(size[0]), int(size[1])))
    if not name:
        leave_out(image, BROKEN_IMAGE, "no name")
    key = entry.get("id", "")
    image.image_id = int(key) if re.fullmatch("[0-9]{1,18}", key) and entry.get("subset") is None else None
    return image


def _labels(root: Any, images: Iterable[AnnotatedImage]) -> list[str]:
    """The labels of the task or project in their order, without those that are never a box."""
    used = {box.name for image in images for box in image.boxes}
    listed: dict[str, None] = {}
    for label in root.iterfind("meta/*/labels/label"):
        name = (label.findtext("name") or "").strip()
        kind = (label.findtext("type") or "any").strip().lower()
        if name and label.find("parent") is None and (name in used or kind not in _WITHOUT_BOX):
            listed[name] = None
    return list(listed)


def _add_frames(root: Any, tracks: Iterable[Any], file: str, reading: Reading, unboxed: Unboxed) -> None:
    """Add the frames of a video with the boxes of its tracks; those with ``outside`` are not visible."""
    named = {image.image_id: image for image in reading.images}
    size = to_numbers(
        {side: root.findtext(f"meta/*/original_size/{side}") or "" for side in ("height", "width")},
        ("height", "width"),
    )
    stated = None if size is None else (int(size[0]), int(size[1]))
    frames: dict[int | None, AnnotatedImage] = {}

    def frame(number: int) -> AnnotatedImage:
        if number in named:
            return named[number]
        if number not in frames:
            frames[number] = AnnotatedImage(f"frame_{number:06d}", file, stated, image_id=number)
        return frames[number]

    for number in _listed_frames(root):
        frame(number)
    tracked: list[tuple[str, list[tuple[int, bool]]]] = []
    for track in tracks:
        where, seen = f"track {track.get('id')}", []
        for shape in track:
            at = to_numbers(shape.attrib, ("frame",))
            if at is None or not 0 <= at[0] < 1e15:
                raise DataError(f"{file}: track {track.get('id', '')!r:.40}: a shape without a frame number")
            is_outside = read_flag(shape.get("outside"))
            seen.append((int(at[0]), is_outside is not True))
            if is_outside is None:
                leave_out(frame(int(at[0])), NO_OUTSIDE, f"{where}: outside {shape.get('outside')!r:.40}")
            elif not is_outside:
                _add_shape(frame(int(at[0])), shape, track.get("label", ""), reading, unboxed, where)
        tracked.append((where, sorted(seen)))
    for where, seen in tracked:
        _leave_out_gaps(where, seen, named | frames)
    reading.images += [frames[number] for number in sorted(n for n in frames if n is not None)]
    for _ in frames:
        reading.note(NO_NAMES, "frames")


def _leave_out_gaps(track: str, seen: list[tuple[int, bool]], frames: Mapping[int | None, AnnotatedImage]) -> None:
    """Leave out the frames in which a track is visible without a shape: other tools than CVAT write key frames alone.

    ``seen`` are the frames of its shapes, in order, and whether the track is visible in them.
    """
    for (start, is_visible), (end, _) in itertools.pairwise(seen):
        if is_visible and end > start + 1:
            between = (
                range(start + 1, end) if end - start <= len(frames) else sorted(n for n in frames if n is not None)
            )
            for number in between:
                if start < number < end and number in frames:
                    leave_out(frames[number], KEY_FRAMES, f"{track}: frames {start} and {end}")


def _listed_frames(root: Any) -> range:
    """The frames of a task, also those without objects."""
    task = root.find("meta/task") if root.find("meta/task") is not None else root.find("meta/job")
    numbers = to_numbers(
        {key: "" if task is None else task.findtext(key) or "" for key in ("start_frame", "stop_frame")},
        ("start_frame", "stop_frame"),
    )
    if numbers is None or not 0 <= numbers[0] <= numbers[1] < numbers[0] + _MOST_FRAMES:
        return range(0)
    step = re.search(r"step\s*=\s*([1-9][0-9]{0,8})", task.findtext("frame_filter") or "")
    return range(int(numbers[0]), int(numbers[1]) + 1, int(step[1]) if step else 1)


def _add_shape(
    image: AnnotatedImage, shape: Any, label: str, reading: Reading, unboxed: Unboxed, where: str = ""
) -> None:
    kind, label = shape.tag, label.strip()
    record = f"{where or 'shape'} {len(image.boxes) + 1}: {kind} {label!r:.60}"
    if kind not in _SHAPES:
        leave_out(image, UNKNOWN_SHAPE, f"<{kind}>")
    elif kind in _WITHOUT_BOX:
        unboxed.add(image, label, record)
    else:
        attributes = {
            (one.get("name") or "").strip(): (one.text or "").strip() for one in shape if one.tag == "attribute"
        }
        reading.add(
            image, _box(shape, reading), label, record, reading.is_ignored(attributes, f"{image.name}, {record}")
        )


def _box(shape: Any, reading: Reading) -> Corners | None:
    given = {"rotation": "0", **shape.attrib}
    turn = to_numbers(given, ("rotation",))
    if turn is None:
        return None
    degrees = turn[0] % 360
    if shape.tag == "box":
        corners = to_numbers(given, _CORNERS)
        if corners is None:
            return None
        box = (corners[0], corners[1], corners[2], corners[3])
        if not degrees:
            return box
        reading.note(ROTATED, "boxes")
        return hull_of_rotated(box, degrees)
    reading.note(OUTLINE, f"of type {shape.tag}")
    if shape.tag == "ellipse":
        numbers = to_numbers(given, ("cx", "cy", "rx", "ry"))
        return (
            None if numbers is None else hull_of_ellipse((numbers[0], numbers[1]), (numbers[2], numbers[3]), degrees)
        )
    if shape.tag == "polygon":
        pairs = [to_numbers(point.split(","), (0, 1)) for point in given.get("points", "").split(";")]
        return hull((pair[0], pair[1]) if pair else (math.nan, math.nan) for pair in pairs)
    return _mask_box(given)


def _mask_box(given: Mapping[str, str]) -> Corners | None:
    """The box of a mask: run lengths, the first one of background, row by row in a window of the image."""
    window = to_numbers(given, ("left", "top", "width", "height"))
    try:
        runs = [int(run) for run in given.get("rle", "").split(",")]
    except ValueError:
        return None
    if window is None or min(runs) < 0 or sum(runs) > window[2] * window[3] or window[2] < 1:
        return None
    left, top, width, _ = map(int, window)
    boxes, at = [], 0
    for number, run in enumerate(runs):
        if number % 2 and run:
            (y1, x1), (y2, x2) = divmod(at, width), divmod(at + run - 1, width)
            boxes += [(x1, y1), (x2 + 1, y2 + 1)] if y1 == y2 else [(0, y1), (width, y2 + 1)]
        at += run
    box = hull((float(x), float(y)) for x, y in boxes)
    return None if box is None else (left + box[0], top + box[1], left + box[2], top + box[3])


CVAT = AnnotationFormat(
    "CVAT xml",
    "annotations.xml or another .xml with <annotations>, for images or video; images/<name>, images/<subset>/<name>",
    _find,
    _parse,
    ("images", "data"),
)
