"""The layouts that FiftyOne exports: its own labels.json, and COCO, VOC, YOLO, KITTI and BDD100K beside data/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.annotated import NOT_ANNOTATED, OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.readers.bdd100k import EDGES
from gfocal.data.readers.reading import BROKEN_BOX, SCORED
from gfocal.errors import DataError


def one(label: Any = "cat", x: Any = 0.1, y: float = 0.2, width: float = 0.5, height: float = 0.5) -> dict[str, Any]:
    return {"label": label, "bounding_box": [x, y, width, height]}


CAT = ("cat", [10, 16, 60, 56], False)  # of an image of 100x80


def test_own_format(tmp_path: Path) -> None:
    """As FiftyOne 1.22.1 writes FiftyOneImageDetectionDataset: names without suffix; [] is empty, null is not."""
    labels = {
        "a": [one(), one("dog", 0, 0, 1, 1) | {"attributes": {"iscrowd": 1, "occluded": True}}, one("dog", 0.5)],
        "b": [],
        "c": None,
    }
    write_json(tmp_path / "labels.json", {"classes": None, "labels": labels})
    data = read_data(write_images(tmp_path, "data/a.jpg", "data/b.png", "data/c.jpg", "data/d.jpg"))
    assert detect_format(tmp_path) == "fiftyone"
    assert boxes(data) == {
        "a.jpg": [CAT, ("dog", [0, 0, 100, 80], True), ("dog", [50, 16, 100, 56], False)],
        "b.png": [],
    }
    assert reasons(data) == {NOT_ANNOTATED: 2}  # c and d


def test_labels_are_indices_where_classes_are_given(tmp_path: Path) -> None:
    content = {"classes": ["dog", "cat", "unused"], "labels": {"sub/a": [one(1) | {"confidence": 0.9}]}}
    write_json(tmp_path / "labels.json", content)
    data = read_data(write_images(tmp_path, "data/sub/a.jpg"))
    assert data.names == ("dog", "cat", "unused")
    assert boxes(data)["a.jpg"] == [CAT]
    assert reasons(data) == {SCORED: 1}
    content["labels"] = {"sub/a": [one(3)]}
    write_json(tmp_path / "labels.json", content)
    with pytest.raises(DataError, match=r"sub/a: object 1: label 3.*3 classes"):
        read_data(tmp_path)


def test_splits_and_a_manifest_of_paths(tmp_path: Path) -> None:
    """data.json in place of data/, as LabeledImageDatasetImporter of fiftyone.utils.data.importers takes it."""
    for split, name in (("train", "a"), ("validation", "b")):
        write_json(tmp_path / split / "labels.json", {"classes": None, "labels": {name: [one(split)]}})
    write_images(tmp_path / "train", "data/a.jpg", "data/b.jpg")
    write_images(tmp_path / "validation", "photos/b.jpg")
    write_json(tmp_path / "validation" / "data.json", {"b": "/home/somebody/photos/b.jpg"})
    assert list_splits(tmp_path) == ["train", "val"]
    assert read_data(tmp_path, "val").names == ("train", "validation")
    data = read_data(tmp_path, "val")
    assert data.sample(0).path == tmp_path / "validation" / "photos" / "b.jpg"
    assert reasons(read_data(tmp_path, "train")) == {NOT_ANNOTATED: 1}


def test_what_is_not_understood_is_no_background(tmp_path: Path) -> None:
    labels = {"a": [one(x="left")], "b": "cat", "c": [one()], "d": [7], "e": [{"label": "cat"}]}
    write_json(tmp_path / "labels.json", {"classes": None, "labels": labels})
    data = read_data(write_images(tmp_path / "", *(f"data/{name}.jpg" for name in "abcde")))
    assert list(boxes(data)) == ["c.jpg"]
    assert reasons(data) == {BROKEN_BOX: 3, OBJECTS_WITHOUT_BOX: 1}


def coco(*names: str) -> dict[str, Any]:
    """A file as FiftyOne 1.22.1 writes it: ids from 1, supercategory null, attributes as further keys."""
    return {
        "info": {"url": "https://voxel51.com/fiftyone"},
        "licenses": [],
        "categories": [{"id": 1, "name": "cat", "supercategory": None}],
        "images": [
            {"id": k, "file_name": name, "height": 80, "width": 100, "license": None, "coco_url": None}
            for k, name in enumerate(names, 1)
        ],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [10.0, 16.0, 50.0, 40.0],
                "area": 2000.0,
                "iscrowd": 0,
            },
        ],
    }


def test_coco_beside_data(tmp_path: Path) -> None:
    write_json(tmp_path / "labels.json", coco("a.jpg", "b.jpg"))
    data = read_data(write_images(tmp_path, "data/a.jpg", "data/b.jpg"))
    assert detect_format(tmp_path) == "coco"
    assert boxes(data) == {"a.jpg": [CAT], "b.jpg": []}
    assert not data.problems


def test_coco_splits(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_json(tmp_path / split / "labels.json", coco(f"{split}.jpg"))
        write_images(tmp_path / split, f"data/{split}.jpg")
    assert list_splits(tmp_path) == ["train", "val"]
    for split, name in (("train", "train.jpg"), ("validation", "validation.jpg")):
        data = read_data(tmp_path, split)
        assert boxes(data) == {name: [CAT]}
        assert not data.problems


def voc(name: str, flag: str = "") -> str:
    corners = "<xmin>10</xmin><ymin>16</ymin><xmax>60</xmax><ymax>56</ymax>"
    where = f"<folder></folder><filename>{name}</filename><path>/home/somebody/data/{name}</path>"
    return f"<annotation>{where}<object><name>cat</name>{flag}<bndbox>{corners}</bndbox></object></annotation>"


def test_voc_beside_data(tmp_path: Path) -> None:
    write_images(tmp_path, "data/a.jpg", "data/b.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.xml").write_text(voc("a.jpg"))
    (tmp_path / "labels" / "b.xml").write_text(voc("b.jpg", "<iscrowd>1</iscrowd><occluded>True</occluded>"))
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "voc"
    assert boxes(data) == {"a.jpg": [CAT], "b.jpg": [(*CAT[:2], True)]}


def test_voc_splits(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        write_images(tmp_path / split, f"data/{split}.jpg")
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "labels" / f"{split}.xml").write_text(voc(f"{split}.jpg"))
    assert list_splits(tmp_path) == ["train", "val"]
    assert boxes(read_data(tmp_path, "val")) == {"validation.jpg": [CAT]}


def test_kitti_beside_data(tmp_path: Path) -> None:
    """FiftyOne 1.22.1 writes Python's values into the columns, and rounds corners."""
    write_images(tmp_path, "data/a.jpg", "data/b.jpg", "data/c.jpg")
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels" / "a.txt").write_text("cat 0 True 0 10 16 60 56 0 0 0 0 0 0 0")
    (tmp_path / "labels" / "b.txt").write_text("")
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "kitti"
    assert boxes(data) == {"a.jpg": [CAT], "b.jpg": []}
    assert reasons(data) == {NOT_ANNOTATED: 1}


