"""Which xml files a Pascal VOC dataset has, of which split each is, and where its images are."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gfocal.data.dataset import Problem
from gfocal.data.paths import (
    SUFFIXES,
    find_split_folders,
    list_images,
    no_splits,
    pick_split,
    sort_splits,
    split_name,
)
from gfocal.data.readers.xml_files import root_tag
from gfocal.data.validation import REPEATED_IMAGE
from gfocal.errors import DataError

LISTED_WITHOUT_XML = "listed image without an xml file, beside a labelmap.txt: an image without objects"
NO_XML_OF_NAME = "no xml file of this name"
_ANNOTATIONS = ("Annotations", "annotations", "labels", "xml", "xmls")
_IMAGES = ("JPEGImages", "images", "Images", "data", "imgs")
_ENDINGS = re.compile("|".join(map(re.escape, (*SUFFIXES, ".xml"))) + "$", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A folder of xml files and that of their images, with the same subfolders."""

    xml: Path
    images: Path
    is_deep: bool  # with subfolders

    def files(self) -> list[Path]:
        """The xml files, sorted."""
        return xml_in(self.xml, self.is_deep)

    def key(self, file: Path) -> str:
        """The path of a file below its folder, without suffix: that of its image below the folder of images."""
        home = self.xml if self.xml in file.parents else self.images
        return file.relative_to(home).with_suffix("").as_posix()

    def images_by_key(self) -> dict[str, list[Path]]:
        """The image files by their paths without suffix."""
        found: dict[str, list[Path]] = {}
        for path in list_images(self.images, deep=self.is_deep):
            found.setdefault(path.relative_to(self.images).with_suffix("").as_posix(), []).append(path)
        return found


@dataclass
class VocFiles:
    """The files of a dataset, or of one of its splits."""

    everything: list[Path]  # the xml files of all splits, for their classes
    chosen: dict[Layout, list[Path]]  # those of the split
    backgrounds: list[Path] = field(default_factory=list)  # listed images without xml that have no objects


def find_layout(folder: Path) -> Layout | None:
    """Where the xml files and images of a folder are, without its subfolders for splits."""
    for name in _ANNOTATIONS:
        home = folder / name
        if home.is_dir() and _has_voc_xml(_some_xml(home)):
            images = next((folder / other for other in _IMAGES if (folder / other).is_dir()), home)
            return Layout(home, images, is_deep=True)
    if _has_voc_xml(xml_in(folder)):
        return Layout(folder, folder, is_deep=False)
    return None


def find_split_layouts(folder: Path) -> dict[str, Layout]:
    """The layouts of subfolders that are named after splits."""
    found = {name: find_layout(sub) for name, sub in find_split_folders(folder).items()}
    return {name: layout for name, layout in found.items() if layout is not None}


def find_nested_layout(folder: Path) -> Layout | None:
    """A folder whose subfolders have images with xml files beside them."""
    for sub in sorted(folder.iterdir()):
        if sub.is_dir() and not sub.name.startswith(".") and _has_voc_xml(xml_in(sub)):
            return Layout(folder, folder, is_deep=True)
    return None


def find_lists(folder: Path) -> dict[str, Path]:
    """Split -> its list, without the VOC challenge's lists per class (dog_train.txt)."""
    files = sorted((f for f in (folder / "ImageSets" / "Main").glob("*.txt") if f.is_file()), reverse=True)
    complete = [f for f in files if "_" not in f.stem or split_name(f.stem.rsplit("_", 1)[1]) is None]
    return {split_name(f.stem) or f.stem: f for f in complete if not f.stem.endswith("_trainval")}


