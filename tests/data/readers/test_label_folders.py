"""KITTI and VisDrone: a text file of labels for each image."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from annotated_sets import content, image, reasons, write

from gfocal.data.annotated import NOT_ANNOTATED
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.readers.kitti import SCORES
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS
from gfocal.data.readers.visdrone import CLASSES
from gfocal.data.validation import MALFORMED, MISSING
from gfocal.errors import DataError

CAR = "Car 0.00 0 -1.57 10 20 50 60.5 1.5 1.7 4.2 2.5 1.8 12.0 -1.55\n"
VAN = "Van 0.80 2 -1.57 55 20 99 60 1.5 1.7 4.2 2.5 1.8 12.0 -1.55\n"
DONT_CARE = "DontCare -1 -1 -10 60 5 80 15 -1 -1 -1 -1000 -1000 -1000 -10\n"


def test_kitti_as_its_benchmark_distributes_it(tmp_path: Path) -> None:
    """The folders and columns of KITTI's devkit_object, with testing/ that has no labels."""
    for number, text in enumerate((CAR + DONT_CARE, VAN, "")):
        write(tmp_path / "training" / "label_2" / f"{number:06d}.txt", text)
    for number in range(4):
        image(tmp_path / "training" / "image_2" / f"{number:06d}.png")
        image(tmp_path / "training" / "image_3" / f"{number:06d}.png")
        image(tmp_path / "testing" / "image_2" / f"{number:06d}.png")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("kitti", ["train"])
    data = read_data(tmp_path)
    assert content(data) == {
        "000000": [
            ("Car", [10, 20, 50, 60.5], False),
            ("Car", [60, 5, 80, 15], True),  # of every class
            ("Van", [60, 5, 80, 15], True),
        ],
        "000001": [("Van", [55, 20, 99, 60], False)],  # truncated and occluded
        "000002": [],
    }
    assert all(sample.path and sample.path.parent.parent.name == "training" for sample in data.samples)
    assert reasons(data) == {NOT_ANNOTATED: 1}
    assert content(read_data(tmp_path / "training")) == content(data)


def test_kitti_split_by_lists(tmp_path: Path) -> None:
    """ImageSets/train.txt and val.txt, as OpenPCDet and MMDetection3D keep them beside training/."""
    for number, text in enumerate((CAR, VAN, CAR)):
        write(tmp_path / "training" / "label_2" / f"{number:06d}.txt", text)
        image(tmp_path / "training" / "image_2" / f"{number:06d}.png")
    write(tmp_path / "ImageSets" / "train.txt", "000000\n000002\n")
    write(tmp_path / "ImageSets" / "val.txt", "000001\n")
    write(tmp_path / "ImageSets" / "test.txt", "000009\n")
    assert list_splits(tmp_path) == ["train", "val"]
    assert [list(content(read_data(tmp_path, split))) for split in ("train", "val")] == [
        ["000000", "000002"],
        ["000001"],
    ]
    assert read_data(tmp_path, "val").names == ("Car", "Van")


def test_kitti_as_fiftyone_writes_it(tmp_path: Path) -> None:
    """data/ and labels/, True as a flag and a score as 16th column: fiftyone 1.22.1's KITTIDetectionDataset."""
    write(
        tmp_path / "labels" / "a.txt",
        "cat 0 True 0 6 8 36 28 0 0 0 0 0 0 0\ndog 0 0 0 0 0 60 40 0 0 0 0 0 0 0 0.9\n",
    )
    write(tmp_path / "labels" / "b.txt", "")
    for name in ("a.jpg", "b.png", "c.jpg"):
        image(tmp_path / "data" / name)
    assert detect_format(tmp_path) == "kitti"
    data = read_data(tmp_path)
    assert content(data) == {"a": [("cat", [6, 8, 36, 28], False), ("dog", [0, 0, 60, 40], False)], "b": []}
    assert reasons(data) == {SCORES: 1, NOT_ANNOTATED: 1}


