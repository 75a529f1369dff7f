"""The entry point for annotated images of any format: ``read_data`` finds a format that parses at the path.

Formats are tried, not guessed: each says cheaply whether something of it may lie at a path, the candidates are read
in the order of ``FORMATS``, and where one does not parse the next one is tried and a note says so. If none does, one
message lists what each missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gfocal.data.annotated import WHOLE, AnnotationFormat, read_annotated
from gfocal.data.assigned import list_assigned_splits, read_assigned, read_moves
from gfocal.data.dataset import FileData, Problem
from gfocal.data.paths import find_split_folders, no_such_path, sort_splits
from gfocal.data.readers.bdd100k import BDD100K
from gfocal.data.readers.coco import coco_splits, is_coco, read_coco_dataset
from gfocal.data.readers.createml import CREATEML
from gfocal.data.readers.crowdhuman import CROWDHUMAN
from gfocal.data.readers.csv import csv_splits, is_csv, read_csv
from gfocal.data.readers.cvat import CVAT
from gfocal.data.readers.darknet import DARKNET
from gfocal.data.readers.fiftyone import FIFTYONE
from gfocal.data.readers.kitti import KITTI
from gfocal.data.readers.label_studio import LABEL_STUDIO
from gfocal.data.readers.label_studio_yolo import LABEL_STUDIO_YOLO
from gfocal.data.readers.labelme import LABELME
from gfocal.data.readers.megadetector import MEGADETECTOR
from gfocal.data.readers.mot import MOT
from gfocal.data.readers.openimages import OPENIMAGES
from gfocal.data.readers.supervisely import SUPERVISELY
from gfocal.data.readers.via import VIA
from gfocal.data.readers.visdrone import VISDRONE
from gfocal.data.readers.voc import is_voc, read_voc, voc_splits
from gfocal.data.readers.widerface import WIDERFACE
from gfocal.data.readers.yolo import find_yaml, is_yolo, read_yolo, yolo_splits
from gfocal.data.unread import explain_labels_alone, explain_unread
from gfocal.data.views import concatenate
from gfocal.errors import ClassMismatchError, DataError, SplitError
from gfocal.text import one_line

MAX_BELOW = 12  # subfolders that are looked at where a folder is no dataset
READ_AS_ANOTHER = "looked like another format that did not parse"


@dataclass(frozen=True)
class Format:
    """A format of annotations, as ``read_data`` tries it."""

    name: str  # as ``detect_format`` returns it
    title: str
    looked_for: str
    is_candidate: Callable[[Path], bool]  # cheap; may be wrong
    list_splits: Callable[[Path], Sequence[str]]
    read: Callable[[Path, str | None, Sequence[str] | None], FileData]


def _annotated(name: str, kind: AnnotationFormat) -> Format:
    return Format(
        name,
        kind.title,
        kind.looked_for,
        lambda path: bool(kind.find(path)),
        lambda path: [split for split in sort_splits(kind.find(path) or ()) if split != WHOLE],
        lambda path, split, names: read_annotated(path, kind, split, names),
    )


FORMATS: tuple[Format, ...] = (
    _annotated("cvat", CVAT),
    _annotated("darknet", DARKNET),
    _annotated("labelstudio", LABEL_STUDIO),
    _annotated("labelstudio-yolo", LABEL_STUDIO_YOLO),
    _annotated("labelme", LABELME),
    _annotated("kitti", KITTI),
    _annotated("visdrone", VISDRONE),
    _annotated("crowdhuman", CROWDHUMAN),
    _annotated("widerface", WIDERFACE),
    _annotated("mot", MOT),
    _annotated("openimages", OPENIMAGES),
    Format(
        "coco",
        "COCO json",
        "a .json file; annotations/instances_<split>*.json; <split>/*.json; a .json in the folder",
        is_coco,
        coco_splits,
        read_coco_dataset,
    ),
    _annotated("via", VIA),
    _annotated("createml", CREATEML),
    _annotated("fiftyone", FIFTYONE),
    _annotated("supervisely", SUPERVISELY),
    _annotated("bdd100k", BDD100K),
    Format(
        "voc",
        "VOC",
        "Annotations/*.xml with JPEGImages/ or images/; .xml beside the images, here or in <split>/",
        lambda path: path.is_dir() and is_voc(path),
        voc_splits,
        read_voc,
    ),
    Format(
        "csv",
        "CSV",
        "a .csv file; <split>*.csv or <split>/*.csv with columns such as filename,class,xmin,ymin,xmax,ymax",
        lambda path: is_csv(path) and not _has_yolo_labels(path),  # its images may be in images/<split>
        csv_splits,
        read_csv,
    ),
    Format(
        "yolo",
        "YOLO",
        "a .yaml file; data.yaml; images/<split> with labels/<split>; <split>/images with <split>/labels",
        is_yolo,
        yolo_splits,
        read_yolo,
    ),
    _annotated("megadetector", MEGADETECTOR),  # predictions: people's own annotations go before them
)


def read_data(
    path: str | Path | Sequence[str | Path], split: str | None = None, names: Sequence[str] | None = None
) -> FileData:
    """Read annotated images: a file or folder in any of the formats of docs/data.md.

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
    if moves := read_moves(path):
        own = list_own_splits(path)
        return read_assigned(path, split, names, own, moves, lambda source: read_own(path, source, names))
    return read_own(path, split, names)


