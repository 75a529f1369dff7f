"""Reader of KITTI's labels: ``label_2/000001.txt`` beside ``image_2/000001.png``, of KITTI itself and of tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.annotated import EVERY_CLASS, WHOLE, AnnotatedBox, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.dataset import Problem
from gfocal.data.paths import split_name
from gfocal.data.readers.label_files import first_lines, label_files, parse_numbers, read_label_folder, read_lines
from gfocal.errors import DataError

SCORES = "labels have a 16th column, a score: these are detections, read as ground truth"
COLUMNS = "lines have another number of columns than KITTI's 15 (8 without size and pose)"
_DONT_CARE = "dontcare"
_FLAGS = ("true", "false", "none")  # in place of numbers, as FiftyOne writes them
_LEAST_COLUMNS = 8  # class, truncated, occluded, alpha, left, top, right, bottom; size and pose in space follow
_COLUMNS = 15
_KNOWN_COUNTS = (_LEAST_COLUMNS, _COLUMNS, _COLUMNS + 1)
# Folders of labels, and of their images in the order in which they are looked for.
_LABELS = ("label_2", "labels", "label")
_IMAGES = ("image_2", "images", "data", "image")


@dataclass(frozen=True)
class _Source:
    labels: Path
    images: Path
    only: frozenset[str] | None = None  # names without suffix of the images of a split; None: all


def find_kitti(path: Path) -> Mapping[str, _Source] | None:
    """The splits of a dataset: folders training/, val/, ..., or the lists in ImageSets/."""
    if not path.is_dir():
        return None
    if (here := _pair(path)) is not None:
        found = {WHOLE: here}
    else:
        found = {}
        for folder in sorted((f for f in path.iterdir() if f.is_dir() and not f.name.startswith(".")), reverse=True):
            split = split_name(folder.name)
            pair = _pair(folder, _LABELS if split is not None else _LABELS[:1])
            if pair is not None:
                found[split or folder.name] = pair
    if len(found) != 1:
        return found or None
    (only,) = found.values()
    return _split_by_lists(path, only) or found


def _pair(folder: Path, names: tuple[str, ...] = _LABELS) -> _Source | None:
    """The folders of labels and images in a folder, if the labels are KITTI's."""
    for name in names:
        labels = folder / name
        images = next((folder / other for other in _IMAGES if (folder / other).is_dir()), None)
        if images is None or not labels.is_dir():
            continue
        lines = first_lines(labels)
        is_all_empty = name == _LABELS[0] and not lines and any(label_files(labels))
        if is_all_empty or any(map(_is_kitti, lines)):
            return _Source(labels, images)
    return None


def _split_by_lists(path: Path, source: _Source) -> dict[str, _Source]:
    """The splits that ImageSets/train.txt, val.txt and test.txt list, if they list images that have labels."""
    known = {file.stem for file in label_files(source.labels)}
    splits = {}
    for file in label_files(path / "ImageSets"):
        name = split_name(file.stem)
        listed = frozenset(filter(None, read_lines(file))) if name else frozenset()
        if name is not None and listed & known:
            splits[name] = _Source(source.labels, source.images, listed)
    return splits


def _is_kitti(line: str) -> bool:
    words = line.split()
    if not _LEAST_COLUMNS <= len(words) <= _COLUMNS + 1:
        return False
    return parse_numbers(words[:1]) is None and parse_numbers(words[4:]) is not None


def parse_kitti(source: _Source) -> Parsed:
    """The images of a split.

    Boxes are left, top, right, bottom in pixels and stay as they are. DontCare is an ignored region of every class;
    truncated and occluded objects are objects.
    """
    parsed = Parsed([])
    scored: list[str] = []
    unusual: list[str] = []

    def parse_line(image: AnnotatedImage, line: str, where: str) -> bool:
        words = line.split()
        if parse_numbers(words[:1]) is not None:
            raise DataError(
                f"{image.file}, {where}: starts with a number, as KITTI's tracking labels do; give the labels of "
                "the object benchmark, which start with the class"
            )
        box = parse_numbers(words[4:8]) if len(words) >= _LEAST_COLUMNS else None
        more = [word for word in (*words[1:4], *words[8:]) if word.lower() not in _FLAGS]
        if box is None or parse_numbers(more) is None:  # a class of two words would move the columns
            return False
        scored.extend([image.file] if len(words) == _COLUMNS + 1 else [])
        unusual.extend([f"{image.file}: {where}"] if len(words) not in _KNOWN_COUNTS else [])
        x1, y1, x2, y2 = box
        ignored = words[0].lower() == _DONT_CARE
        name = EVERY_CLASS if ignored else words[0]
        image.boxes.append(AnnotatedBox((x1, y1, x2, y2), name, f"{where} ({words[0]})", ignored))
        return True

    parsed.images = read_label_folder(source.labels, source.images, parse_line, parsed.problems, source.only)
    if scored:
        parsed.problems.append(Problem(scored[0], f"{len(scored)} lines", SCORES, "kept"))
    if unusual:
        file, _, where = unusual[0].rpartition(": ")
        parsed.problems.append(Problem(file, f"{len(unusual)} lines, first {where}", COLUMNS, "kept"))
    return parsed


KITTI = AnnotationFormat(
    "KITTI", "[training/]label_2/*.txt with image_2/, or labels/*.txt with images/ or data/", find_kitti, parse_kitti
)
