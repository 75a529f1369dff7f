"""One way in for annotated pictures of any format: the format is found from the path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gfocal.data.coco import read_coco
from gfocal.data.layouts import in_split_order, pick_split, split_folders, split_name
from gfocal.data.samples import DataError, FileData
from gfocal.data.voc import is_voc, read_voc, voc_splits
from gfocal.data.yolo import read_yolo, yolo_splits

Format = Literal["coco", "voc", "yolo"]

_LOOKED_FOR = """\
{path}: no annotated pictures found. Looked for
  COCO   a .json file; annotations/instances_<split>*.json; <split>/*.json; a .json in the folder
  VOC    Annotations/*.xml with JPEGImages/ or images/; .xml beside the pictures, here or in <split>/
  YOLO   a .yaml file; data.yaml; images/<split> with labels/<split>; <split>/images with <split>/labels
where <split> is train, val or test (also valid, validation, train2017, ...).
The folder holds: {content}"""


def read_data(path: str | Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read annotated pictures: a COCO json file or folder, a Pascal VOC folder, or a YOLO yaml or folder.

    ``split`` is train, val (also valid, validation), test, or another name from ``splits``. Without it a
    data set of one split is read, and VOC as a whole; where there are several, DataError lists them.
    ``names`` are the classes to expect, in the order of the labels wanted, such as those of a trained model.

    Problems of single records are in ``problems`` of the result. Raises DataError when no format fits (it
    tells what was looked for), the split does not exist, no picture is usable, or the classes differ from
    ``names``.
    """
    path = Path(path)
    kind = data_format(path)
    if kind == "voc":
        return read_voc(path, split, names)
    if kind == "yolo":
        return read_yolo(path, split, names)
    if path.is_dir():
        return read_coco(pick_split(_coco_files(path), split, path), names=names)
    own = next((s for w in re.findall("[A-Za-z]+", path.stem) if (s := split_name(w))), None)
    if split is not None and own is not None and split_name(split) not in (None, own):
        raise DataError(f"{path}: this file is of split {own!r}, not {split!r}; give its folder to choose")
    return read_coco(path, names=names)


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
    return list(_coco_files(path)) if path.is_dir() else []


def data_format(path: str | Path) -> Format:
    """Which of the formats lies at a path. Raises DataError when none does."""
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if path.is_file():
        kinds: dict[str, Format] = {".json": "coco", ".yaml": "yolo", ".yml": "yolo"}
        if path.suffix.lower() in kinds:
            return kinds[path.suffix.lower()]
        raise DataError(f"{path}: give a COCO .json, a YOLO .yaml, or the folder of the data set")
    if _coco_files(path):
        return "coco"
    if is_voc(path):
        return "voc"
    if yolo_splits(path):
        return "yolo"
    content = sorted(f.name + "/" * f.is_dir() for f in path.iterdir())
    shown = ", ".join(content[:12]) + (f", ... ({len(content)} entries)" if len(content) > 12 else "")
    raise DataError(_LOOKED_FOR.format(path=path, content=shown or "nothing"))


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


def _instances(folder: Path) -> dict[str, Path]:
    files = sorted(f for f in folder.glob("*.json") if not f.name.startswith("."))
    files = [f for f in files if f.name.startswith("instances_")] or [f for f in files if _looks_like_coco(f)]
    found: dict[str, Path] = {}
    for file in reversed(files):
        words = re.findall("[A-Za-z]+", file.stem)
        own = next((split for word in words if (split := split_name(word))), None)
        found[own if own is not None and own not in found else file.stem] = file
    return found


def _looks_like_coco(file: Path) -> bool:
    """By its first kilobytes: other json files (LabelMe, configuration, captions) lie about as well."""
    if re.match("captions_|panoptic_|person_keypoints_|stuff_|image_info_", file.name):
        return False
    with file.open("rb") as stream:
        head = stream.read(65536)
    return any(f'"{key}"'.encode() in head for key in ("images", "annotations", "categories"))
