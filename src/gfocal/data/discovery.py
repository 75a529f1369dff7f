"""One way in for annotated images of any format: the format is found from the path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gfocal.data.dataset import FileData
from gfocal.data.paths import in_split_order, pick_split, split_folders, split_in, split_name
from gfocal.data.readers.coco import read_coco
from gfocal.data.readers.csv import csv_splits, is_csv, read_csv
from gfocal.data.readers.voc import is_voc, read_voc, voc_splits
from gfocal.data.readers.yolo import find_yaml, read_yolo, yolo_splits
from gfocal.data.views import joined
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
    """Read annotated images: a COCO json, a YOLO yaml, a CSV table, or the folder of a set in one of these or VOC.

    ``split`` is train, val (also valid, validation), test, or another name from ``splits``. Without it a
    dataset of one split is read, and VOC as a whole; where there are several, DataError lists them.
    ``names`` are the classes to expect, in the order of the labels wanted, such as those of a trained model; the data
    may lack some. Several paths, of any formats, become one dataset (``gfocal.data.views``): of each its split, or
    the whole where it has no splits.

    Problems of single records are in ``problems`` of the result. Raises DataError when no format fits (it
    tells what was looked for), the split does not exist, no image is usable, or a class is not among
    ``names``.
    """
    if not isinstance(path, str | Path):
        return joined([read_data(one, split if splits(one) else None) for one in path], names)
    path = Path(path)
    kind = data_format(path)
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
    own = split_in(path.stem)
    if split is not None and own is not None and split_name(split) not in (None, own):
        raise DataError(f"{path}: this file is of split {own!r}, not {split!r}; give its folder to choose")
    return read_coco(path, names=names, siblings=_siblings(path))


def splits(path: str | Path) -> list[str]:
    """Names of the splits at a path: train, val, test first, then others.

    Empty for data without splits, such as one json file or a folder of xml files. Raises DataError when no
    format fits.
    """
    path = Path(path)
    kind = data_format(path)
    if kind == "voc":
        return voc_splits(path)
    if kind == "yolo":
        return yolo_splits(path)
    if kind == "csv":
        return csv_splits(path)
    return list(_coco_files(path)) if path.is_dir() else []


def data_format(path: str | Path) -> Format:
    """Which of the formats lies at a path. Raises DataError when none does."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        kinds: dict[str, Format] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo", ".csv": "csv", ".tsv": "csv"}
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
        raise DataError(f"{path}: give a COCO .json, a YOLO .yaml, a .csv, or the folder of the dataset")
    if _coco_files(path):
        return "coco"
    if is_voc(path):
        return "voc"
    if is_csv(path) and not _has_labels(path):  # images/<split> alone is where its images lie
        return "csv"
    if yolo_splits(path):
        return "yolo"
    if is_csv(path):
        return "csv"
    content = sorted(f.name + "/" * f.is_dir() for f in path.iterdir())
    shown = ", ".join(content[:12]) + (f", ... ({len(content)} entries)" if len(content) > 12 else "")
    raise DataError(_LOOKED_FOR.format(path=path, content=shown or "nothing"))


def _has_labels(folder: Path) -> bool:
    """Whether a folder holds a yaml or folders of labels, as YOLO's do."""
    homes = (folder, *split_folders(folder).values())
    return find_yaml(folder) is not None or any((home / "labels").is_dir() for home in homes)


def _coco_files(folder: Path) -> dict[str, Path]:
    """Split -> json file; a file without a split in its name goes by its stem."""
    home = folder / "annotations"
    found = _instances(home) if home.is_dir() else {}
    if not found:
        for name, sub in split_folders(folder).items():
            files = _instances(sub)
            if len(files) == 1:
                found[name] = next(iter(files.values()))
    found = found or _instances(folder)
    return {name: found[name] for name in in_split_order(found)}


def _siblings(file: Path) -> list[Path]:
    """The json files of the other splits, where a file or its folder is named for one."""
    home = file.absolute().parent
    folder = home if split_in(file.stem) else home.parent if split_name(home.name) else None
    found = [] if folder is None else list(_coco_files(folder).values())
    return [other for other in found if other != file.absolute()] if file.absolute() in found else []


def _instances(folder: Path) -> dict[str, Path]:
    files = sorted(f for f in folder.glob("*.json") if f.is_file() and not f.name.startswith("."))
    files = [f for f in files if f.name.startswith("instances_")] or [f for f in files if _looks_like_coco(f)]
    found: dict[str, Path] = {}
    for file in reversed(files):
        own = split_in(file.stem)
        found[own if own is not None and own not in found else file.stem] = file
    return found


def _looks_like_coco(file: Path) -> bool:
    """By its first kilobytes: other json files (LabelMe, configuration, captions) lie about as well."""
    if re.match("captions_|panoptic_|person_keypoints_|stuff_|image_info_|gfocal.json$", file.name):
        return False
    with file.open("rb") as stream:
        head = stream.read(65536)
    return any(f'"{key}"'.encode() in head for key in ("images", "annotations", "categories"))
