"""What the message says of a folder that no format matches: what is there, and how it can be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from gfocal.data.discovery import list_splits, read_data
from gfocal.errors import DataError

DOTA = "imagesource:GoogleEarth\ngsd:0.1\n385.0 98.0 523.0 98.0 523.0 198.0 385.0 198.0 ship 0\n"
VOTT = {"name": "x", "assets": {"1": {"asset": {}, "regions": [{"boundingBox": {"left": 1}}]}}}
VIA3 = {"project": {"vid_list": ["1"]}, "config": {}, "attribute": {}, "file": {}, "metadata": {}, "view": {}}


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (100, 80)).save(path)


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("project.json", json.dumps(VIA3), "project.json: VIA 3 project, which is not read: export it from VIA 3"),
        ("x-export.json", json.dumps(VOTT), "VoTT export, which is not read: export it from VoTT as Pascal VOC"),
        ("output.manifest", json.dumps({"source-ref": "s3://b/a.jpg"}), "manifest of SageMaker Ground Truth"),
        ("train/metadata.jsonl", json.dumps({"file_name": "a.jpg"}), "train/metadata.jsonl: lines of json"),
        ("labelTxt/a.txt", DOTA, "labelTxt/a.txt: rotated boxes of DOTA, which are not read"),
        ("train/labelTxt/a.txt", DOTA, "train/labelTxt/a.txt: rotated boxes of DOTA"),
        ("samples.json", json.dumps({"samples": [{"_cls": "x"}]}), "FiftyOne dataset, which is not read: export it"),
        ("train.txt", "a.jpg 1,2,30,40,0 5,6,20,30,1\n", "train.txt: images with their boxes x1,y1,x2,y2,class"),
        ("a.csv", "when,what\n1,2\n", "a.csv: not a table of boxes: its first line (when, what) has no file and"),
        ("a.txt", "1 385.0 98.0 523.0 198.0\n", "a.txt: lines of a class and numbers"),
    ],
)
def test_files_that_are_not_read_are_named_with_the_way(tmp_path: Path, file: str, content: str, said: str) -> None:
    image(tmp_path / "a.jpg")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(DataError, match="no annotated images found") as caught:
        read_data(tmp_path)
    seen = str(caught.value).partition("Seen, and not read:\n")[2]
    assert said in seen
    assert len(seen.splitlines()) == 1


def test_a_dataset_in_a_subfolder_is_named(tmp_path: Path) -> None:
    inner = tmp_path / "data"
    image(inner / "obj" / "a.png")
    (inner / "obj" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (inner / "obj.names").write_text("cat\n")
    (inner / "train.txt").write_text("data/obj/a.png\n")
    (inner / "obj.data").write_text("classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    with pytest.raises(DataError, match="data/ looks like Darknet YOLO: give that folder"):
        read_data(tmp_path)
    assert len(read_data(inner)) == 1


@pytest.mark.parametrize("home", ["", "train"])
def test_labels_of_yolo_beside_the_images(tmp_path: Path, home: str) -> None:
    """As LabelImg writes them, with its classes.txt."""
    for name in ("a", "b"):
        image(tmp_path / home / f"{name}.png")
        (tmp_path / home / f"{name}.txt").write_text("1 0.5 0.5 0.2 0.25\n")
    with pytest.raises(DataError, match="no class names: add a"):
        read_data(tmp_path)
    (tmp_path / home / "classes.txt").write_text("cat\ndog\n")
    assert list_splits(tmp_path) == [home or "all"]
    data = read_data(tmp_path)
    assert data.names == ("cat", "dog")
    assert data.table.boxes.tolist() == [[40, 30, 60, 50]] * 2
    assert data.problems == []


def test_a_table_whose_column_of_files_has_another_name(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "train.csv").write_text("frame,xmin,xmax,ymin,ymax,class_id\na.png,10,30,20,60,3\n")
    data = read_data(tmp_path)
    assert data.table.boxes.tolist() == [[10, 20, 30, 60]]


def test_predictions_of_label_studio_are_no_annotations(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    task = {"id": 1, "data": {"image": "a.png"}, "annotations": [], "predictions": [{"result": []}]}
    (tmp_path / "tasks.json").write_text(json.dumps([task]))
    with pytest.raises(DataError, match="predictions of a model are not annotations"):
        read_data(tmp_path)
