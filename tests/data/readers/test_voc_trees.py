"""VOC as tools write it: subfolders, other folder names, outlines, rotation, flags, corners that count from 1."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from annotated_sets import content, image, reasons, write
from hypothesis import given
from hypothesis import strategies as st

from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import SAME_IMAGE
from gfocal.data.outlines import OUTLINE, ROTATED
from gfocal.data.readers.voc import COUNTED_FROM_1, read_voc
from gfocal.data.readers.voc_files import LISTED_WITHOUT_XML, NO_XML_OF_NAME
from gfocal.data.validation import MALFORMED, MISSING, NO_XML
from gfocal.data.writers.voc import _plus_one
from gfocal.errors import DataError

BOX = "<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>60</ymax></bndbox>"


def xml(*objects: str, filename: str = "", head: str = "") -> str:
    inner = "".join(f"<object>{one}</object>" for one in objects)
    return f"<annotation><filename>{filename}</filename>{head}{inner}</annotation>"


def cat(box: str = BOX, more: str = "", name: str = "cat") -> str:
    return f"<name>{name}</name>{box}{more}"


def test_subfolders_are_those_of_the_images(tmp_path: Path) -> None:
    """Annotations/a/x.xml with JPEGImages/a/x.jpg, and lists of a/x, as datumaro and CVAT write item ids with /."""
    for camera, name in (("a", "cat"), ("b", "dog")):
        write(tmp_path / "Annotations" / camera / "x.xml", xml(cat(name=name), filename="x.jpg"))
        image(tmp_path / "JPEGImages" / camera / "x.jpg")
    write(tmp_path / "Annotations" / "b" / "y.xml", xml(cat(), filename="y.jpg"))
    image(tmp_path / "JPEGImages" / "b" / "y.jpg")
    image(tmp_path / "JPEGImages" / "a" / "new.jpg")
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a/x\nb/x\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "y\n# a comment\nx\n")
    assert (detect_format(tmp_path), list_splits(tmp_path)) == ("voc", ["train", "val"])
    data = read_data(tmp_path, "train")
    assert [(s.path.parent.name, [data.names[i] for i in s.labels]) for s in data.samples if s.path] == [
        ("a", ["cat"]),
        ("b", ["dog"]),
    ]
    val = read_data(tmp_path, "val")
    assert list(content(val)) == ["y"]
    assert reasons(val) == {NO_XML_OF_NAME: 1}  # x may be two
    everything = read_data(tmp_path)
    assert len(everything) == 3
    assert reasons(everything) == {NO_XML: 1}


def test_an_image_is_never_taken_for_that_of_another_subfolder(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a" / "x.xml", xml(cat(name="cat"), filename="x.jpg"))
    write(tmp_path / "Annotations" / "b" / "x.xml", xml(cat(name="dog"), filename="x.jpg"))
    image(tmp_path / "JPEGImages" / "b" / "x.jpg")
    data = read_data(tmp_path)
    assert content(data) == {"x": [("dog", [10, 20, 30, 60], False)]}
    assert reasons(data) == {SAME_IMAGE: 1}


@pytest.mark.parametrize(
    ("annotations", "images"),
    [("labels", "data"), ("Annotations", "images"), ("annotations/xmls", "images"), ("xml", "images"), ("", "")],
)
def test_names_of_folders(tmp_path: Path, annotations: str, images: str) -> None:
    """FiftyOne's data/ and labels/, Oxford pets' annotations/xmls, and LabelImg beside the images."""
    for split in ("", "train", "valid"):
        home = tmp_path / ("splits" if split else "whole") / split
        write(home / annotations / "a.xml", xml(cat(), filename="/home/somebody/set/a.jpg"))
        image(home / images / "a.jpg")
    assert content(read_data(tmp_path / "whole")) == {"a": [("cat", [10, 20, 30, 60], False)]}
    assert list_splits(tmp_path / "splits") == ["train", "val"]
    data = read_data(tmp_path / "splits", "val")
    assert [sample.path for sample in data.samples] == [tmp_path / "splits" / "valid" / images / "a.jpg"]
    assert data.problems == []


def test_labelimg_beside_the_images_of_several_folders(tmp_path: Path) -> None:
    """LabelImg saves an xml file beside each image of the folder that is open."""
    for folder in ("monday", "tuesday"):
        write(tmp_path / folder / "0001.xml", xml(cat(), filename="0001.jpg"))
        image(tmp_path / folder / "0001.jpg")
    data = read_data(tmp_path)
    assert [sample.path.parent.name for sample in data.samples if sample.path] == ["monday", "tuesday"]
    with pytest.raises(DataError, match="no split 'train'"):
        read_data(tmp_path, "train")


def test_images_that_datumaro_lists_without_xml_have_no_objects(tmp_path: Path) -> None:
    """datumaro lists background images in ImageSets, writes no xml for them, and the classes to labelmap.txt."""
    write(tmp_path / "Annotations" / "a.xml", xml(cat(), filename="a.jpg"))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\nempty\ngone\n")
    for name in ("a", "empty"):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
    data = read_data(tmp_path, "train")
    assert list(content(data)) == ["a"]
    assert reasons(data) == {NO_XML_OF_NAME: 2}
    write(tmp_path / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nowl:::\ncat:::\n")
    data = read_data(tmp_path, "train")
    assert data.names == ("owl", "cat")
    assert content(data) == {"a": [("cat", [10, 20, 30, 60], False)], "empty": []}
    assert reasons(data) == {NO_XML_OF_NAME: 1, LISTED_WITHOUT_XML: 1}
    assert not data.untrained


def attribute(name: str, value: str) -> str:
    return f"<attributes><attribute><name>{name}</name><value>{value}</value></attribute></attributes>"


@pytest.mark.parametrize(
    ("entry", "box", "reason"),
    [
        # CVAT: the box before it is rotated about its center, and degrees in an attribute.
        (cat(more=attribute("rotation", "90.0")), [0, 30, 40, 50], ROTATED),
        (cat(more=attribute("rotation", "0.0")), [10, 20, 30, 60], None),
        (cat(more=attribute("rotation", "180")), [10, 20, 30, 60], None),
        # roLabelImg: center, size and radians.
        (
            cat("<robndbox><cx>20</cx><cy>40</cy><w>20</w><h>40</h><angle>1.5707963267948966</angle></robndbox>"),
            [0, 30, 40, 50],
            ROTATED,
        ),
        # Outlines of LabelMe's web tool and of Roboflow, where the box is lacking.
        (cat("<polygon><pt><x>10</x><y>20</y></pt><pt><x>30</x><y>60</y></pt></polygon>"), [10, 20, 30, 60], OUTLINE),
        (
            cat("<polygon><x1>10</x1><y1>60</y1><x2>30</x2><y2>20</y2><x3>12</x3><y3>21</y3></polygon>"),
            [10, 20, 30, 60],
            OUTLINE,
        ),
        (cat(more="<polygon><x1>0</x1><y1>0</y1><x2>1</x2><y2>1</y2></polygon>"), [10, 20, 30, 60], None),
    ],
)
def test_boxes_around_what_is_no_upright_box(
    tmp_path: Path, entry: str, box: list[float], reason: str | None
) -> None:
    write(tmp_path / "a.xml", xml(entry, filename="a.jpg"))
    image(tmp_path / "a.jpg")
    data = read_data(tmp_path)
    torch.testing.assert_close(data.samples[0].boxes, torch.tensor([box], dtype=torch.float32))
    assert reasons(data) == ({reason: 1} if reason else {})


@pytest.mark.parametrize(
    ("more", "ignored"),
    [
        ("<difficult>1</difficult>", True),
        ("<difficult>True</difficult>", True),
        ("<difficult/>", False),  # labelme2voc
        ("<iscrowd>1</iscrowd>", True),  # FiftyOne
        ("<truncated>1</truncated><occluded>True</occluded>", False),
        (attribute("is_crowd", "True"), True),
        (attribute("difficult", "False"), False),
    ],
)
def test_flags(tmp_path: Path, more: str, ignored: bool) -> None:
    write(tmp_path / "a.xml", xml(cat(more=more), cat(name="dog"), filename="a.jpg"))
    image(tmp_path / "a.jpg")
    assert content(read_data(tmp_path))["a"][0] == ("cat", [10, 20, 30, 60], ignored)


def test_an_image_whose_objects_have_no_box_is_no_background(tmp_path: Path) -> None:
    write(tmp_path / "a.xml", xml("<name>cat</name>", filename="a.jpg"))
    write(tmp_path / "b.xml", xml(cat(), filename="b.jpg"))
    for name in "ab":
        image(tmp_path / f"{name}.jpg")
    data = read_data(tmp_path)
    assert reasons(data)[MALFORMED] == 1
    assert data.untrained == {1}


def test_corners_that_count_from_1(tmp_path: Path) -> None:
    """The VOC challenge: xmin 11, xmax 30 are the pixels 10 to 29 from 0; its files name themselves in <source>."""
    head = "<source><database>The VOC2007 Database</database><annotation>PASCAL VOC2007</annotation></source>"
    write(
        tmp_path / "a.xml", xml(cat(BOX.replace(">10<", ">11<").replace(">20<", ">21<")), filename="a.jpg", head=head)
    )
    image(tmp_path / "a.jpg")
    data = read_data(tmp_path)
    assert data.samples[0].boxes.tolist() == [[11, 21, 30, 60]]
    assert reasons(data) == {COUNTED_FROM_1: 1}
    assert read_voc(tmp_path, one_based=True).samples[0].boxes.tolist() == [[10, 20, 30, 60]]
    write(tmp_path / "gfocal.json", json.dumps({"voc_one_based": True}))
    data = read_data(tmp_path)
    assert data.samples[0].boxes.tolist() == [[10, 20, 30, 60]]
    assert data.problems == []
    assert read_voc(tmp_path, one_based=False).samples[0].boxes.tolist() == [[11, 21, 30, 60]]
    write(tmp_path / "gfocal.json", json.dumps({"voc_one_based": "yes"}))
    with pytest.raises(DataError, match="'yes' is neither true nor false"):
        read_data(tmp_path)


@given(st.floats(0, 1e5, width=32))
def test_1_is_added_and_subtracted_exactly(value: float) -> None:
    from gfocal.data.readers.voc_xml import _less_one
    from gfocal.data.writers.decimals import format_decimal

    assert torch.tensor(_less_one(_plus_one(format_decimal(value))), dtype=torch.float32).item() == value


def test_a_missing_image_is_said(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a" / "x.xml", xml(cat()))
    write(tmp_path / "Annotations" / "a" / "y.xml", xml(cat()))
    image(tmp_path / "JPEGImages" / "a" / "y.jpg")
    assert reasons(read_data(tmp_path)) == {MISSING: 1}
