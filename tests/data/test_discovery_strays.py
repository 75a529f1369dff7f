"""Files of tools that lie beside a dataset decide nothing, and names of images of another machine are found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import FOUND_BY_LAST_PARTS
from gfocal.errors import DataError

YOLO_LINE = "0 0.5 0.5 0.2 0.5\n"


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(path)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo(root: Path, *splits: str) -> None:
    for split in splits:
        image(root / "images" / split / "a.png")
        write(root / "labels" / split / "a.txt", YOLO_LINE)
    write(root / "data.yaml", "".join(f"{split}: images/{split}\n" for split in splits) + "names: [cat]\n")


def coco(file: Path, *names: str) -> None:
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 40]} for i in range(len(names))]
    write(file, json.dumps({"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}))


def table(file: Path, *names: str) -> None:
    write(file, "filename,class,xmin,ymin,xmax,ymax\n" + "".join(f"{name},cat,1,2,31,42\n" for name in names))


def voc(file: Path, name: str) -> None:
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>31</xmax><ymax>42</ymax>"
    objects = f"<object><name>cat</name><bndbox>{corners}</bndbox></object>"
    write(file, f"<annotation><filename>{name}</filename>{objects}</annotation>")


STRAYS = {
    "label_config.xml": "<View><Image name='image' value='$image'/></View>",  # Label Studio
    "a.tif.aux.xml": "<PAMDataset/>",  # GDAL
    "pom.xml": "<?xml version='1.0'?>\n<!-- annotation -->\n<project/>",
    "project.json": '{"categories": ["cat"]}',
    "notes.json": '{"categories": [{"id": 0, "name": "cat"}], "info": {"contributor": "Label Studio"}}',
    "meta.json": '{"images": 4}',
    "dataset-metadata.json": '{"title": "a set", "resources": []}',  # Kaggle
    "README.roboflow.txt": "a set",
    "settings.data": "[a]\nb = c\n",
    "1.json": '{"annotations": []}',
}


@pytest.mark.parametrize("stray", STRAYS)
def test_strays_beside_a_dataset(tmp_path: Path, stray: str) -> None:
    """Label Studio's, GDAL's, Maven's and Kaggle's own files."""
    yolo(tmp_path / "yolo", "train", "val")
    coco(tmp_path / "coco" / "train" / "_annotations.coco.json", "a.png")
    coco(tmp_path / "coco" / "valid" / "_annotations.coco.json", "a.png")
    table(tmp_path / "csv" / "train.csv", "a.png")
    table(tmp_path / "csv" / "val.csv", "a.png")
    for split in ("train", "val"):
        voc(tmp_path / "voc" / split / "a.xml", "a.png")
        image(tmp_path / "voc" / split / "a.png")
    for folder in ("coco/train", "coco/valid", "csv/images"):
        image(tmp_path / folder / "a.png")
    for name in ("yolo", "coco", "csv", "voc"):
        root = tmp_path / name
        for place in (root, *(root / split for split in ("train", "valid", "val") if (root / split).is_dir())):
            write(place / stray, STRAYS[stray])
        assert detect_format(root) == name
        assert list_splits(root) == ["train", "val"]
        for split in ("train", "val"):
            assert len(read_data(root, split).table.boxes) == 1


BEFORE = (
    "/home/someone/set/images/train/",
    "C:\\Users\\someone\\set\\images\\train\\",
    "\\\\server\\share\\train\\",
    "/content/drive/MyDrive/set/train/",  # Colab
    "/kaggle/input/set/train/",
    "https://host.example/set/train/",
    "gs://bucket/set/train/",
    "../../datasets/set/train/",  # Ultralytics
    "/data/local-files/?d=set/train/",
)


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("kind", ["coco", "csv", "yolo", "voc"])
def test_paths_of_another_machine(tmp_path: Path, kind: str, before: str) -> None:
    for name in ("x.png", "y.png"):
        image(tmp_path / "images" / "train" / name)
    names = [f"{before}x.png", f"{before}y.png"]
    if kind == "coco":
        coco(tmp_path / "labels.json", *names)
    elif kind == "csv":
        table(tmp_path / "labels.csv", *names)
    elif kind == "yolo":
        write(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]\n")
        write(tmp_path / "train.txt", "".join(f"{name}\n" for name in names))
        for name in ("x", "y"):
            write(tmp_path / "labels" / "train" / f"{name}.txt", YOLO_LINE)
    else:
        for number, name in enumerate(names):
            voc(tmp_path / "Annotations" / f"{number}.xml", name)
    data = read_data(tmp_path)
    assert sorted(sample.path for sample in data.samples if sample.path) == [
        tmp_path / "images" / "train" / name for name in ("x.png", "y.png")
    ]
    assert len(data.table.boxes) == 2
    assert [problem.reason for problem in data.problems] == [FOUND_BY_LAST_PARTS] * 2


@pytest.mark.parametrize("kind", ["coco", "csv", "yolo"])
def test_a_name_that_fits_several_images_is_dropped_with_a_problem(tmp_path: Path, kind: str) -> None:
    for name in ("one/x.png", "two/x.png", "one/y.png"):
        image(tmp_path / "images" / name)
    names = ["/elsewhere/x.png", "/elsewhere/y.png"]
    if kind == "coco":
        coco(tmp_path / "labels.json", *names)
    elif kind == "csv":
        table(tmp_path / "labels.csv", *names)
    else:
        write(tmp_path / "data.yaml", "train: train.txt\nnames: [cat]\n")
        write(tmp_path / "train.txt", "".join(f"{name}\n" for name in names))
        write(tmp_path / "labels" / "one" / "y.txt", YOLO_LINE)
    data = read_data(tmp_path)
    assert [sample.path.name for sample in data.samples if sample.path] == ["y.png"]
    assert any("images/one/x.png, images/two/x.png" in problem.record for problem in data.problems)


def test_files_of_keypoints_are_coco(tmp_path: Path) -> None:
    """CVAT's COCO Keypoints export has only person_keypoints_<subset>.json; COCO's own set has instances_ too."""
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "a.png")
        coco(tmp_path / "annotations" / f"person_keypoints_{split}.json", "a.png")
    assert detect_format(tmp_path) == "coco"
    assert list_splits(tmp_path) == ["train", "val"]
    coco(tmp_path / "annotations" / "instances_train.json", "a.png")
    assert list_splits(tmp_path) == ["train"]


@pytest.mark.parametrize("folder", ["images/train", "train/images", "images"])
def test_images_without_labels_are_no_yolo_dataset(tmp_path: Path, folder: str) -> None:
    """The message asks for no classes.txt: what is missing are annotations."""
    image(tmp_path / folder / "a.png")
    with pytest.raises(DataError, match="no annotated images found") as caught:
        read_data(tmp_path)
    assert "classes.txt" not in str(caught.value).replace("notes.json and classes.txt", "")
