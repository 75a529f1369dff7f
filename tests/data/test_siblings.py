"""Mistakes of whole datasets as several tools make them: files as their documentation describes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.conventions import CENTERS, CORNERS, FRACTIONS, MOSTLY_IGNORED, RESIZED
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data
from gfocal.data.validation import REPEATED_CLASS

WIDTH, HEIGHT = 100, 80
# xyxy in pixels; four images of three boxes
BOXES = [[(5 + 7 * i, 4, 30 + 7 * i, 40), (50, 30 + i, 90, 70), (60 - i, 5, 95, 25)] for i in range(4)]
Corners = tuple[float, float, float, float]


def image(path: Path, width: int = WIDTH, height: int = HEIGHT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def coco(root: Path, convert: Callable[[Corners], object], **more: object) -> FileData:
    """Read a COCO file whose numbers a function makes from the corners."""
    notes = [
        {"id": 10 * i + j, "image_id": i, "category_id": 1, "bbox": convert(box), **more}
        for i, boxes in enumerate(BOXES)
        for j, box in enumerate(boxes)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": WIDTH, "height": HEIGHT} for i in range(len(BOXES))]
    for one in images:
        image(root / str(one["file_name"]))
    (root / "a.json").write_text(
        json.dumps({"images": images, "annotations": notes, "categories": [{"id": 1, "name": "cat"}]})
    )
    return read_data(root)


def reasons(data: FileData) -> set[str]:
    return {problem.reason for problem in data.problems}


def assert_halved(data: FileData) -> None:
    assert [[[2 * value for value in box] for box in one.boxes.tolist()] for one in data.samples] == [
        [list(map(float, box)) for box in boxes] for boxes in BOXES
    ]
    assert reasons(data) == {RESIZED}


def test_images_resized_after_a_tensorflow_table_was_made(tmp_path: Path) -> None:
    """Columns of xml_to_csv.py in the tutorials of TensorFlow's object detection: sizes are those of the labeling."""
    rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
    for i, boxes in enumerate(BOXES):
        image(tmp_path / f"{i}.png", WIDTH // 2, HEIGHT // 2)
        rows += [f"{i}.png,{WIDTH},{HEIGHT},cat,{','.join(map(str, box))}" for box in boxes]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    assert_halved(read_data(tmp_path))


def test_images_resized_after_labelme_saved_its_files(tmp_path: Path) -> None:
    """imageWidth and imageHeight of LabelMe's json (labelme/label_file.py) are those of the labeled image."""
    for i, boxes in enumerate(BOXES):
        image(tmp_path / f"{i}.png", WIDTH // 2, HEIGHT // 2)
        shapes = [{"label": "cat", "shape_type": "rectangle", "points": [box[:2], box[2:]]} for box in boxes]
        content = {"imagePath": f"{i}.png", "imageWidth": WIDTH, "imageHeight": HEIGHT, "shapes": shapes}
        (tmp_path / f"{i}.json").write_text(json.dumps(content))
    assert_halved(read_data(tmp_path))


@pytest.mark.parametrize("empty", ["empty", "blank", "__empty__"])
def test_camera_traps(tmp_path: Path, empty: str) -> None:
    """COCO Camera Traps (MegaDetector, megadetector/data_management/README.md): text ids, and labels of sequences.

    iWildCam and Caltech's set call images without animals empty, Snapshot Safari's blank.
    """
    images = [{"id": f"loc/{i}", "file_name": f"{i}.png", "location": "1", "seq_id": "s"} for i in range(3)]
    notes = [
        {"id": "a", "image_id": "loc/0", "category_id": 0, "sequence_level_annotation": True},
        {"id": "b", "image_id": "loc/1", "category_id": 3, "sequence_level_annotation": True},
        {"id": "c", "image_id": "loc/2", "category_id": 3, "bbox": [1, 2, 30, 40]},
    ]
    for one in images:
        image(tmp_path / one["file_name"])
    classes = [{"id": 0, "name": empty}, {"id": 3, "name": "deer"}]
    (tmp_path / "a.json").write_text(json.dumps({"images": images, "annotations": notes, "categories": classes}))
    data = read_data(tmp_path)
    assert data.names == ("deer",)
    assert {one.path.name: len(one.labels) for one in data.samples if one.path} == {"0.png": 0, "2.png": 1}
    assert OBJECTS_WITHOUT_BOX in reasons(data)


def test_a_class_name_twice_in_files_of_yolo(tmp_path: Path) -> None:
    """data.yaml as Roboflow exports merged classes, and obj.names as darknet has it (data/coco.names)."""
    for name in ("images/train/a.png", "obj_train_data/a.png"):
        image(tmp_path / name)
    for name in ("labels/train/a.txt", "obj_train_data/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("0 0.2 0.2 0.1 0.1\n1 0.6 0.6 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nnc: 2\nnames: ['thing', 'thing']\n")
    data = read_data(tmp_path)
    assert data.names == ("thing", "thing")  # two classes, which training refuses
    assert REPEATED_CLASS in reasons(data)
    (tmp_path / "data.yaml").unlink()
    (tmp_path / "obj.data").write_text("classes = 2\ntrain = train.txt\nnames = obj.names\n")
    (tmp_path / "obj.names").write_text("thing\nthing\n")
    (tmp_path / "train.txt").write_text("obj_train_data/a.png\n")
    data = read_data(tmp_path)
    assert (data.names, len(data.table.boxes)) == (("thing",), 2)
    assert [p.action for p in data.problems if p.reason == REPEATED_CLASS] == ["merged"]


def test_all_objects_are_crowds_or_difficult(tmp_path: Path) -> None:
    """is_crowd of pycococreator's create_annotation_info, for run lengths; "difficult" of LabelImg, left checked."""
    data = coco(tmp_path / "coco", lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]], iscrowd=1)
    assert MOSTLY_IGNORED in reasons(data)
    (tmp_path / "voc").mkdir()
    for i, boxes in enumerate(BOXES):
        image(tmp_path / "voc" / f"{i}.png")
        objects = "".join(
            "<object><name>cat</name><difficult>1</difficult><bndbox>"
            + "".join(f"<{side}>{v}</{side}>" for side, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
            + "</bndbox></object>"
            for box in boxes
        )
        (tmp_path / "voc" / f"{i}.xml").write_text(f"<annotation>{objects}</annotation>")
    assert MOSTLY_IGNORED in reasons(read_data(tmp_path / "voc"))


CONVENTIONS = {  # the formats of boxes in Albumentations' documentation (bounding boxes augmentation)
    "coco": (lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]], set()),
    "pascal_voc": (list, {CORNERS}),
    "albumentations": (lambda b: [b[0] / WIDTH, b[1] / HEIGHT, b[2] / WIDTH, b[3] / HEIGHT], {FRACTIONS, CORNERS}),
    "yolo": (
        lambda b: [
            (b[0] + b[2]) / 2 / WIDTH,
            (b[1] + b[3]) / 2 / HEIGHT,
            (b[2] - b[0]) / WIDTH,
            (b[3] - b[1]) / HEIGHT,
        ],
        {FRACTIONS, CENTERS},
    ),
    "cxcywh": (lambda b: [(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, b[2] - b[0], b[3] - b[1]], {CENTERS}),
}


@pytest.mark.parametrize("name", CONVENTIONS)
def test_boxes_of_another_convention(tmp_path: Path, name: str) -> None:
    """As Albumentations and torchvision.ops.box_convert name them, in a COCO file and in a table of x, y, w, h."""
    convert, expected = CONVENTIONS[name]
    conventions = {CENTERS, CORNERS, FRACTIONS}
    assert reasons(coco(tmp_path / "coco", convert)) & conventions == expected
    rows = [f"{i}.png,cat,{','.join(map(str, convert(box)))}" for i, boxes in enumerate(BOXES) for box in boxes]
    for i in range(len(BOXES)):
        image(tmp_path / "csv" / f"{i}.png")
    (tmp_path / "csv" / "a.csv").write_text("filename,class,x,y,w,h\n" + "\n".join(rows))
    found = reasons(read_data(tmp_path / "csv"))
    assert found & {CENTERS, CORNERS} == expected - {FRACTIONS}
    assert any("fractions" in reason for reason in found) == (FRACTIONS in expected)


def test_a_split_of_folders_lists_and_images(tmp_path: Path) -> None:
    """Ultralytics: a folder, a file of autosplit (autosplit_train.txt), or a list of both."""
    for name in ("one/a", "two/b", "three/c", "three/d"):
        image(tmp_path / "images" / f"{name}.png")
        (tmp_path / "labels" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "autosplit_train.txt").write_text("./images/two/b.png\n")
    (tmp_path / "data.yaml").write_text(
        "train: [images/one, autosplit_train.txt, images/three/c.png]\nnames: [cat]\n"
    )
    data = read_data(tmp_path, "train")
    assert [one.path.name for one in data.samples if one.path] == ["a.png", "c.png", "b.png"]  # by paths
    assert data.problems == []