def read_own(path: Path, split: str | None = None, names: Sequence[str] | None = None) -> FileData:
    """Read a split as the files of a dataset have it, without what gfocal.json assigns. As ``read_data``."""
    failed: list[tuple[Format, DataError]] = []
    for kind in _candidates(path):
        try:
            found = kind.read(path, split, names)
        except (ClassMismatchError, SplitError):
            raise
        except DataError as error:
            failed.append((kind, error))
            continue
        notes = [Problem(str(path), f"{k.title}: {one_line(str(e))}", READ_AS_ANOTHER, "skipped") for k, e in failed]
        return replace(found, problems=[*notes, *found.problems], format=kind.title)
    if len(failed) == 1:
        raise failed[0][1]
    reasons = "\n".join(f"  {kind.title}: {one_line(str(error))}" for kind, error in failed)
    raise DataError(f"{path}: looks like {len(failed)} formats, and parses as none of them\n{reasons}")


def list_splits(path: str | Path) -> list[str]:
    """Names of the splits at a path: train, val and test first, then the others.

    Empty for data without splits, such as a single json file or a folder of xml files. Raises DataError if no format
    matches.
    """
    own = list_own_splits(Path(path))
    moves = read_moves(Path(path))
    return list_assigned_splits(own, moves) if moves else own


def list_own_splits(path: Path) -> list[str]:
    """The splits that the files of a dataset have, without those that gfocal.json assigns. As ``list_splits``."""
    errors: list[DataError] = []
    for kind in _candidates(path):
        try:
            return list(kind.list_splits(path))
        except DataError as error:
            errors.append(error)
    raise errors[0]


def detect_format(path: str | Path) -> str:
    """Name of the first format of ``FORMATS`` that may lie at a path. Raises DataError if none does."""
    return _candidates(Path(path))[0].name


def _candidates(path: Path) -> list[Format]:
    """The formats that may lie at a path, at least one. Raises DataError, which lists what was looked for."""
    if not path.is_file() and not path.is_dir():  # a pipe would never end
        raise DataError(no_such_path(path))
    found = [kind for kind in FORMATS if kind.is_candidate(path)]
    if found:
        return found
    if labels_alone := explain_labels_alone(path):
        raise DataError(labels_alone)
    content = sorted(f.name + "/" * f.is_dir() for f in path.iterdir()) if path.is_dir() else []
    if path.is_dir() and not content:
        raise DataError(f"{path}: no annotated images found, the folder is empty; docs/data.md lists the formats")
    lines = "\n".join(f"  {kind.title:<16} {kind.looked_for}" for kind in FORMATS)
    shown = ", ".join(content[:12]) + (f", ... ({len(content)} entries)" if len(content) > 12 else "")
    seen = [f"  {line}" for line in (*explain_unread(path), *_look_below(path))]
    raise DataError(
        f"{path}: no annotated images found. Looked for\n{lines}\n"
        "where <split> is train, val or test (also valid, validation, train2017, ...)."
        + (f"\nThe folder holds: {one_line(shown, max_length=1000)}" if path.is_dir() else "")
        + ("\n" + "\n".join(["Seen, and not read:", *seen]) if seen else "")
    )


def _look_below(path: Path) -> list[str]:
    """The subfolders that look like a dataset."""
    folders = sorted(f for f in path.iterdir() if f.is_dir() and not f.name.startswith(".")) if path.is_dir() else []
    found = []
    for folder in folders[:MAX_BELOW]:
        try:
            kind = next((kind for kind in FORMATS if kind.is_candidate(folder)), None)
        except DataError:
            continue
        if kind is not None:
            found.append(f"{one_line(folder.name)}/ looks like {kind.title}: give that folder")
    return found


def _has_yolo_labels(path: Path) -> bool:
    """Whether a folder has a yaml file or label folders, as in YOLO datasets."""
    if not path.is_dir():
        return False
    homes = (path, *find_split_folders(path).values())
    return find_yaml(path) is not None or any((home / "labels").is_dir() for home in homes)
