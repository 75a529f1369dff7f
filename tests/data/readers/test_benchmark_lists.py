"""CrowdHuman, WIDER FACE, MOTChallenge and Open Images: one annotation file for many images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from annotated_sets import content, image, reasons, write

from gfocal.data.annotated import NOT_ANNOTATED, OBJECTS_WITHOUT_BOX, read_annotated
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.readers.crowdhuman import crowdhuman_format
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS
from gfocal.data.readers.mot import BETWEEN, COPY, NOT_CONSIDERED
from gfocal.data.readers.openimages import NO_NAME, UNKNOWN_GROUP, UNVERIFIED
from gfocal.data.validation import MALFORMED
from gfocal.errors import DataError

PERSON = {
    "tag": "person",
    "hbox": [20, 5, 8, 8],
    "head_attr": {"ignore": 0, "occ": 1, "unsure": 0},
    "fbox": [-5, 10, 30, 60],
    "vbox": [0, 10, 25, 40],
    "extra": {"box_id": 0, "occ": 1},
}
FAR = {**PERSON, "fbox": [50, 10, 20, 40], "hbox": [55, 10, 6, 6], "extra": {"ignore": 1}, "head_attr": {"ignore": 1}}
MASK = {"tag": "mask", "hbox": [0, 0, 0, 0], "head_attr": {}, "fbox": [70, 0, 30, 30], "vbox": [70, 0, 30, 30]}


def odgt(*entries: object) -> str:
    return "".join(json.dumps(entry) + "\n" for entry in entries)


def test_crowdhuman_with_each_of_its_boxes(tmp_path: Path) -> None:
    """The fields that crowdhuman.org/download.html describes; ids have a comma and no suffix."""
    ids = ("273271,1a02900084ed5ae8", "273271,c9db000d5146c15", "284193,faa9000f2678b5e")
    write(
        tmp_path / "annotation_train.odgt",
        odgt({"ID": ids[0], "gtboxes": [PERSON, FAR, MASK]}, {"ID": ids[1], "gtboxes": []}),
    )
    write(tmp_path / "annotation_val.odgt", odgt({"ID": ids[2], "gtboxes": [PERSON]}))
    for name in ids:
        image(tmp_path / "Images" / f"{name}.jpg")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("crowdhuman", ["train", "val"])
    data = read_data(tmp_path, "train")
    full = [
        ("person", [0, 10, 25, 70], False),
        ("person", [50, 10, 70, 50], True),
        ("person", [70, 0, 100, 30], True),
    ]
    assert content(data) == {ids[0]: full, ids[1]: []}
    visible = read_annotated(tmp_path, crowdhuman_format("visible"), "train")
    assert content(visible)[ids[0]][0] == ("person", [0, 10, 25, 50], False)
    head = read_annotated(tmp_path, crowdhuman_format("head"), "train")
    assert content(head)[ids[0]] == [
        ("head", [20, 5, 28, 13], False),
        ("head", [55, 10, 61, 16], True),
        ("head", [70, 0, 100, 30], True),  # all of the mask
    ]


def test_persons_of_crowdhuman_without_a_box(tmp_path: Path) -> None:
    broken = [{**PERSON, "fbox": value} for value in ([1, 2, 3], None, "x", [1, 2, True, 4], [1, 2, 10**400, 4])]
    entries = [{"ID": f"i{number}", "gtboxes": [PERSON, one]} for number, one in enumerate(broken)]
    write(tmp_path / "a.odgt", odgt(*entries, {"ID": "good", "gtboxes": [PERSON]}, {"ID": "open"}))
    for name in [*(f"i{number}" for number in range(5)), "good", "open"]:
        image(tmp_path / f"{name}.png")
    data = read_data(tmp_path / "a.odgt")
    assert list(content(data)) == ["good"]
    found = reasons(data)
    assert (found[MALFORMED], found[OBJECTS_WITHOUT_BOX], found[NOT_ANNOTATED]) == (5, 5, 1)
    for text, told in (("[" * 100_000, "broken json"), ("[]", "not a json object"), ('{"gtboxes": []}', "no ID")):
        write(tmp_path / "a.odgt", text)
        with pytest.raises(DataError, match=f"line 1.*{told}"):
            read_data(tmp_path / "a.odgt")


FACES = """0--Parade/a.jpg
3
1 2 20 30 2 0 0 0 2 0
40 2 20 30 0 0 0 1 0 0
70 2 20 30 0 0 1 0 0 1
0--Parade/empty.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/b.jpg
1
5 6 7 8 0 0 0 0 0 0
"""


def test_widerface_with_an_image_without_faces(tmp_path: Path) -> None:
    """wider_face_split's readme; a count of 0 is followed by a line of zeros, as torchvision's reader expects."""
    write(tmp_path / "wider_face_split" / "wider_face_train_bbx_gt.txt", FACES.replace("\n", " \n"))
    write(tmp_path / "wider_face_split" / "wider_face_val_bbx_gt.txt", "2--Demo/c.jpg\n1\n5 6 7 8\n")
    for name in ("0--Parade/a", "0--Parade/empty", "1--Handshaking/b"):
        image(tmp_path / "WIDER_train" / "images" / f"{name}.jpg")
    image(tmp_path / "WIDER_val" / "images" / "2--Demo" / "c.jpg")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("widerface", ["train", "val"])
    data = read_data(tmp_path, "train")
    assert data.names == ("face",)
    assert content(data) == {
        "a": [("face", [1, 2, 21, 32], False), ("face", [40, 2, 60, 32], True), ("face", [70, 2, 90, 32], False)],
        "empty": [],
        "b": [("face", [5, 6, 12, 14], False)],
    }
    assert reasons(data) == {}
    assert content(read_data(tmp_path, "val")) == {"c": [("face", [5, 6, 12, 14], False)]}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("3\n1 2", "4\n1 2", "has count 4, and 3 lines of faces"),
        ("3\n1 2", "2\n1 2", "not the name of an image: '70 2"),
        ("0\n0 0 0 0", "0\n9 9 9 9", "has count 0, and a face"),
        ("3\n1 2", "1 2", "not the count of faces"),
        ("1 2 20 30", "1 2 x 30", "has count 3, and 0 lines"),
    ],
)
def test_counts_of_widerface_that_do_not_fit(tmp_path: Path, old: str, new: str, told: str) -> None:
    write(tmp_path / "wider_face_train_bbx_gt.txt", FACES.replace(old, new, 1))
    image(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=told):
        read_data(tmp_path)


INFO = "[Sequence]\nname={}\nimDir=img1\nframeRate=25\nseqLength=5\nimWidth=100\nimHeight=80\nimExt=.jpg\n"
ROWS = (
    "2,1,10,20,30,40,1,1,0.9\n"
    "2,2,50,20,20,30,0,1,0.2\n"  # pedestrian that is not considered
    "4,1,12,20,30,40,1,1,0.9\n"
    "4,3,60,5,20,20,0,8,1\n"  # distractor
    "4,4,0,0,10,10,0,3,1\n"  # car
)


def sequence(folder: Path, rows: str = ROWS, info: bool = True) -> None:
    write(folder / "gt" / "gt.txt", rows)
    if info:
        write(folder / "seqinfo.ini", INFO.format(folder.name))
    for number in range(1, 7):
        image(folder / "img1" / f"{number:06d}.jpg")


def test_mot_with_copies_of_a_sequence(tmp_path: Path) -> None:
    """MOT17: sequences once for each detector, flag and class of its paper; frames without rows in between."""
    for name in ("MOT17-02-DPM", "MOT17-02-FRCNN"):
        sequence(tmp_path / "train" / name)
    for number in (1, 2):
        image(tmp_path / "test" / "MOT17-01-DPM" / "img1" / f"{number:06d}.jpg")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("mot", ["train"])
    data = read_data(tmp_path)
    assert (data.names, data.category_ids) == (("pedestrian",), (1,))
    assert content(data) == {
        "000002": [("pedestrian", [10, 20, 40, 60], False), ("pedestrian", [50, 20, 70, 50], True)],
        "000003": [],
        "000004": [("pedestrian", [12, 20, 42, 60], False), ("pedestrian", [60, 5, 80, 25], True)],
    }
    assert reasons(data) == {COPY: 1, BETWEEN: 1, NOT_CONSIDERED: 1, NOT_ANNOTATED: 3}
    assert content(read_data(tmp_path / "train" / "MOT17-02-DPM")) == content(data)


def test_mot_without_seqinfo_and_with_its_own_classes(tmp_path: Path) -> None:
    """gt/labels.txt of CVAT and datumaro: class numbers are its lines, from 1; and MOT15's ten columns."""
    sequence(tmp_path / "a", "1,-1,0,4,40,8,1,2,1.0\n2,-1,0,4,40,8,1,1,1.0\n", info=False)
    write(tmp_path / "a" / "gt" / "labels.txt", "cat\ndog\nowl\n")
    data = read_data(tmp_path / "a")
    assert data.names == ("cat", "dog", "owl")
    assert content(data) == {"000001": [("dog", [0, 4, 40, 12], False)], "000002": [("cat", [0, 4, 40, 12], False)]}
    sequence(tmp_path / "b", "1,1,10,20,30,40,1,-1,-1,-1\n1,2,50,20,20,20,0,3.5,-1.2,0\n", info=False)
    assert content(read_data(tmp_path / "b")) == {
        "000001": [("pedestrian", [10, 20, 40, 60], False), ("pedestrian", [50, 20, 70, 40], True)]
    }


