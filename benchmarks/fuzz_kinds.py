"""Kinds of files for ``fuzz_readers.py``: how a dataset lies in its folder, and how it is read.

``TOOL_KINDS`` are those of labeling tools and benchmarks. One file of a dataset, or all of one kind, are fuzzed; the
others are as the tool writes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from fuzz_grammar import IMAGES
from gfocal.data.annotated import WHOLE, AnnotationFormat, read_annotated
from gfocal.data.dataset import FileData
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.readers.bdd100k import BDD100K
from gfocal.data.readers.createml import CREATEML
from gfocal.data.readers.crowdhuman import CROWDHUMAN, crowdhuman_format
from gfocal.data.readers.csv import read_csv
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
from gfocal.data.readers.widerface import WIDERFACE

Reader = Callable[[Path, Random], FileData]


@dataclass(frozen=True)
class Kind:
    """The layout of a kind of files, and how they are read."""

    files: tuple[str, ...]  # the fuzzed ones
    images: tuple[str, ...]
    read: Reader
    share: float  # fraction of all files
    fixed: tuple[tuple[str, str], ...] = ()  # other files of the dataset


def _as(*kinds: AnnotationFormat, file: str = "") -> Reader:
    """Read as one of some formats, sometimes as whatever ``read_data`` finds."""

    def read(home: Path, rng: Random) -> FileData:
        way = rng.randrange(8)
        names = ["bird", "cat", "dog"] if rng.random() < 0.03 else None
        if way == 0:
            splits = list_splits(home)
            return read_data(home, splits[0] if splits else None, names)
        kind = rng.choice(kinds)
        path = home / file if way == 1 else home
        if way == 2:
            return read_data(home / file)
        splits = list(kind.find(path) or ())
        return read_annotated(path, kind, None if splits in ([], [WHOLE]) else rng.choice(splits), names)

    return read


def _kaggle(home: Path, rng: Random) -> FileData:
    return read_data(home) if rng.random() < 0.2 else read_csv(home / "train.csv")


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names or IMAGES)


_STEMS = tuple(name.removesuffix(".png") for name in IMAGES)
_TEXTS = tuple(f"{stem}.txt" for stem in _STEMS)
_JSONS = tuple(f"{stem}.json" for stem in _STEMS)
_NAMES = "cat\ndog\n"
_NOTES = '{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}], "info": {}}'
_TASKS = """[{"id": 1, "data": {"image": "images/a.png"}, "annotations": [{"result": [{"id": "x", "type":
"rectanglelabels", "original_width": 40, "original_height": 30, "value": {"x": 10, "y": 10, "width": 50, "height": 50,
"rectanglelabels": ["dog"]}}]}]}]"""
_DATA = "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n"
_LIST = "".join(f"data/obj_train_data/{name}\n" for name in IMAGES)
_LINE = "1 0.5 0.5 0.25 0.5\n"
_DARKNET_LABELS = tuple((file, _LINE) for file in _in("obj_train_data", *_TEXTS))
_META = '{"classes": [{"title": "cat", "id": 1}, {"title": "dog", "id": 2}], "tags": []}'
_ANNOTATION = """{"size": {"height": 30, "width": 40}, "objects": [{"classTitle": "dog", "geometryType": "rectangle",
"points": {"exterior": [[1, 2], [10, 20]], "interior": []}}]}"""
_FIFTYONE = """{"classes": ["cat", "dog"], "labels": {"a": [{"label": 1, "bounding_box": [0.1, 0.1, 0.5, 0.5]}],
"b": null}}"""
_BOXES = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,/m/cat,0.1,0.5,0.1,0.5,0\nb,/m/dog,0.1,0.5,0.1,0.5,1\n"
_VIDEO = tuple(f"images/frame_{number:06d}.png" for number in range(3))
_VIA = """filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes
a.png,1,{},1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":5,""height"":6}","{""class"":""cat"",""breed"":""x""}"
"""
_FRAMES = tuple(f"s/img1/{number:06d}.png" for number in (1, 2, 3))
_ROWS = "1,1,3,4,10,12,1,1,1\n2,1,3,4,10,12,0,7,1\n"

TOOL_KINDS = {
    "label studio": Kind(("tasks.json",), _in("images"), _as(LABEL_STUDIO, file="tasks.json"), 0.06),
    "label studio min": Kind(("tasks.json",), _in("images"), _as(LABEL_STUDIO, file="tasks.json"), 0.03),
    "label studio files": Kind(("1", "2", "3.json"), _in("images"), _as(LABEL_STUDIO, file="3.json"), 0.03),
    "label studio config": Kind(
        ("label_config.xml",), _in("images"), _as(LABEL_STUDIO, file="tasks.json"), 0.01, (("tasks.json", _TASKS),)
    ),
    "label studio yolo": Kind(
        _in("labels", *_TEXTS),
        _in("images"),
        _as(LABEL_STUDIO_YOLO),
        0.04,
        (("notes.json", _NOTES), ("classes.txt", _NAMES)),
    ),
    "label studio notes": Kind(
        ("notes.json",),
        _in("images"),
        _as(LABEL_STUDIO_YOLO),
        0.01,
        (("classes.txt", _NAMES), *((file, _LINE) for file in _in("labels", *_TEXTS))),
    ),
    "cvat": Kind(("annotations.xml",), (*_in("images"), *_VIDEO), _as(CVAT, file="annotations.xml"), 0.1),
    "darknet labels": Kind(
        _in("obj_train_data", *_TEXTS),
        _in("obj_train_data"),
        _as(DARKNET, file="obj.data"),
        0.04,
        (("obj.data", _DATA), ("obj.names", _NAMES), ("train.txt", _LIST)),
    ),
    "darknet data": Kind(
        ("obj.data",),
        _in("obj_train_data"),
        _as(DARKNET, file="obj.data"),
        0.015,
        (("obj.names", _NAMES), ("train.txt", _LIST), *_DARKNET_LABELS),
    ),
    "darknet list": Kind(
        ("train.txt",),
        _in("obj_train_data"),
        _as(DARKNET, file="obj.data"),
        0.02,
        (("obj.names", _NAMES), ("obj.data", _DATA), *_DARKNET_LABELS),
    ),
    "darknet names": Kind(
        ("obj.names",),
        _in("obj_train_data"),
        _as(DARKNET, file="obj.data"),
        0.01,
        (("train.txt", _LIST), ("obj.data", _DATA), *_DARKNET_LABELS),
    ),
    "labelme": Kind(_JSONS, (*IMAGES, *_in("images")), _as(LABELME, file=_JSONS[0]), 0.09),
    "via json": Kind(("via.json",), IMAGES, _as(VIA, file="via.json"), 0.05),
    "via csv": Kind(("via.csv",), IMAGES, _as(VIA, file="via.csv"), 0.03),
    "createml": Kind(("_annotations.createml.json",), IMAGES, _as(CREATEML, file="_annotations.createml.json"), 0.04),
    "fiftyone": Kind(("labels.json",), _in("data"), _as(FIFTYONE, file="labels.json"), 0.04),
    "fiftyone paths": Kind(
        ("data.json",), _in("data"), _as(FIFTYONE, file="labels.json"), 0.01, (("labels.json", _FIFTYONE),)
    ),
    "supervisely": Kind(
        tuple(f"train/ann/{name}.json" for name in IMAGES[:2]),
        _in("train/img"),
        _as(SUPERVISELY, file="train"),
        0.06,
        (("meta.json", _META),),
    ),
    "supervisely meta": Kind(
        ("meta.json",),
        _in("train/img"),
        _as(SUPERVISELY, file="train"),
        0.01,
        (("train/ann/a.png.json", _ANNOTATION),),
    ),
    "megadetector": Kind(("md.json",), _in("images"), _as(MEGADETECTOR, file="md.json"), 0.04),
    "bdd100k": Kind(
        ("labels/det_20/det_train.json",),
        _in("images/100k/train"),
        _as(BDD100K, file="labels/det_20/det_train.json"),
        0.05,
    ),
    "bdd100k images": Kind(
        _in("labels/100k/train", *_JSONS[:2]), _in("images/100k/train"), _as(BDD100K, file="labels/100k/train"), 0.02
    ),
    "kitti": Kind(_in("training/label_2", *_TEXTS), _in("training/image_2"), _as(KITTI, file="training"), 0.05),
    "visdrone": Kind(_in("annotations", *_TEXTS), _in("images"), _as(VISDRONE), 0.05),
    "crowdhuman": Kind(
        ("annotation_train.odgt",),
        _in("Images"),
        _as(CROWDHUMAN, crowdhuman_format("visible"), crowdhuman_format("head"), file="annotation_train.odgt"),
        0.04,
    ),
    "widerface": Kind(
        ("wider_face_split/wider_face_train_bbx_gt.txt",),
        _in("WIDER_train/images/0--Parade"),
        _as(WIDERFACE, file="wider_face_split/wider_face_train_bbx_gt.txt"),
        0.04,
    ),
    "mot": Kind(("s/gt/gt.txt",), _FRAMES, _as(MOT, file="s"), 0.04),
    "mot seqinfo": Kind(("s/seqinfo.ini",), _FRAMES, _as(MOT, file="s"), 0.015, (("s/gt/gt.txt", _ROWS),)),
    "openimages": Kind(
        ("train-annotations-bbox.csv",),
        _in("train"),
        _as(OPENIMAGES, file="train-annotations-bbox.csv"),
        0.04,
        (("class-descriptions-boxable.csv", "/m/cat,Cat\n/m/dog,Dog\n"),),
    ),
    "openimages names": Kind(
        ("class-descriptions-boxable.csv",),
        _in("train"),
        _as(OPENIMAGES, file="train-annotations-bbox.csv"),
        0.01,
        (("train-annotations-bbox.csv", _BOXES),),
    ),
    "kaggle table": Kind(("train.csv",), _in("train"), _kaggle, 0.05),
    "gfocal.json of kitti": Kind(
        ("gfocal.json",),
        _in("train/images"),
        _as(KITTI),
        0.015,
        tuple((f"train/labels/{name}", "cat 0 0 0 1 2 10 20\n") for name in _TEXTS),
    ),
    "gfocal.json of via": Kind(
        ("gfocal.json",),
        IMAGES,
        _as(VIA, file="via.csv"),
        0.01,
        (("via.csv", _VIA),),
    ),
}
