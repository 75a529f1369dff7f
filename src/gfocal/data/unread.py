"""What a path holds that is not read: files of other tools, and tables and texts that miss something.

For the message where no format matches. Files are recognized by their beginning, each kind is named once.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from gfocal.data.paths import SUFFIXES
from gfocal.data.readers.csv_columns import read_table
from gfocal.data.readers.json_files import read_ends
from gfocal.data.readers.label_files import first_lines
from gfocal.errors import DataError
from gfocal.text import one_line

MAX_FILES, MAX_FOLDERS = 500, 12  # of a folder that are looked at, and subfolders
MAX_TABLE = 100_000_000  # bytes of a table that is read to say what it misses
MAX_LINES = 12
LABELS = "labels"  # YOLO's folder

_JSON: tuple[tuple[str, tuple[bytes, ...], str], ...] = (
    ("VIA 3 project", (b'"vid_list"', b'"metadata"'), "export it from VIA 3 as COCO, or label in VIA 2"),
    ("VoTT project", (b'"assets"', b'"visitedAssetIds"'), "export it from VoTT as Pascal VOC or CSV"),
    ("VoTT export", (b'"assets"', b'"boundingBox"'), "export it from VoTT as Pascal VOC or CSV"),
    ("FiftyOne dataset", (b'"samples"', b'"_cls"'), "export it from FiftyOne as fiftyone.types.COCODetectionDataset"),
    ("Datumaro dataset", (b'"items"', b'"categories"', b'"attr"'), "export it from Datumaro as COCO or YOLO"),
    ("Segment Anything masks", (b'"image"', b'"predicted_iou"'), "write its boxes as COCO"),
    ("Label Studio tasks without annotations", (b'"data"', b'"predictions"'), "label them, and export again"),
)
_PIXELS = re.compile(r"\S+(\s+-?\d+(\.\d+)?){4,5}\s*", re.ASCII)
_ROW = re.compile(r"\S+\.\w{3,4}(\s+-?[\d.]+(,-?[\d.]+){3,4})+\s*")  # of keras-yolo3's lists
_DOTA = re.compile(r"(-?[\d.]+\s+){8}\S+(\s+\d+)?\s*")
_GRAMS = "imagesource:", "gsd:"  # how DOTA's files begin


def explain_unread(path: Path) -> list[str]:
    """One line for each kind of file that is no dataset as it is: what it seems to be, and what to do."""
    found: dict[str, str] = {}
    for file in _files(path):
        if (what := _explain(file)) is not None:
            name = file.relative_to(path).as_posix() if file != path else file.name
            found.setdefault(what, one_line(name, max_length=100))
    return [f"{name}: {what}" for what, name in found.items()][:MAX_LINES]


def explain_labels_alone(path: Path) -> str:
    """What to do with YOLO's labels whose images are elsewhere, as of ``gfocal detect``; empty for anything else."""
    home = path.parent if path.name == LABELS and not (path / LABELS).is_dir() else path
    labels, images = home / LABELS, home / "images"
    has_classes = any((folder / "classes.txt").is_file() for folder in (home, labels))
    if images.exists() or not has_classes or not labels.is_dir():
        return ""
    lines = [line.split() for line in first_lines(labels)]
    fitting = [line for line in lines if len(line) in (5, 6) and all(map(_is_number, line))]
    if len(fitting) < max(1, len(lines) - 1):  # classes.txt may be one of them
        return ""
    return (
        f"{path}: labels of YOLO without their images: link or copy the folder of the images to {images} (ln -s "
        f"$(realpath IMAGES) {shlex.quote(str(images))}), then give {home}; or detect with --format coco, whose json "
        "names the images"
    )


def _files(path: Path) -> Iterator[Path]:
    """A file; or those of a folder and of two levels below it, without images and hidden files."""
    if path.is_file():
        yield path
        return
    folders = [path]
    for _ in range(2):
        folders += [sub for folder in folders[:MAX_FOLDERS] for sub in _subfolders(folder) if sub not in folders]
    for folder in folders[: 1 + MAX_FOLDERS]:
        entries = sorted(os.listdir(folder))
        texts = [name for name in entries if Path(name).suffix.lower() not in SUFFIXES and not name.startswith(".")]
        yield from (folder / name for name in texts[:MAX_FILES] if (folder / name).is_file())


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not sub.name.startswith("."))


def _explain(file: Path) -> str | None:
    suffix = file.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _explain_table(file)
    if suffix not in (".json", ".txt", ".manifest", ".jsonl"):
        return None
    ends = read_ends(file)
    if suffix == ".json":
        known = ((title, way) for title, words, way in _JSON if all(word in ends for word in words))
        title, way = next(known, ("", ""))
        return f"{title}, which is not read: {way}" if title else None
    if b'"source-ref"' in ends[:2000]:
        return "augmented manifest of SageMaker Ground Truth, which is not read: convert it to COCO"
    if suffix == ".jsonl":
        way = "write it as COCO, or as a table filename,class,xmin,ymin,xmax,ymax"
        return f"lines of json, as those of Hugging Face's image folders, which are not read: {way}"
    return _explain_text([line.strip() for line in ends.decode("utf-8", errors="replace").splitlines()[:20]])


def _explain_table(file: Path) -> str | None:
    try:
        if file.stat().st_size <= MAX_TABLE:
            read_table(file, is_whole=False)
    except DataError as error:
        return one_line(str(error).removeprefix(f"{file}: "), max_length=300)
    except OSError:
        return None
    return None


def _explain_text(lines: list[str]) -> str | None:
    """What lines of a text file are: of DOTA, of keras-yolo3."""
    lines = [line for line in lines if line]
    objects = [line for line in lines if not line.startswith(_GRAMS)]
    if objects and all(map(_DOTA.fullmatch, objects)) and not _is_number(objects[0].split()[8]):
        way = "write the corners as YOLO's oriented boxes, of which the upright boxes are read, or as COCO"
        return f"rotated boxes of DOTA, which are not read: {way}"
    if lines and all(map(_PIXELS.fullmatch, lines)):
        return (
            "lines of a class and numbers, which are no format that is read: YOLO's are fractions of the image in "
            "images/ and labels/ or beside the images, with a classes.txt or data.yaml"
        )
    if lines and all(map(_ROW.fullmatch, lines[:5])):
        way = "write a table filename,class,xmin,ymin,xmax,ymax with a row for each box"
        return f"images with their boxes x1,y1,x2,y2,class in one line, as keras-yolo3 has them, not read: {way}"
    return None


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
