"""Reader of Label Studio's YOLO export: classes.txt, notes.json, labels/ and, if they were exported too, images/.

Names of label files have the prefix of the upload, which the original images lack. Tasks that were skipped have no
label file, and those without objects an empty one. Rotated boxes are stored unrotated, which the files do not tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gfocal.data.annotated import NOT_ANNOTATED, WHOLE, AnnotatedImage, AnnotationFormat, Parsed
from gfocal.data.locate import ImageLocator
from gfocal.data.paths import list_images
from gfocal.data.readers.fields import read_integer
from gfocal.data.readers.json_files import read_json
from gfocal.data.readers.label_files import label_files
from gfocal.data.readers.label_lines import read_label_lines
from gfocal.data.readers.reading import Reading
from gfocal.errors import DataError

NOTES, CLASSES, LABELS, IMAGES = "notes.json", "classes.txt", "labels", "images"
ORDER_DIFFERS = "classes.txt has another order than the numbers of the classes in notes.json, which are used"


def _find(path: Path) -> Mapping[str, Path] | None:
    is_own = path.is_dir() and (path / NOTES).is_file() and (path / CLASSES).is_file() and label_files(path / LABELS)
    has_yaml = is_own and any(file.suffix.lower() in (".yaml", ".yml") for file in path.iterdir())
    return {WHOLE: path} if is_own and not has_yaml else None


def _parse(root: Path) -> Parsed:
    reading = Reading(str(root / LABELS))
    classes = _classes(root, reading)
    locator = ImageLocator(root, [root / IMAGES])
    used: set[Path] = set()
    for file in label_files(root / LABELS):
        if file.name == CLASSES:
            continue
        image = AnnotatedImage(file.stem, str(file), relative=True)
        reading.images.append(image)
        read_label_lines(file, image, classes, reading, has_outlines=True)
        if (found := locator.locate(file.stem).path) is not None:
            used.add(found)
    for path in list_images(root / IMAGES) if (root / IMAGES).is_dir() else ():
        if path not in used:
            name = path.relative_to(root).as_posix()
            reading.images.append(AnnotatedImage(name, str(path), left_out=NOT_ANNOTATED))
    reading.report_shifted_ids(classes)
    return reading.parsed(list(classes.values()), {name: number for number, name in classes.items()})


def _classes(root: Path, reading: Reading) -> dict[int, str]:
    """Number -> name of each class: notes.json has the numbers, classes.txt only an order."""
    notes = read_json(root / NOTES)
    entries = notes.get("categories") if isinstance(notes, dict) else None
    classes: dict[int, str] = {}
    for entry in entries if isinstance(entries, list) else ():
        key, name = (entry.get("id"), entry.get("name")) if isinstance(entry, dict) else (None, None)
        key = read_integer(key)
        if key is None or not isinstance(name, str) or not name or key in classes:
            raise DataError(f"{root / NOTES}: each category needs an integer 'id' of its own and a 'name'")
        classes[key] = name
    if not classes:
        raise DataError(f"{root / NOTES}: not of Label Studio: it has no 'categories'")
    lines = (root / CLASSES).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    listed = [line.strip() for line in lines if line.strip()]
    classes = dict(sorted(classes.items()))
    if dict(enumerate(listed)) != classes:
        reading.note(ORDER_DIFFERS, f"classes.txt: {', '.join(listed[:5])}")
    return classes


LABEL_STUDIO_YOLO = AnnotationFormat(
    "Label Studio YOLO",
    "notes.json and classes.txt beside labels/ and images/",
    _find,
    _parse,
    layout="cxcywh",
)
