"""Reader of VisDrone's detection set: ``annotations/*.txt`` with ``images/``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gfocal.data.annotated import EVERY_CLASS, WHOLE, AnnotatedBox, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.paths import find_split
from gfocal.data.readers.label_files import first_lines, parse_numbers, read_label_folder
from gfocal.errors import DataError

CLASSES = (
    *("pedestrian", "people", "bicycle", "car", "van", "truck"),
    *("tricycle", "awning-tricycle", "bus", "motor"),
)  # categories 1 to 10
_IGNORED_REGION, _OTHERS = 0, 11
_COLUMNS = 8  # left, top, width, height, score, category, truncation, occlusion
_COLUMNS_OF_VIDEO = 10  # frame and target before them


@dataclass(frozen=True)
class _Source:
    labels: Path
    images: Path


def find_visdrone(path: Path) -> Mapping[str, _Source] | None:
    """The splits: folders such as VisDrone2019-DET-train, or the folder itself."""
    if not path.is_dir():
        return None
    if (here := _pair(path)) is not None:
        return {WHOLE: here}
    found: dict[str, _Source] = {}
    for folder in sorted(path.iterdir()):
        pair = _pair(folder) if folder.is_dir() and not folder.name.startswith(".") else None
        if pair is not None:
            split = find_split(folder.name)
            found[split if split and split not in found else folder.name] = pair
    return found or None


def _pair(folder: Path) -> _Source | None:
    labels, images = folder / "annotations", folder / "images"
    if images.is_dir() and any(map(_is_visdrone, first_lines(labels))):
        return _Source(labels, images)
    return None


def _is_visdrone(line: str) -> bool:
    numbers = parse_numbers(_words(line))
    return numbers is not None and len(numbers) in (_COLUMNS, _COLUMNS_OF_VIDEO)


def _words(line: str) -> list[str]:
    return line.rstrip(", ").split(",")  # some lines end with a comma


def parse_visdrone(source: _Source) -> Parsed:
    """The images of a split, with VisDrone's ten classes.

    Ignored regions (category 0) and others (11) are ignored regions of every class, objects of score 0 of their own.
    Truncated and occluded objects are objects.
    """
    parsed = Parsed([], CLASSES, {name: number for number, name in enumerate(CLASSES, 1)})

    def parse_line(image: AnnotatedImage, line: str, where: str) -> bool:
        numbers = parse_numbers(_words(line))
        if numbers is not None and len(numbers) == _COLUMNS_OF_VIDEO:
            raise DataError(
                f"{image.file}, {where}: has 10 columns, as labels of VisDrone's videos; this reader takes those of "
                "single images (VisDrone-DET), of 8"
            )
        if numbers is None or len(numbers) != _COLUMNS:
            return False
        x, y, width, height, score, category = numbers[:6]
        if score not in (0, 1):
            raise DataError(
                f"{image.file}, {where}: score {score:g}: ground truth has 0 or 1; these are results of a detector"
            )
        if category not in range(_OTHERS + 1):
            return False
        is_class = category not in (_IGNORED_REGION, _OTHERS)
        name = CLASSES[int(category) - 1] if is_class else EVERY_CLASS
        box = (x, y, x + width, y + height)
        image.boxes.append(AnnotatedBox(box, name, where, not is_class or score == 0))
        return True

    parsed.images = read_label_folder(source.labels, source.images, parse_line, parsed.problems)
    return parsed


VISDRONE = AnnotationFormat(
    "VisDrone", "annotations/*.txt of 8 numbers with images/, here or in VisDrone2019-DET-<split>/", find_visdrone,
    parse_visdrone,
)  # fmt: skip