def test_rows_that_are_not_of_mot(tmp_path: Path) -> None:
    sequence(tmp_path, "1,1,10,20,30,40,1,1,1\n2,1,10,20,30,40,1,99,1\n")
    data = read_data(tmp_path)
    assert list(content(data)) == ["000001"]
    assert reasons(data)[UNREADABLE_OBJECTS] == reasons(data)[MALFORMED] == 1
    sequence(tmp_path, "1 2005 2 1080 1920 WSV:2d;1O10\n")
    with pytest.raises(DataError, match=r"masks \(MOTS\) are not read"):
        read_data(tmp_path)
    sequence(tmp_path, ROWS)
    write(tmp_path / "seqinfo.ini", INFO.replace("img1", "../../secret"))
    with pytest.raises(DataError, match="is not the name of a folder in"):
        read_data(tmp_path)


HEADER = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


def test_openimages_of_version_6(tmp_path: Path) -> None:
    """Names and columns of storage.googleapis.com/openimages/web; XMin, XMax, YMin, YMax in this order."""
    rows = "0a1b,xclick,/m/01,1,0.1,0.5,0.25,0.75,1,1,0,0,0\n0a1b,xclick,/m/02,1,0,1,0,0.5,0,0,1,0,0\n"
    write(tmp_path / "annotations" / "oidv6-train-annotations-bbox.csv", HEADER + rows)
    write(tmp_path / "annotations" / "validation-annotations-bbox.csv", HEADER + rows.replace("0a1b", "2c2c"))
    write(
        tmp_path / "annotations" / "train-annotations-human-imagelabels.csv", "ImageID,Source,LabelName,Confidence\n"
    )
    names = 'LabelName,DisplayName\n/m/01,Cat\n/m/02,"Dog, small"\n/m/03,Owl\n'
    write(tmp_path / "annotations" / "oidv6-class-descriptions.csv", names)
    write(tmp_path / "annotations" / "bbox_labels_600_hierarchy.json", '{"LabelName": "/m/0bl9f", "Subcategory": []}')
    for name in ("train/0a1b.jpg", "train/0000.jpg", "validation/2c2c.png"):
        image(tmp_path / "images" / name)
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("openimages", ["train", "val"])
    data = read_data(tmp_path, "train")
    assert data.names == ("Cat", "Dog, small")
    assert content(data) == {"0a1b": [("Cat", [10, 20, 50, 60], False), ("Dog, small", [0, 0, 100, 40], True)]}
    assert reasons(data) == {UNVERIFIED: 1, NOT_ANNOTATED: 1}
    assert list(content(read_data(tmp_path, "val"))) == ["2c2c"]


