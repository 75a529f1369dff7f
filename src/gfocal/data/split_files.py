"""Splits into the files of a dataset: as its format has them, else into gfocal.json. Images are never moved.

VOC gets lists in ImageSets/Main, YOLO lists that its data.yaml names, a COCO file one file for each split beside it.
Where the format knows no lists, or the splits that it wrote do not read back as planned, gfocal.json assigns the
images (``gfocal.data.assigned``), and the files of the dataset stay as they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gfocal.atomic import atomic_write
from gfocal.data.assigned import (
    TRAIN,
    dataset_root,
    image_name,
    list_usual_splits,
    read_moves,
    sidecar_key,
)
from gfocal.data.dataset import FileData
from gfocal.data.discovery import detect_format, list_own_splits, list_splits, read_data, read_own
from gfocal.data.paths import split_name
from gfocal.data.readers.fields import read_id
from gfocal.data.readers.voc_files import find_layout
from gfocal.data.readers.yolo import find_yaml
from gfocal.data.sidecar import ABOUT, SIDECAR, read_sidecar
from gfocal.data.views import concatenate
from gfocal.errors import DataError
from gfocal.text import pluralize

LIST_FOLDER = Path("ImageSets", "Main")
Contents = dict[Path, str]  # file -> its new content


@dataclass(frozen=True)
class Division:
    """A dataset, its images that are divided, and the new split of each."""

    path: Path
    data: FileData
    sources: tuple[str, ...]  # of each image: the split that it has now in the dataset's files; "" without splits
    splits: tuple[str, ...] = ()

    def images(self, split: str) -> list[Path]:
        """The paths of the images of a new split."""
        paths = (self.data.table.path(i) for i, own in enumerate(self.splits) if own == split)
        return [path for path in paths if path is not None]


def read_undivided(path: Path, wanted: Sequence[str], replace_existing: bool) -> tuple[FileData, tuple[str, ...]]:
    """The images to divide into train and the splits ``wanted``, and the own split of each in the dataset's files.

    Those are the training images, or all where there are no splits; with ``replace_existing`` those of the wanted
    splits too.

    Raises:
        DataError: the dataset has one of the splits and may not replace it, or has splits and none is train.
    """
    moves, own = read_moves(path), list_own_splits(path)
    usual = list_usual_splits(own)
    existing = list_splits(path)
    taken = [name for name in wanted if name in existing]
    if taken and not replace_existing:
        numbers = ", ".join(f"{name} of {pluralize(len(read_data(path, name)), 'image')}" for name in taken)
        raise DataError(
            f"{path}: has the split {numbers} already; nothing is changed. --replace divides the images of "
            f"{', '.join([TRAIN, *taken])} again"
        )
    if usual and TRAIN not in existing:
        raise DataError(f"{path}: has the splits {', '.join(usual)} and none named {TRAIN}, which could be divided")
    if not usual and not moves:
        data = read_data(path, own[0] if own else None)
        return data, ("",) * len(data)
    pooled = [name for name in (TRAIN, *taken) if name in existing]
    parts = [read_data(path, name) for name in pooled]
    data = parts[0] if len(parts) == 1 else concatenate(parts, where=str(path))
    found: dict[Path | None, str] = {}
    for name in usual:
        if name in pooled:
            split = read_own(path, name)
            found |= {split.table.path(i): name for i in range(len(split))}
    return data, tuple(found.get(data.table.path(i), "") for i in range(len(data)))


def write_splits(division: Division, settings: Mapping[str, Any]) -> list[Path]:
    """Write the splits of a dataset, read them back, and return the files that were written.

    ``settings`` are noted in gfocal.json beside moved images. All files are as before where an error is raised.
    """
    path = division.path
    kind = detect_format(path)
    describe = {"voc": describe_voc, "yolo": describe_yolo, "coco": describe_coco}.get(kind)
    moved = describe_sidecar(division, settings)
    # What gfocal convert left in gfocal.json is by split: it is found as long as the files have their splits.
    contents = {} if describe is None or read_sidecar(dataset_root(path)).splits else describe(division)
    if contents:
        home = path
        if kind == "coco" and path.is_file():  # the same path has the splits too, and its folder has them
            home = path.parent.parent if path.parent.name == "annotations" else path.parent
            contents |= moved
        elif read_moves(path):
            contents |= describe_sidecar(division, {}, is_moved=False)
        if _write_all(contents, lambda: _reads_back(home, division) and _reads_back(path, division)):
            return list(contents)
    if not _write_all(moved, lambda: _reads_back(path, division)):
        raise DataError(f"{path}: the splits were written and do not read back as planned; nothing is changed")
    return list(moved)


def describe_voc(division: Division) -> Contents:
    """Lists of names in ImageSets/Main; empty where the layout has none, or a list is not to be lost."""
    layout = find_layout(division.path) if division.path.is_dir() else None
    if layout is None or not layout.is_deep:
        return {}
    folder = division.path / LIST_FOLDER
    result: Contents = {}
    if (old := folder / f"{TRAIN}.txt").is_file():
        kept = folder / "trainval.txt"  # as the challenge names what train and val are made of
        if kept.is_file() and kept.read_bytes() != old.read_bytes() and "val" not in division.sources:
            return {}
        result |= {} if kept.is_file() else {kept: old.read_text(encoding="utf-8-sig")}
    for split in dict.fromkeys(division.splits):
        names = sorted(layout.key(path) for path in division.images(split))
        result[folder / f"{split}.txt"] = "".join(f"{name}\n" for name in names)
    return result


def describe_yolo(division: Division) -> Contents:
    """Lists of images beside data.yaml, and data.yaml with their names; entries that they replace become comments."""
    path = division.path
    yaml_file = path if path.is_file() else find_yaml(path)
    folder = dataset_root(path)
    text = "" if yaml_file is None else yaml_file.read_text(encoding="utf-8-sig")
    root = folder
    if match := re.search(r"^path:[ \t]*['\"]?([^'\"#\n]+)", text, re.MULTILINE):
        given = folder / match.group(1).strip()
        root = given if given.is_dir() else folder
    result: Contents = {}
    lines = [] if yaml_file is not None else [f"names: {json.dumps(list(division.data.names), ensure_ascii=False)}"]
    if yaml_file is not None:
        lines = comment_out(text.splitlines(), set(division.splits))
    for split in dict.fromkeys(division.splits):
        names = sorted(image_name(image, root) for image in division.images(split))
        if any(name.startswith("../") for name in names):
            return {}
        listed = root / f"{split}.txt"
        listed = root / f"split_{split}.txt" if listed.exists() else listed  # a list that is not to be lost
        result[listed] = "".join(f"./{name}\n" for name in names)
        lines.append(f"{split}: {listed.name}")
    return result | {yaml_file or folder / "data.yaml": "\n".join(lines) + "\n"}


def comment_out(lines: Sequence[str], splits: set[str]) -> list[str]:
    """The lines of a yaml with the entries of some splits as comments, with all lines that belong to them."""
    result, inside = [], False
    for line in lines:
        if match := re.match(r"['\"]?([A-Za-z]+)['\"]?\s*:", line):
            inside = split_name(match.group(1)) in splits
        elif not re.match(r"\s|-|\]", line):
            inside = False
        result.append(f"# {line}" if inside and line.strip() else line)
    return result


def describe_coco(division: Division) -> Contents:
    """A file for each split beside the only one; empty where there are several, or its ids are text.

    Images that gfocal cannot use stay in the training file.
    """
    path = division.path
    files = [path] if path.is_file() else _coco_file(path)
    if len(files) != 1 or any(division.sources):
        return {}
    content = json.loads(files[0].read_text(encoding="utf-8-sig"))
    entries = {id(entry): read_id(entry.get("id")) for entry in content["images"] if isinstance(entry, dict)}
    splits = dict(zip(division.data.table.image_ids.tolist(), division.splits, strict=True))
    if len(entries) < len(content["images"]) or not set(splits) <= set(entries.values()):
        return {}
    result: Contents = {}
    for split in dict.fromkeys(division.splits):
        images = [entry for entry in content["images"] if splits.get(entries[id(entry)], TRAIN) == split]
        kept = {entries[id(entry)] for entry in images}
        known = set(entries.values())
        boxes = [
            one
            for one in content["annotations"]
            if _image_of(one) in kept or (split == TRAIN and _image_of(one) not in known)
        ]
        target = files[0].with_name(f"{files[0].stem}_{split}.json")
        if target.exists():
            return {}
        result[target] = json.dumps(content | {"images": images, "annotations": boxes})
    return result


def _image_of(annotation: Any) -> Any:
    return read_id(annotation.get("image_id")) if isinstance(annotation, dict) else None


def _coco_file(folder: Path) -> list[Path]:
    """The json file of a folder with a single one."""
    own = list_own_splits(folder)
    places = (folder / "annotations", folder)
    found = [place / f"{name}.json" for name in own for place in places if (place / f"{name}.json").is_file()]
    return found if len(own) == 1 else []


def describe_sidecar(division: Division, settings: Mapping[str, Any], is_moved: bool = True) -> Contents:
    """gfocal.json with the images that change their split, or none of them; the rest of it as it was."""
    root, key = dataset_root(division.path), sidecar_key(division.path)
    file = root / SIDECAR
    content: dict[str, Any] = {"about": ABOUT}
    content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else content
    names = {image_name(path, root) for split in dict.fromkeys(division.splits) for path in division.images(split)}
    before = content.get("moved", {})
    moved: dict[str, dict[str, list[str]]] = {}
    for source, targets in before.get(key, {}).items():  # a split that is not divided keeps its images
        kept = {to: [name for name in own if name not in names] for to, own in targets.items()}
        moved |= {source: {to: own for to, own in kept.items() if own}}
    for index, (source, split) in enumerate(zip(division.sources, division.splits, strict=True)):
        image = division.data.table.path(index)
        if is_moved and image is not None and split != (source or TRAIN):
            moved.setdefault(source, {}).setdefault(split, []).append(image_name(image, root))
    moved = {source: targets for source, targets in moved.items() if targets}
    everything = {k: v for k, v in before.items() if k != key} | ({key: moved} if moved else {})
    content |= {"moved": everything, "split": dict(settings)}
    return {file: json.dumps(content, indent=1, ensure_ascii=False) + "\n"}


def _write_all(contents: Contents, is_right: Callable[[], bool]) -> bool:
    """Write some files; put all back as they were where an error is raised, or ``is_right`` says no."""
    before = {file: file.read_bytes() if file.is_file() else None for file in contents}
    done = False
    try:
        for file, text in contents.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(file) as temporary:
                temporary.write_text(text, encoding="utf-8")
        done = is_right()
    except DataError:
        done = False
    finally:
        for file, old in before.items() if not done else ():
            if old is None:
                file.unlink(missing_ok=True)
            else:
                with atomic_write(file) as temporary:
                    temporary.write_bytes(old)
    return done


def _reads_back(path: Path, division: Division) -> bool:
    """Whether the splits of a dataset have the images that were planned, with all classes and boxes."""
    for split in dict.fromkeys(division.splits):
        data = read_data(path, split)
        found = {os.path.abspath(p) for i in range(len(data)) if (p := data.table.path(i)) is not None}
        same = found == {os.path.abspath(image) for image in division.images(split)}
        planned = division.data.select([i for i, own in enumerate(division.splits) if own == split])
        if not same or data.names != planned.names or len(data.table.boxes) != len(planned.table.boxes):
            return False
    return True
