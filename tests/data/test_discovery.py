"""The format of a dataset is found from its path; what lies nowhere is said in one screen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.errors import DataError


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(path)
    return path


def coco(file: Path, name: str = "a.png") -> Path:
    content = {
        "images": [{"id": 5, "file_name": name}],
        "annotations": [{"id": 1, "image_id": 5, "category_id": 2, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 2, "name": "cat"}],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def voc(file: Path) -> Path:
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>4</xmax><ymax>6</ymax>"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation><object><name>cat</name><bndbox>{corners}</bndbox></object></annotation>")
    return file


def yolo(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("0 0.025 0.05 0.03 0.05")
    return file


def coco_folder(root: Path) -> None:
    for split in ("train", "val"):
        coco(root / "annotations" / f"instances_{split}2017.json")
        image(root / f"{split}2017" / "a.png")
    for other in ("captions_val2017", "person_keypoints_val2017", "image_info_test2017"):
        coco(root / "annotations" / f"{other}.json")


def coco_exports(root: Path) -> None:
    for split in ("train", "valid"):
        coco(root / split / "_annotations.coco.json")
        image(root / split / "a.png")


def coco_beside(root: Path) -> None:
    for split in ("train", "val"):
        coco(root / f"my_{split}.json")
    (root / "config.json").write_text('{"learning_rate": 1}')
    image(root / "images" / "a.png")


def voc_classic(root: Path) -> None:
    for split in ("train", "val"):
        voc(root / "Annotations" / f"{split}1.xml")
        image(root / "JPEGImages" / f"{split}1.jpg")
        (root / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}1\n")


def voc_flat(root: Path) -> None:
    for split in ("train", "val"):
        voc(root / split / "a.xml")
        image(root / split / "a.JPG")


def yolo_yaml(root: Path) -> None:
    yolo_folders(root)
    (root / "classes.txt").unlink()
    (root / "cats.yaml").write_text("train: images/train\nval: images/val\nnames:\n  0: cat\n")


def yolo_folders(root: Path) -> None:
    for split in ("train", "val"):
        yolo(root / "labels" / split / "a.txt")
        image(root / "images" / split / "a.png")
    (root / "classes.txt").write_text("cat\n")


def csv(file: Path, split: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = "filename,class,xmin,ymin,xmax,ymax{}\na.png,cat,1,2,4,6{}\n"
    file.write_text(rows.format(*((",split", f",{split}") if split else ("", ""))))


def csv_files(root: Path) -> None:
    for split in ("train", "val"):
        csv(root / f"{split}_labels.csv")
        image(root / split / "a.png")


def csv_exports(root: Path) -> None:
    for split in ("train", "valid"):
        csv(root / split / "_annotations.csv")
        image(root / split / "a.png")


def csv_column(root: Path) -> None:
    csv(root / "all.csv", "TRAIN")
    with (root / "all.csv").open("a") as stream:
        stream.write("b.png,cat,1,2,4,6,VALID\n")
    image(root / "images" / "a.png")
    image(root / "images" / "b.png")


LAYOUTS = {
    "coco": (coco_folder, coco_exports, coco_beside),
    "voc": (voc_classic, voc_flat),
    "yolo": (yolo_yaml, yolo_folders),
    "csv": (csv_files, csv_exports, csv_column),
}


@pytest.mark.parametrize(
    ("kind", "make"),
    [(kind, make) for kind, makes in LAYOUTS.items() for make in makes],
    ids=lambda x: str(x)[:20],
)
def test_every_layout_is_found_and_read_alike(tmp_path: Path, kind: str, make: object) -> None:
    assert callable(make)
    make(tmp_path)
    assert detect_format(tmp_path) == kind
    assert list_splits(tmp_path) == ["train", "val"]
    for split in ("train", "val", "valid", "validation"):
        data = read_data(str(tmp_path), split)
        assert data.names == ("cat",)
        assert len(data) == 1
        assert data.samples[0].boxes.round().tolist() == [[1, 2, 4, 6]]
        assert data.problems == []
    assert read_data(tmp_path, "train", names=["cat"]).names == ("cat",)
    with pytest.raises(DataError, match=r"\['cat'\].*\['dog'\]"):
        read_data(tmp_path, "train", names=["dog"])
    with pytest.raises(DataError, match="no split 'test'; there are: train, val"):
        read_data(tmp_path, "test")


def test_several_splits_need_a_choice(tmp_path: Path) -> None:
    coco_folder(tmp_path)
    with pytest.raises(DataError, match="several splits, choose one; there are: train, val"):
        read_data(tmp_path)
    (tmp_path / "annotations" / "instances_val2017.json").unlink()
    assert len(read_data(tmp_path)) == 1


def test_files(tmp_path: Path) -> None:
    coco_folder(tmp_path)
    file = tmp_path / "annotations" / "instances_val2017.json"
    assert list_splits(file) == []
    assert len(read_data(file)) == len(read_data(file, "valid")) == 1
    with pytest.raises(DataError, match="of split 'val', not 'train'"):
        read_data(file, "train")
    yolo_yaml(tmp_path / "y")
    assert detect_format(tmp_path / "y" / "cats.yaml") == "yolo"
    assert list_splits(tmp_path / "y" / "cats.yaml") == ["train", "val"]


def test_a_json_file_without_a_split_in_its_name(tmp_path: Path) -> None:
    coco(tmp_path / "labels.json")
    image(tmp_path / "images" / "a.png")
    assert list_splits(tmp_path) == ["labels"]
    assert len(read_data(tmp_path)) == len(read_data(tmp_path, "labels")) == 1


def test_flat_folder_has_no_splits(tmp_path: Path) -> None:
    voc(tmp_path / "a.xml")
    image(tmp_path / "a.jpg")
    assert list_splits(tmp_path) == []
    assert len(read_data(tmp_path)) == 1


def test_error_lists_what_was_looked_for_on_one_screen(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"file{number:03d}.csv").touch()
    with pytest.raises(DataError) as caught:
        read_data(tmp_path)
    message = str(caught.value)
    assert all(word in message for word in ("COCO", "VOC", "YOLO", "CSV", "data.yaml", "file000.csv", "100 entries"))
    assert message.count("\n") < 40
    assert max(map(len, message.splitlines()[1:])) <= 200
    for path in (tmp_path / "missing", tmp_path / "file000.csv"):
        with pytest.raises(DataError, match=path.name):
            read_data(path)
        with pytest.raises(DataError, match=path.name):
            list_splits(path)


def test_repr_of_a_dataset(tmp_path: Path) -> None:
    coco_folder(tmp_path)
    data = read_data(tmp_path, "train")
    assert repr(data) == "FileData(1 image, 1 object, 0 problems; 1 class: cat)"
    data.names = tuple("abcdef")
    assert repr(data).endswith("; 6 classes: a, b, c, d, e, ...)")


def test_broken_yaml_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [cat")
    with pytest.raises(DataError, match=r"data\.yaml: broken yaml"):
        read_data(tmp_path)


def test_the_real_data(shared: Path) -> None:
    root = shared / "data"
    assert {
        name: (detect_format(root / name), list_splits(root / name)) for name in ("bccd", "cards", "coco_ccby")
    } == {
        "bccd": ("voc", ["train", "val", "test", "trainval"]),
        "cards": ("voc", ["train", "test"]),
        "coco_ccby": ("coco", ["train", "val"]),
    }
    assert len(read_data(root / "coco_ccby", "validation")) == 45
    assert len(read_data(root / "cards" / "test")) == 67