def test_openimages_as_fiftyone_downloads_it(tmp_path: Path) -> None:
    """train/labels/detections.csv with train/metadata/classes.csv and train/data/ of fiftyone's zoo."""
    write(
        tmp_path / "train" / "labels" / "detections.csv", HEADER + "0a1b,xclick,/m/9,1,0.1,0.5,0.25,0.75,0,0,-1,0,0\n"
    )
    write(tmp_path / "train" / "metadata" / "classes.csv", "/m/01,Cat\n")
    image(tmp_path / "train" / "data" / "0a1b.jpg")
    data = read_data(tmp_path)
    assert content(data) == {"0a1b": [("/m/9", [10, 20, 50, 60], False)]}
    assert reasons(data) == {UNVERIFIED: 1, NO_NAME: 1, UNKNOWN_GROUP: 1}


def test_rows_of_openimages_without_a_box(tmp_path: Path) -> None:
    rows = "a,x,cat,1,0.1,0.5,0.25,0.75,0,0,0,0,0\na,x,cat,1,,,,,0,0,0,0,0\nb,x,cat,1,0.1,0.5,0.25,0.75,0,0,0,0,0\n"
    write(tmp_path / "t.csv", HEADER + rows)
    for name in "ab":
        image(tmp_path / f"{name}.jpg")
    data = read_data(tmp_path / "t.csv")
    assert list(content(data)) == ["b"]
    assert reasons(data) == {UNVERIFIED: 1, MALFORMED: 1, UNREADABLE_OBJECTS: 1}
    write(tmp_path / "t.csv", HEADER + "a,x,cat\n")
    with pytest.raises(DataError, match="line 2: 3 cells, the header has 13"):
        read_data(tmp_path / "t.csv")
