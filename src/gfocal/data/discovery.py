"""The entry point for annotated images of any format: ``read_data`` detects the format from the path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gfocal.data.dataset import FileData
from gfocal.data.paths import find_split, find_split_folders, pick_split, sort_splits, split_name
from gfocal.data.readers.coco import read_coco
from gfocal.data.readers.csv import csv_splits, is_csv, read_csv
from gfocal.data.readers.voc import is_voc, read_voc, voc_splits
from gfocal.data.readers.yolo import find_yaml, read_yolo, yolo_splits
from gfocal.data.views import concatenate
from gfocal.errors import DataError

Format = Literal["coco", "voc", "yolo", "csv"]

_LOOKED_FOR = """\
{path}: no annotated images found. Looked for
  COCO   a .json file; annotations/instances_<split>*.json; <split>/*.json; a .json in the folder
  VOC    Annotations/*.xml with JPEGImages/ or images/; .xml beside the images, here or in <split>/
  YOLO   a .yaml file; data.yaml; images/<split> with labels/<split>; <split>/images with <split>/labels
  CSV    a .csv file; <split>*.csv or <split>/*.csv with columns such as filename,class,xmin,ymin,xmax,ymax
where <split> is train, val or test (also valid, validation, train2017, ...).
The folder holds: {content}"""


def read_data(
    path: str | Path | Sequence[str | Path], split: str | None = None, names: Sequence[str] | None = None
) -> FileData:
    """Read annotated images: a COCO json, a YOLO yaml, a CSV table, or a folder in one of these formats or VOC.

    ``split`` is train, val (also valid, validation), test, or another name from ``list_splits``. Without it a dataset
    with a single split is read, and VOC as a whole; if there are several splits, DataError lists them. ``names`` are
    the expected classes in the order of the labels, such as those of a trained model; the data may lack some.
    Several paths, of any formats, are concatenated (``gfocal.data.views``): the split of each, or all of it if it has
    no splits.

    Problems of single records are in ``problems`` of the result. Raises DataError if no format matches (with a list
    of what was looked for), the split does not exist, no image is usable, or a class is not among ``names``.
    """
    if not isinstance(path, str | Path):
        return concatenate([read_data(one, split if list_splits(one) else None) for one in path], names)
    path = Path(path)
    kind = detect_format(path)
    if kind == "voc":
        return read_voc(path, split, names)
    if kind == "yolo":
        return read_yolo(path, split, names)
    if kind == "csv":
        return read_csv(path, split, names)
    if path.is_dir():
        files = _coco_files(path)
        file = pick_split(files, split, path)
        return read_coco(file, names=names, siblings=[f for f in files.values() if f != file] or _siblings(file))
    own = find_split(path.stem)
    if split is not None and own is not None and split_name(split) not in (None, own):
        raise DataError(f"{path}: this file is of split {own!r}, not {split!r}; give its folder to choose")
    return read_coco(path, names=names, siblings=_siblings(path))


def list_splits(path: str | Path) -> list[str]:
    """Names of the splits at a path: train, val and test first, then the others.

    Empty for data without splits, such as a single json file or a folder of xml files. Raises DataError if no format
    matches.
    """
    path = Path(path)
    kind = detect_format(path)
    if kind == "voc":
        return voc_splits(path)
    if kind == "yolo":
        return yolo_splits(path)
    if kind == "csv":
        return csv_splits(path)
    return list(_coco_files(path)) if path.is_dir() else []


def detect_format(path: str | Path) -> Format:
    """The format of the data at a path. Raises DataError if none matches."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        kinds: dict[str, Format] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".csv": "csv", ".tsv": "csv"}
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
        raise DataError(f"{path}: not a dataset: give a COCO .json, a YOLO .yaml, a .csv, or a folder")
    if _coco_files(path):
        return "coco"
    if is_voc(path):
        return "voc"
    if is_csv(path) and not _has_labels(path):  # its images may be in images/<split>
        return "csv"
    if yolo_splits(path):
        return "yolo"
    if is_csv(path):
        return "csv"
    content = sorted(f.name + "/" * f.is_dir() for f in path.iterdir())
    shown = ", ".join(content[:12]) + (f", ... ({len(content)} entries)" if len(content) > 12 else "")
    raise DataError(_LOOKED_FOR.format(path=path, content=shown or "nothing"))


def _has_labels(folder: Path) -> bool:
    """Whether a folder has a yaml file or label folders, as in YOLO datasets."""
    homes = (folder, *find_split_folders(folder).values())
    return find_yaml(folder) is not None or any((home / "labels").is_dir() for home in homes)


def _coco_files(folder: Path) -> dict[str, Path]:
    """Split -> json file; a file without a split in its name is a split of its own, named by its stem."""
    home = folder / "annotations"
    found = _instances(home) if home.is_dir() else {}
    if not found:
        for name, sub in find_split_folders(folder).items():
            files = _instances(sub)
            if len(files) == 1:
                found[name] = next(iter(files.values()))
    found = found or _instances(folder)
    return {name: found[name] for name in sort_splits(found)}


def _siblings(file: Path) -> list[Path]:
    """The json files of the other splits, if the file or its folder is named after a split."""
    home = file.absolute().parent
    folder = home if find_split(file.stem) else home.parent if split_name(home.name) else None
    found = [] if folder is None else list(_coco_files(folder).values())
    return [other for other in found if other != file.absolute()] if file.absolute() in found else []


def _instances(folder: Path) -> dict[str, Path]:
    files = sorted(f for f in folder.glob("*.json") if f.is_file() and not f.name.startswith("."))
    files = [f for f in files if f.name.startswith("instances_")] or [f for f in files if _looks_like_coco(f)]
    found: dict[str, Path] = {}
    for file in reversed(files):
        own = find_split(file.stem)
        found[own if own is not None and own not in found else file.stem] = file
    return found


def _looks_like_coco(file: Path) -> bool:
    """By the first kilobytes: there may be other json files (LabelMe, configuration, captions)."""
    if re.match("captions_|panoptic_|person_keypoints_|stuff_|image_info_|gfocal.json$", file.name):
        return False
    with file.open("rb") as stream:
        head = stream.read(65536)
    return any(f'"{key}"'.encode() in head for key in ("images", "annotations", "categories"))