def test_what_kitti_does_not_say_is_no_background(tmp_path: Path) -> None:
    write(tmp_path / "label_2" / "a.txt", CAR + "Car 0 0 0 1 2 x 4\n")
    write(tmp_path / "label_2" / "b.txt", CAR)
    write(tmp_path / "label_2" / "gone.txt", CAR)
    for name in "ab":
        image(tmp_path / "image_2" / f"{name}.png")
    data = read_data(tmp_path)
    assert list(content(data)) == ["b"]
    assert reasons(data) == {MALFORMED: 1, UNREADABLE_OBJECTS: 1, MISSING: 1}
    write(tmp_path / "label_2" / "a.txt", "0 3 " + CAR)
    with pytest.raises(DataError, match=r"a\.txt, line 1: starts with a number, as KITTI's tracking labels"):
        read_data(tmp_path)


def test_yolo_labels_are_not_kitti(tmp_path: Path) -> None:
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.1 0.1\n")
    image(tmp_path / "images" / "a.png")
    write(tmp_path / "classes.txt", "cat\n")
    assert detect_format(tmp_path) == "yolo"


LINES = (
    "10,20,30,40,1,4,0,1\n"  # car, partly occluded
    "50,20,10,10,1,1,1,0,\n"  # pedestrian, truncated; a comma at the end
    "0,0,20,10,0,0,0,0\n"  # ignored region
    "70,50,20,20,0,11,0,0\n"  # others
    "60,5,20,10,0,6,0,2\n"  # truck that is not considered
)


def test_visdrone_as_its_toolkit_describes_it(tmp_path: Path) -> None:
    """The columns of VisDrone2018-DET-toolkit's README, in the folders in which it is distributed."""
    for split, stem, text in (("train", "a", LINES), ("val", "b", LINES.replace("\n", "\r\n")), ("val", "c", "")):
        folder = tmp_path / f"VisDrone2019-DET-{split}"
        write(folder / "annotations" / f"{stem}.txt", text)
        image(folder / "images" / f"{stem}.jpg")
    image(tmp_path / "VisDrone2019-DET-test-challenge" / "images" / "d.jpg")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("visdrone", ["train", "val"])
    train, val = read_data(tmp_path, "train"), read_data(tmp_path, "val")
    assert (train.names, train.category_ids) == (CLASSES, tuple(range(1, 11)))
    objects = content(train)["a"]
    assert objects[:2] == [("car", [10, 20, 40, 60], False), ("pedestrian", [50, 20, 60, 30], False)]
    regions = Counter((tuple(box), crowd) for _, box, crowd in objects[2:])
    assert regions == {((0, 0, 20, 10), True): 10, ((70, 50, 90, 70), True): 10, ((60, 5, 80, 15), True): 1}
    assert content(val) == {"b": objects, "c": []}
    assert content(read_data(tmp_path / "VisDrone2019-DET-train")) == content(train)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1,0,10,20,30,40,1,4,0,0\n", "labels of VisDrone's videos"),
        ("10,20,30,40,0.93,4,-1,-1\n", "these are results of a detector"),
    ],
)
def test_other_files_of_visdrone_are_refused(tmp_path: Path, line: str, told: str) -> None:
    """Columns of VisDrone-VID, and of result files, in the toolkits' READMEs."""
    write(tmp_path / "annotations" / "a.txt", line)
    image(tmp_path / "images" / "a.jpg")
    with pytest.raises(DataError, match=told):
        read_data(tmp_path)


def test_categories_that_visdrone_does_not_have(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "a.txt", "10,20,30,40,1,12,0,0\n")
    write(tmp_path / "annotations" / "b.txt", LINES)
    for stem in "ab":
        image(tmp_path / "images" / f"{stem}.jpg")
    data = read_data(tmp_path)
    assert list(content(data)) == ["b"]
    assert reasons(data) == {MALFORMED: 1, UNREADABLE_OBJECTS: 1}