def test_yolo_4_has_a_list_of_images_and_no_obj_data(tmp_path: Path) -> None:
    write_images(tmp_path, "data/a.jpg", "data/b.jpg", "data/c.jpg")
    (tmp_path / "obj.names").write_text("cat\ndog")
    (tmp_path / "images.txt").write_text("data/a.jpg\ndata/b.jpg\ndata/c.jpg")
    (tmp_path / "data" / "a.txt").write_text("0 0.350000 0.450000 0.500000 0.500000\n")
    (tmp_path / "data" / "b.txt").write_text("")
    data = read_data(tmp_path)
    assert data.names == ("cat", "dog")
    assert boxes(data) == {"a.jpg": [CAT], "b.jpg": []}
    assert reasons(data) == {NOT_ANNOTATED: 1}


def test_bdd_has_edges_in_place_of_pixels(tmp_path: Path) -> None:
    """FiftyOne reads and writes box2d as edges, Scalabel as the first and last pixel."""
    label = {"id": 0, "category": "cat", "manualAttributes": True, "manualShape": True, "attributes": {}}
    label["box2d"] = {"x1": 10.0, "x2": 60.0, "y1": 16.0, "y2": 56.0}
    write_json(tmp_path / "labels.json", [{"name": "a.jpg", "attributes": {}, "labels": [label]}])
    data = read_data(write_images(tmp_path, "data/a.jpg"))
    assert detect_format(tmp_path) == "bdd100k"
    assert boxes(data) == {"a.jpg": [CAT]}
    assert reasons(data) == {EDGES: 1}
