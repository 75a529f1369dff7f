"""A valid dataset in each format that is read: the same three boxes in two images, as texts to change.

Image a has the boxes 10 10 30 40 and 40 20 60 50, image b has 5 5 25 25, all of them xyxy in 100 x 80 pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.discovery import read_data
from gfocal.errors import DataError

Boxes = list[list[float]]
BOXES_OF_A = [[10.0, 10.0, 30.0, 40.0], [40.0, 20.0, 60.0, 50.0]]
BOXES_OF_B = [[5.0, 5.0, 25.0, 25.0]]


@dataclass(frozen=True)
class ValidSet:
    """The files of a dataset; the first one is that which the cases change."""

    files: Mapping[str, str]
    images: tuple[str, str] = ("images/a.png", "images/b.png")
    split: str | None = None

    def write(self, root: Path, files: Mapping[str, str] | None = None) -> Path:
        """Write images and files, some of them in place of the valid ones."""
        for name in self.images:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (100, 80)).save(root / name)
        for name, text in {**self.files, **(files or {})}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        return root


COCO = ValidSet(
    {
        "annotations.json": """{
"images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80},
           {"id": 2, "file_name": "b.png", "width": 100, "height": 80}],
"categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
"annotations": [{"id": 11, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10, 10, 20, 30]},
                {"id": 12, "image_id": 1, "category_id": 2, "iscrowd": 0, "bbox": [40, 20, 20, 30]},
                {"id": 13, "image_id": 2, "category_id": 1, "iscrowd": 0, "bbox": [5, 5, 20, 20]}]}"""
    }
)

_LABEL_STUDIO_SIZE = '"original_width": 100, "original_height": 80'
LABEL_STUDIO = ValidSet(
    {
        "tasks.json": f"""[
{{"id": 1, "data": {{"image": "a.png"}}, "annotations": [{{"result": [
 {{"id": "r1", "type": "rectanglelabels", {_LABEL_STUDIO_SIZE},
  "value": {{"x": 10, "y": 12.5, "width": 20, "height": 37.5, "rotation": 0, "rectanglelabels": ["cat"]}}}},
 {{"id": "r2", "type": "rectanglelabels", {_LABEL_STUDIO_SIZE},
  "value": {{"x": 40, "y": 25, "width": 20, "height": 37.5, "rotation": 0, "rectanglelabels": ["dog"]}}}}]}}]}},
{{"id": 2, "data": {{"image": "b.png"}}, "annotations": [{{"result": [
 {{"id": "r3", "type": "rectanglelabels", {_LABEL_STUDIO_SIZE},
  "value": {{"x": 5, "y": 6.25, "width": 20, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}}}}]}}]}}]"""
    }
)

_LABELME = '{{"imagePath": "{}.png", "imageWidth": 100, "imageHeight": 80, "shapes": [{}]}}'
_SHAPE = '{{"label": "{}", "flags": {{}}, "shape_type": "rectangle", "points": [{}]}}'
LABELME = ValidSet(
    {
        "a.json": _LABELME.format(
            "a", _SHAPE.format("cat", "[10, 10], [30, 40]") + ",\n" + _SHAPE.format("dog", "[40, 20], [60, 50]")
        ),
        "b.json": _LABELME.format("b", _SHAPE.format("cat", "[5, 5], [25, 25]")),
    },
    ("a.png", "b.png"),
)

VIA = ValidSet(
    {
        "via.json": """{
"a.png1": {"filename": "a.png", "size": 1, "file_attributes": {}, "regions": [
 {"shape_attributes": {"name": "rect", "x": 10, "y": 10, "width": 20, "height": 30},
  "region_attributes": {"class": "cat"}},
 {"shape_attributes": {"name": "rect", "x": 40, "y": 20, "width": 20, "height": 30},
  "region_attributes": {"class": "dog"}}]},
"b.png1": {"filename": "b.png", "size": 1, "file_attributes": {}, "regions": [
 {"shape_attributes": {"name": "rect", "x": 5, "y": 5, "width": 20, "height": 20},
  "region_attributes": {"class": "cat"}}]}}"""
    },
    ("a.png", "b.png"),
)

_VIA_ROW = (
    '{},1,"{{}}",{},{},"{{""name"":""rect"",""x"":{},""y"":{},""width"":20,""height"":{}}}","{{""class"":""{}""}}"\n'
)
VIA_CSV = ValidSet(
    {
        "via.csv": "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
        + "region_attributes\n"
        + _VIA_ROW.format("a.png", 2, 0, 10, 10, 30, "cat")
        + _VIA_ROW.format("a.png", 2, 1, 40, 20, 30, "dog")
        + _VIA_ROW.format("b.png", 1, 0, 5, 5, 20, "cat")
    },
    ("a.png", "b.png"),
)

CREATEML = ValidSet(
    {
        "createml.json": """[
{"image": "a.png", "annotations": [
 {"label": "cat", "coordinates": {"x": 20, "y": 25, "width": 20, "height": 30}},
 {"label": "dog", "coordinates": {"x": 50, "y": 35, "width": 20, "height": 30}}]},
{"image": "b.png", "annotations": [
 {"label": "cat", "coordinates": {"x": 15, "y": 15, "width": 20, "height": 20}}]}]"""
    },
    ("a.png", "b.png"),
)

FIFTYONE = ValidSet(
    {
        "labels.json": """{"classes": ["cat", "dog"], "labels": {
"a": [{"label": 0, "bounding_box": [0.1, 0.125, 0.2, 0.375]}, {"label": 1, "bounding_box": [0.4, 0.25, 0.2, 0.375]}],
"b": [{"label": 0, "bounding_box": [0.05, 0.0625, 0.2, 0.25]}]}}"""
    },
    ("data/a.png", "data/b.png"),
)

_SUPERVISELY = '{{"size": {{"height": 80, "width": 100}}, "tags": [], "objects": [{}]}}'
_OBJECT = (
    '{{"classTitle": "{}", "geometryType": "rectangle", "tags": [], "points": {{"exterior": [{}], "interior": []}}}}'
)
SUPERVISELY = ValidSet(
    {
        "set/ann/a.png.json": _SUPERVISELY.format(
            _OBJECT.format("cat", "[10, 10], [29, 39]") + ",\n" + _OBJECT.format("dog", "[40, 20], [59, 49]")
        ),
        "set/ann/b.png.json": _SUPERVISELY.format(_OBJECT.format("cat", "[5, 5], [24, 24]")),
        "meta.json": '{"classes": [{"title": "cat"}, {"title": "dog"}], "tags": []}',
    },
    ("set/img/a.png", "set/img/b.png"),
)

MEGADETECTOR = ValidSet(
    {
        "md.json": """{"info": {"format_version": "1.3"}, "detection_categories": {"1": "animal", "2": "person"},
"images": [{"file": "images/a.png", "detections": [
  {"category": "1", "conf": 0.9, "bbox": [0.1, 0.125, 0.2, 0.375]},
  {"category": "2", "conf": 0.8, "bbox": [0.4, 0.25, 0.2, 0.375]}]},
 {"file": "images/b.png", "detections": [{"category": "1", "conf": 0.7, "bbox": [0.05, 0.0625, 0.2, 0.25]}]}]}"""
    }
)

BDD100K = ValidSet(
    {
        "labels/det_20/det_train.json": """[
{"name": "a.png", "labels": [
 {"id": "1", "category": "car", "attributes": {}, "box2d": {"x1": 10, "y1": 10, "x2": 29, "y2": 39}},
 {"id": "2", "category": "rider", "attributes": {}, "box2d": {"x1": 40, "y1": 20, "x2": 59, "y2": 49}}]},
{"name": "b.png", "labels": [
 {"id": "3", "category": "car", "attributes": {}, "box2d": {"x1": 5, "y1": 5, "x2": 24, "y2": 24}}]}]"""
    },
    ("images/100k/train/a.png", "images/100k/train/b.png"),
    "train",
)

CROWDHUMAN = ValidSet(
    {
        "annotation_train.odgt": """{"ID": "a", "gtboxes": [\
{"tag": "person", "fbox": [10, 10, 20, 30], "extra": {}}, \
{"tag": "person", "fbox": [40, 20, 20, 30], "extra": {}}]}
{"ID": "b", "gtboxes": [{"tag": "person", "fbox": [5, 5, 20, 20], "extra": {}}]}
"""
    },
    ("Images/a.png", "Images/b.png"),
    "train",
)

_BOX = '<box label="{}" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}"></box>'
CVAT = ValidSet(
    {
        "annotations.xml": f"""<annotations><version>1.1</version>