def collect(folder: Path, split: str | None, problems: list[Problem]) -> VocFiles:
    """All xml files of the dataset, and those of the split. Raises DataError if there are none."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    layout = find_layout(folder)
    if layout is not None and layout.is_deep:
        files = layout.files()
        if split is None:
            return VocFiles(files, {layout: files})
        return _read_list(files, layout, pick_split(find_lists(folder), split, folder), folder, problems)
    if layout is not None:
        if split is not None and split_name(split) != split_name(folder.absolute().name):
            raise no_splits(folder, split, "the xml files are beside the images, without splits")
        files = layout.files()
        here = folder.absolute()
        siblings = find_split_layouts(here.parent) if split_name(here.name) else {}
        others = [one for one in siblings.values() if one.xml != here]
        return VocFiles(files + [f for one in others for f in one.files()], {layout: files})
    layouts = find_split_layouts(folder)
    if not layouts:
        nested = find_nested_layout(folder)
        if nested is None:
            raise DataError(f"{folder}: no xml files here, in Annotations/, nor in subfolders train/, val/, test/")
        if split is not None:
            raise no_splits(folder, split, "the xml files are beside the images, without splits")
        files = nested.files()
        return VocFiles(files, {nested: files})
    chosen = list(layouts.values()) if split is None else [pick_split(layouts, split, folder)]
    everything = {one: one.files() for one in layouts.values()}
    return VocFiles([f for files in everything.values() for f in files], {one: everything[one] for one in chosen})


def list_voc_splits(folder: Path) -> list[str]:
    """Names of the splits of a dataset, of any layout; empty if it has none or is not VOC."""
    layout = find_layout(folder)
    if layout is not None and layout.is_deep:
        return sort_splits(find_lists(folder))
    return sort_splits(find_split_layouts(folder))


def has_voc_files(folder: Path) -> bool:
    """Whether a folder contains VOC xml, in any layout."""
    return bool(find_layout(folder) or find_split_layouts(folder) or find_nested_layout(folder))


def xml_in(folder: Path, deep: bool = False) -> list[Path]:
    """The xml files of a folder, sorted, without hidden ones."""
    entries: Iterable[Path] = folder.rglob("*") if deep else folder.iterdir()
    files = (f for f in entries if f.suffix.lower() == ".xml" and not f.name.startswith("."))
    return sorted(f for f in files if f.is_file())  # no pipes


def _some_xml(home: Path) -> list[Path]:
    """The xml files of a folder, else those of its first subfolder that has some."""
    if files := xml_in(home):
        return files
    for folder, folders, names in os.walk(home):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        if any(name.lower().endswith(".xml") for name in names):
            return xml_in(Path(folder))
    return []


def _has_voc_xml(files: Sequence[Path]) -> bool:
    """Whether one of some xml files is an annotation: other tools leave xml of their own beside images."""
    return any(root_tag(file) in ("annotation", None) for file in files)


def _read_list(
    files: list[Path], layout: Layout, names_file: Path, folder: Path, problems: list[Problem]
) -> VocFiles:
    """The xml files in a split's list: by path below the folder, else by file name, with or without suffix.

    An image that is listed and has no xml file has no objects if datumaro or CVAT wrote the dataset, which is known
    by their labelmap.txt; else it is not used.
    """
    known: dict[str, list[Path]] = {}
    for one in files:
        for name in dict.fromkeys((layout.key(one), one.stem)):
            known.setdefault(name, []).append(one)
    known |= {layout.key(file): [file] for file in files}
    images = layout.images_by_key() if (folder / "labelmap.txt").is_file() else {}
    found = VocFiles(files, {layout: []})
    chosen: set[Path] = set()
    text = names_file.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        words = [line, *line.split()[:1]]  # "a", "a 1" of the lists per class, "a.jpg"
        words += [_ENDINGS.sub("", word) for word in words]
        fits = [known[word][0] for word in words if len(known.get(word, ())) == 1]
        file = fits[0] if fits else None
        record = f"line {number}: {line}"
        if file is None and line.startswith("#"):
            continue  # a comment
        if file is None and line and (own := next((images[word] for word in words if word in images), [])):
            found.backgrounds += own[:1]
            problems.append(Problem(str(names_file), record, LISTED_WITHOUT_XML, "kept"))
        elif file is None and line:
            problems.append(Problem(str(names_file), record, NO_XML_OF_NAME, "dropped"))
        elif file in chosen:
            problems.append(Problem(str(names_file), record, REPEATED_IMAGE, "dropped"))
        elif file is not None:
            chosen.add(file)
    found.chosen[layout] = sorted(chosen)
    return found
