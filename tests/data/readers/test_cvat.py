"""CVAT's xml for images and for video, of tasks and of projects with subsets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_files import boxes, corners, outcomes, write_images

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.outlines import OUTLINE, ROTATED
from gfocal.data.readers.cvat import NO_NAMES, UNKNOWN_SHAPE
from gfocal.data.readers.reading import BROKEN_BOX, EMPTY_IMAGES, WITHOUT_CLASS
from gfocal.data.readers.unboxed import NEVER_A_BOX
from gfocal.errors import DataError

CORNERS = 'xtl="10" ytl="20" xbr="40" ybr="60"'


def box(label: str = "cat", more: str = "", inner: str = "", place: str = CORNERS) -> str:
    return f'<box label="{label}" source="manual" occluded="1" {place} z_order="0" {more}>{inner}</box>'


def image(name: str, *shapes: str, more: str = "", number: int = 0) -> str:
    return f'<image id="{number}" name="{name}" width="100" height="80" {more}>{"".join(shapes)}</image>'


def meta(*labels: str, of: str = "task", more: str = "") -> str:
    kinds = dict(label.split(":") if ":" in label else (label, "rectangle") for label in labels)
    listed = "".join(f"<label><name>{name}</name><type>{kind}</type></label>" for name, kind in kinds.items())
    return f"<meta><{of}><labels>{listed}</labels>{more}</{of}></meta>"


def write(file: Path, *parts: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{"".join(parts)}</annotations>'
    )
    return file


def test_task(tmp_path: Path) -> None:
    """Classes are in the order of the task; names may have folders; corners are edges (CVAT, format-cvat.md)."""
    write_images(tmp_path / "images", "a.jpg", "sub/b.jpg", "c.jpg")
    flag = '<attribute name="difficult">true</attribute><attribute name="color">red</attribute>'
    write(
        tmp_path / "annotations.xml",
        meta("dog", "cat", "scene:tag"),
        image("a.jpg", box(), box("dog", place='xtl="0.50" ytl="0" xbr="100" ybr="80"', inner=flag), number=4),
        image("sub/b.jpg", box(), number=7),
        image("c.jpg", number=9),
    )
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "cvat"
    assert list_splits(tmp_path) == []
    assert data.names == ("dog", "cat")
    assert boxes(data)["a.jpg"] == [("cat", [10, 20, 40, 60], False), ("dog", [0.5, 0, 100, 80], True)]
    assert [sample.image_id for sample in data.samples] == [4, 7, 9]
    assert outcomes(data) == {(EMPTY_IMAGES, "kept"): 1}
    assert corners(read_data(tmp_path / "annotations.xml")) == corners(data)


def test_project_with_subsets(tmp_path: Path) -> None:
    """One name in several subsets, ids that start again in each task, images/<subset>/ (datumaro's test assets)."""
    subsets = {"Train": "train", "Validation": "val", "extra": "extra"}
    shift = {subset: number for number, subset in enumerate(subsets)}
    for subset in subsets:
        write_images(tmp_path / "images" / subset, "a.jpg")
    images = [
        image(
            "a.jpg",
            box(place=f'xtl="{shift[subset]}" ytl="0" xbr="40" ybr="60"'),
            more=f'subset="{subset}" task_id="1"',
        )
        for subset in subsets
    ]
    write(tmp_path / "annotations.xml", meta("cat", of="project"), *images)
    assert list_splits(tmp_path) == ["train", "val", "extra"]
    for subset, split in subsets.items():
        data = read_data(tmp_path, split)
        assert corners(data) == {"a.jpg": [[shift[subset], 0, 40, 60]]}
        assert data.samples[0].path == tmp_path / "images" / subset / "a.jpg"
        assert not data.problems


def test_a_file_for_each_split(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.jpg", "b.jpg")
    write(tmp_path / "annotations" / "train.xml", meta("cat"), image("a.jpg", box()))
    write(tmp_path / "annotations" / "val.xml", meta("cat", "dog"), image("b.jpg", box("dog")))
    assert list_splits(tmp_path) == ["train", "val"]
    assert read_data(tmp_path, "val").names == read_data(tmp_path, "train").names == ("cat", "dog")
    assert corners(read_data(tmp_path / "annotations" / "train.xml")) == {"a.jpg": [[10, 20, 40, 60]]}


def test_rotation_is_about_the_center(tmp_path: Path) -> None:
    """cvat/apps/dataset_manager/formats/transformations.py, RotatedBoxesToPolygons: clockwise."""
    write_images(tmp_path, "a.jpg")
    rotated = [box(more=f'rotation="{degrees}"') for degrees in ("0.00", "90.00", "180.00", "45.00")]
    write(tmp_path / "a.xml", image("a.jpg", *rotated))
    data = read_data(tmp_path)
    half = 35 * 2**0.5 / 2  # of the hull at 45 degrees, of a box of 30x40
    assert corners(data)["a.jpg"] == [
        [10, 20, 40, 60],
        [5, 25, 45, 55],
        pytest.approx([25 - half, 40 - half, 25 + half, 40 + half], abs=1e-3),
    ]
    assert outcomes(data)[ROTATED, "kept"] == 1


def test_other_shapes(tmp_path: Path) -> None:
    """All shapes of CVAT's documentation of the format; a mask is run lengths in a window of the image."""
    write_images(tmp_path, *(f"{letter}.jpg" for letter in "abcdefgh"))
    mask = '<mask label="cat" rle="1, 2, 3, 1, 2" left="10" top="20" width="3" height="3"/>'
    write(
        tmp_path / "annotations.xml",
        meta("cat", "lane:polyline", "nose:points"),
        image("a.jpg", box(), '<polygon label="cat" points="1.00,2.00;30.00,4.00;6.00,50.00"/>', mask),
        image("b.jpg", box(), '<polyline label="lane" points="1,2;3,4"/>', '<points label="nose" points="1,2"/>'),
        image("c.jpg", box(), '<tag label="cat" source="manual"/>'),
        image("d.jpg", '<tag label="sunny" source="manual"/>'),
        image("e.jpg", '<ellipse label="cat" cx="50" cy="40" rx="10" ry="20" rotation="90"/>'),
        image("f.jpg", box(), '<blob label="cat"/>'),
        image("g.jpg", box(), box(place='xtl="10" ytl="20" xbr="x" ybr="60"')),
        image("h.jpg", box(""), box()),
    )
    data = read_data(tmp_path)
    assert data.names == ("cat",)
    found = corners(data)
    assert sorted(found) == ["a.jpg", "b.jpg", "e.jpg", "h.jpg"]
    assert found["a.jpg"] == [[10, 20, 40, 60], [1, 2, 30, 50], [10, 20, 13, 23]]
    assert found["e.jpg"] == [[30, 30, 70, 50]]
    assert data.samples[3].crowd.tolist() == [True, False]
    assert outcomes(data) == {
        (OUTLINE, "kept"): 1,
        (NEVER_A_BOX, "skipped"): 1,
        (OBJECTS_WITHOUT_BOX, "left out"): 2,
        (UNKNOWN_SHAPE, "left out"): 1,
        (BROKEN_BOX, "left out"): 1,
        (WITHOUT_CLASS, "kept"): 1,
    }


@pytest.mark.parametrize(
    ("rle", "expected"),
    [
        ("0, 9", [10, 20, 13, 23]),
        ("4, 1, 4", [11, 21, 12, 22]),
        ("1, 1, 7", [11, 20, 12, 21]),
        ("5, 1, 2, 1", [12, 21, 13, 23]),
    ],
)
def test_box_of_a_mask(tmp_path: Path, rle: str, expected: list[float]) -> None:
    write_images(tmp_path, "a.jpg")
    write(
        tmp_path / "a.xml", image("a.jpg", f'<mask label="cat" rle="{rle}" left="10" top="20" width="3" height="3"/>')
    )
    assert corners(read_data(tmp_path)) == {"a.jpg": [expected]}


def test_video(tmp_path: Path) -> None:
    """Boxes with outside="1" are not visible; frames are numbered by start_frame and step (CVAT for video 1.1)."""
    write_images(tmp_path / "images", "frame_000010.png", "frame_000013.PNG", "frame_000016.png", "frame_000011.png")

    def shape(frame: int, outside: int, left: int) -> str:
        place = f'xtl="{left}" ytl="20" xbr="40" ybr="60"'
        return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="1" {place} z_order="0"/>'

    frames = "<mode>interpolation</mode><start_frame>10</start_frame><stop_frame>16</stop_frame>"
    frames += (
        "<frame_filter>step=3</frame_filter><original_size><width>100</width><height>80</height></original_size>"
    )
    write(
        tmp_path / "annotations.xml",
        meta("cat", "dog", more=frames),
        f'<track id="0" label="cat">{shape(10, 0, 1)}{shape(13, 1, 2)}</track>',
        f'<track id="1" label="dog">{shape(10, 0, 3)}{shape(13, 1, 4)}</track>',
    )
    data = read_data(tmp_path)
    assert corners(data) == {
        "frame_000010.png": [[1, 20, 40, 60], [3, 20, 40, 60]],
        "frame_000013.PNG": [],
        "frame_000016.png": [],
    }
    assert [sample.image_id for sample in data.samples] == [10, 13, 16]
    assert outcomes(data)[NO_NAMES, "kept"] == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<annotations>", "broken xml"),
        ("<annotations/>", "without <image> and <track>"),
        ('<!DOCTYPE a [<!ENTITY x "y">]><annotations><image name="&x;"/></annotations>', "broken xml"),
        ('<annotations><track id="0"><box frame="x"/></track></annotations>', "without a frame number"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "annotations.xml").write_text(text)
    with pytest.raises(DataError, match=expected):
        read_data(tmp_path)


@given(
    st.sampled_from(("xtl", "ybr", "rotation", "label", "occluded")),
    st.text(st.characters(codec="ascii"), max_size=6),
)
def test_any_attribute_gives_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    from xml.sax.saxutils import quoteattr

    root = tmp_path_factory.mktemp("any")
    write_images(root, "a.jpg", "b.jpg")
    given_values = {"label": "cat", "xtl": "1", "ytl": "2", "xbr": "50", "ybr": "60", "rotation": "0", key: value}
    text = "".join(c for c in " ".join(f"{k}={quoteattr(v)}" for k, v in given_values.items()) if c.isprintable())
    write(root / "a.xml", image("a.jpg", f"<box {text}/>"), image("b.jpg", box()))
    assert corners(read_data(root))["b.jpg"] == [[10, 20, 40, 60]]