<image id="0" name="a.png" width="100" height="80">
 {_BOX.format("cat", 10, 10, 30, 40)}
 {_BOX.format("dog", 40, 20, 60, 50)}
</image>
<image id="1" name="b.png" width="100" height="80">{_BOX.format("cat", 5, 5, 25, 25)}</image>
</annotations>"""
    }
)

_TRACKED = '<box frame="{}" outside="0" keyframe="1" occluded="0" xtl="{}" ytl="{}" xbr="{}" ybr="{}"></box>'
CVAT_VIDEO = ValidSet(
    {
        "annotations.xml": f"""<annotations><version>1.1</version>
<meta><task><start_frame>0</start_frame><stop_frame>1</stop_frame><mode>interpolation</mode></task></meta>
<track id="0" label="cat">
 {_TRACKED.format(0, 10, 10, 30, 40)}
 {_TRACKED.format(1, 5, 5, 25, 25)}
</track>
<track id="1" label="dog">
 {_TRACKED.format(0, 40, 20, 60, 50)}
 <box frame="1" outside="1" keyframe="1" occluded="0" xtl="40" ytl="20" xbr="60" ybr="50"></box>
</track>
</annotations>"""
    },
    ("images/frame_000000.png", "images/frame_000001.png"),
)

_VOC_OBJECT = (
    "<object><name>{}</name><difficult>0</difficult>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)
_VOC = "<annotation><filename>{}.png</filename><size><width>100</width><height>80</height></size>\n{}\n</annotation>"
VOC = ValidSet(
    {
        "Annotations/a.xml": _VOC.format(
            "a", _VOC_OBJECT.format("cat", 10, 10, 30, 40) + "\n" + _VOC_OBJECT.format("dog", 40, 20, 60, 50)
        ),
        "Annotations/b.xml": _VOC.format("b", _VOC_OBJECT.format("cat", 5, 5, 25, 25)),
    },
    ("JPEGImages/a.png", "JPEGImages/b.png"),
)

_LINES_OF_A = "0 0.2 0.3125 0.2 0.375\n1 0.5 0.4375 0.2 0.375\n"
_LINES_OF_B = "0 0.15 0.1875 0.2 0.25\n"
YOLO = ValidSet(
    {
        "labels/train/a.txt": _LINES_OF_A,
        "labels/train/b.txt": _LINES_OF_B,
        "data.yaml": "train: images/train\nnames: [cat, dog]\n",
    },
    ("images/train/a.png", "images/train/b.png"),
    "train",
)
DARKNET = ValidSet(
    {
        "obj_train_data/a.txt": _LINES_OF_A,
        "obj_train_data/b.txt": _LINES_OF_B,
        "obj.data": "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n",
        "obj.names": "cat\ndog\n",
        "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/b.png\n",
    },
    ("obj_train_data/a.png", "obj_train_data/b.png"),
    "train",
)
LABEL_STUDIO_YOLO = ValidSet(
    {
        "labels/a.txt": _LINES_OF_A,
        "labels/b.txt": _LINES_OF_B,
        "classes.txt": "cat\ndog\n",
        "notes.json": '{"categories": [{"id": 0, "name": "cat"}, {"id": 1, "name": "dog"}]}',
    }
)

CSV = ValidSet(
    {
        "boxes.csv": "filename,width,height,class,xmin,ymin,xmax,ymax,difficult\n"
        "a.png,100,80,cat,10,10,30,40,0\na.png,100,80,dog,40,20,60,50,0\nb.png,100,80,cat,5,5,25,25,0\n"
    },
    ("a.png", "b.png"),
)
CSV_SIDES = ValidSet(
    {
        "boxes.csv": "filename,class,x,y,w,h,angle\n"
        "a.png,cat,10,10,20,30,0\na.png,dog,40,20,20,30,0\nb.png,cat,5,5,20,20,0\n"
    },
    ("a.png", "b.png"),
)
CSV_LISTS = ValidSet(
    {
        "boxes.csv": "image_id,class,bbox_xywh\n"
        'a,cat,"[10, 10, 20, 30]"\na,dog,"[40, 20, 20, 30]"\nb,cat,"[5, 5, 20, 20]"\n'
    }
)

_KITTI = "{} 0.00 0 0.00 {} {} {} {} 1 1 1 0 0 0 0\n"
KITTI = ValidSet(
    {
        "label_2/a.txt": _KITTI.format("Car", 10, 10, 30, 40) + _KITTI.format("Van", 40, 20, 60, 50),
        "label_2/b.txt": _KITTI.format("Car", 5, 5, 25, 25),
    },
    ("image_2/a.png", "image_2/b.png"),
)
VISDRONE = ValidSet(
    {
        "annotations/a.txt": "10,10,20,30,1,1,0,0\n40,20,20,30,1,2,0,0\n",
        "annotations/b.txt": "5,5,20,20,1,1,0,0\n",
    }
)
WIDERFACE = ValidSet(
    {
        "wider_face_split/wider_face_train_bbx_gt.txt": "a.png\n2\n10 10 20 30 0 0 0 0 0 0\n40 20 20 30 0 0 0 0 0 0\n"
        "b.png\n1\n5 5 20 20 0 0 0 0 0 0\n"
    },
    ("WIDER_train/images/a.png", "WIDER_train/images/b.png"),
    "train",
)
MOT = ValidSet(
    {"s/gt/gt.txt": "1,1,10,10,20,30,1,1,1\n1,2,40,20,20,30,1,1,1\n2,1,5,5,20,20,1,1,1\n"},
    ("s/img1/000001.png", "s/img1/000002.png"),
)
OPENIMAGES = ValidSet(
    {
        "train-annotations-bbox.csv": "ImageID,LabelName,Confidence,XMin,XMax,YMin,YMax,IsGroupOf\n"
        "a,/m/c,1,0.1,0.3,0.125,0.5,0\na,/m/d,1,0.4,0.6,0.25,0.625,0\nb,/m/c,1,0.05,0.25,0.0625,0.3125,0\n"
    },
    ("train/a.png", "train/b.png"),
    "train",
)


BOTH = BOXES_OF_A
SECOND = BOXES_OF_A[1:]
HULL = [[6.5, 7.9, 33.5, 42.1], *SECOND]  # of the first box, rotated by 15 degrees about its center
UNNAMED = [BOTH[0], *BOTH]  # the first box is an ignored region of each of the two classes
OUT = None  # image a is refused, left out, or not trained on


@dataclass(frozen=True)
class Change:
    """A text of the dataset that is replaced, what must be said of it, and the boxes of image a afterwards.

    Nothing need be said (``says`` is empty) where both boxes are read right.
    """

    old: str
    new: str
    says: str
    boxes: Boxes | None = OUT
    file: str = ""  # that is changed; the first one of the dataset


def each_change(cases: Mapping[str, tuple[ValidSet, Sequence[Change]]]) -> pytest.MarkDecorator:
    """A test of ``valid`` and ``change`` for every change of every dataset."""
    params = [
        pytest.param(valid, change, id=f"{name}-{number}")
        for name, (valid, changes) in cases.items()
        for number, change in enumerate(changes)
    ]
    return pytest.mark.parametrize(("valid", "change"), params)


def assert_said(valid: ValidSet, root: Path, change: Change) -> None:
    """Read a dataset before and after one change: an error or a new problem names it; image b stays as it is."""
    a, b = (Path(name).name for name in valid.images)
    assert _read(valid.write(root / "valid"), valid, set())[0] == {a: BOXES_OF_A, b: BOXES_OF_B}
    known = set(_read(root / "valid", valid, set())[1])
    file = change.file or next(iter(valid.files))
    assert change.old in valid.files[file]
    text = valid.files[file].replace(change.old, change.new, 1)
    boxes, said = _read(valid.write(root / "changed", {file: text}), valid, known)
    assert not change.says or any(change.says in one for one in said), f"{change.says!r} is not in {said}"
    assert boxes.get(a) == change.boxes, said
    assert boxes.get(b) in (BOXES_OF_B, None) or "background" in change.says or "without objects" in change.says


def _read(root: Path, valid: ValidSet, known: set[str]) -> tuple[dict[str, Boxes], list[str]]:
    """The boxes of the images that are trained on, and the problems that are not known."""
    try:
        data = read_data(root, valid.split)
    except DataError as error:
        return {}, [str(error).replace(str(root), "")]
    said = [f"{Path(one.file).name}: {one.record}: {one.reason}".replace(str(root), "") for one in data.problems]
    boxes = {
        sample.path.name: [[round(value, 1) for value in box] for box in sample.boxes.tolist()]
        for sample in data.samples
        if sample.path is not None and sample.image_id not in data.untrained
    }
    return boxes, [one for one in said if one not in known]
