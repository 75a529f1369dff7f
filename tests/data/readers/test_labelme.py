"""LabelMe json: all shapes, places of images, files that are not of LabelMe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_files import boxes, corners, outcomes, write_images, write_json

from gfocal.data.annotated import NOT_ANNOTATED, OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import FOUND_BY_LAST_PARTS
from gfocal.data.outlines import OUTLINE, ROTATED
from gfocal.data.readers.labelme import GROUPED, NOT_LABELME, UNKNOWN_SHAPE
from gfocal.data.readers.reading import BROKEN_BOX, BROKEN_IMAGE, WITHOUT_CLASS
from gfocal.data.readers.unboxed import NEVER_A_BOX
from gfocal.errors import DataError


def shape(kind: str | None = "rectangle", *points: Any, label: Any = "cat", **more: Any) -> dict[str, Any]:
    points = points or ([40, 60], [10, 20])  # any two opposite corners
    one = {"label": label, "points": list(points), "group_id": None, "flags": {}, **more}
    return one if kind is None else {**one, "shape_type": kind}


def content(name: str, *shapes: Any) -> dict[str, Any]:
    head = {"version": "5.5.0", "flags": {}, "shapes": list(shapes)}
    return head | {"imagePath": name, "imageData": None, "imageHeight": 80, "imageWidth": 100}


def test_json_beside_the_images(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg", "unlabeled.jpg")
    write_json(tmp_path / "a.json", content("a.jpg", shape(), shape(label="dog", flags={"difficult": True})))
    write_json(tmp_path / "b.json", content("b.jpg"))
    write_json(tmp_path / "settings.json", {"shapes": 1})
    (tmp_path / "c.json").write_text('{"shapes": [')
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "labelme"
    assert list_splits(tmp_path) == []
    assert boxes(data) == {"a.jpg": [("cat", [10, 20, 40, 60], False), ("dog", [10, 20, 40, 60], True)], "b.jpg": []}
    assert outcomes(data) == {
        (NOT_ANNOTATED, "left out"): 1,
        (NOT_LABELME, "skipped"): 1,
        (BROKEN_IMAGE, "left out"): 1,
    }
    assert corners(read_data(tmp_path / "a.json")) == {"a.jpg": [[10, 20, 40, 60], [10, 20, 40, 60]]}


def test_all_shapes(tmp_path: Path) -> None:
    """Shapes of labelme 7.1.0 and of X-AnyLabeling (rotation, difficult); files of 3.x have no shape_type."""
    write_images(tmp_path, *(f"{letter}.jpg" for letter in "abcdefg"))
    shapes = [
        shape(),
        shape("polygon", [1, 2], [30, 4], [6, 50]),
        shape(None, [1, 2], [31, 4], [6, 50]),
        shape("circle", [50, 40], [53, 44]),
        shape("mask", [10, 20], [19, 39], mask="iVBORw0KGgo="),
        shape("oriented_rectangle", [20, 10], [30, 20], [20, 30], [10, 20]),
        shape("rotation", [20, 10], [31, 20], [20, 30], [10, 20], direction=0.78),
        shape("rectangle", [1, 1], [9, 1], [9, 9], [1, 9], difficult=True),
    ]
    write_json(tmp_path / "a.json", content("a.jpg", *shapes))
    write_json(tmp_path / "b.json", content("b.jpg", shape(), shape("point", [1, 2], label="nose")))
    write_json(tmp_path / "c.json", content("c.jpg", shape("line", [1, 2], [3, 4], label="lane")))
    write_json(tmp_path / "d.json", content("d.jpg", shape(), shape("linestrip", [1, 2], [3, 4])))
    write_json(tmp_path / "e.json", content("e.jpg", shape(), shape("blob", [1, 2], [3, 4])))
    write_json(tmp_path / "f.json", content("f.jpg", shape(), shape("rectangle", [1, 2], [3, "x"])))
    write_json(tmp_path / "g.json", content("g.jpg", shape(), shape(label="")))
    data = read_data(tmp_path)
    found = corners(data)
    assert found["a.jpg"] == [
        [10, 20, 40, 60],
        [1, 2, 30, 50],
        [1, 2, 31, 50],
        [45, 35, 55, 45],
        [10, 20, 20, 40],  # corners of a mask are pixels, the last one included
        [10, 10, 30, 30],
        [10, 10, 31, 30],
        [1, 1, 9, 9],
    ]
    assert data.samples[0].crowd.tolist() == [False] * 7 + [True]
    assert sorted(found) == ["a.jpg", "b.jpg", "g.jpg"]
    assert outcomes(data) == {
        (OUTLINE, "kept"): 1,
        (ROTATED, "kept"): 1,
        (NEVER_A_BOX, "skipped"): 1,
        (OBJECTS_WITHOUT_BOX, "left out"): 2,
        (UNKNOWN_SHAPE, "left out"): 1,
        (BROKEN_BOX, "left out"): 1,
        (WITHOUT_CLASS, "kept"): 1,
        ("near-duplicate box of the same class", "kept"): 2,
    }


def test_outlines_of_a_group_are_one_object(tmp_path: Path) -> None:
    """As examples/instance_segmentation/labelme2coco.py of labelme; rectangles of a group stay apart."""
    write_images(tmp_path, "a.jpg")
    parts = [shape("polygon", [x, 10], [x + 10, 10], [x, 20], group_id=1) for x in (10, 60)]
    alone = shape("polygon", [30, 50], [40, 50], [30, 60])
    rectangles = [shape("rectangle", [x, 30], [x + 10, 40], group_id=1) for x in (10, 60)]
    write_json(tmp_path / "a.json", content("a.jpg", *parts, alone, *rectangles))
    data = read_data(tmp_path)
    assert corners(data) == {"a.jpg": [[10, 10, 70, 20], [30, 50, 40, 60], [10, 30, 20, 40], [60, 30, 70, 40]]}
    assert outcomes(data) == {(OUTLINE, "kept"): 1, (GROUPED, "kept"): 1}


def test_labels_with_a_meaning(tmp_path: Path) -> None:
    """__ignore__ and _background_ are the first lines of labels.txt in labelme's examples; the classes follow."""
    write_images(tmp_path, "a.jpg")
    regions = [shape(label="__ignore__"), shape(label="_background_"), shape("rectangle", [1, 1], [9, 9])]
    write_json(tmp_path / "a.json", content("a.jpg", *regions))
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\ndog\ncat\n")
    data = read_data(tmp_path)
    assert data.names == ("dog", "cat")
    assert [(name, crowd) for name, _, crowd in boxes(data)["a.jpg"]] == [
        ("dog", True),
        ("cat", True),
        ("cat", False),
    ]


@pytest.mark.parametrize(
    ("json_file", "stated", "image", "is_noted"),
    [
        ("a.json", "a.jpg", "a.jpg", False),
        ("annotations/a.json", "../images/a.jpg", "images/a.jpg", False),
        ("annotations/a.json", "..\\images\\a.jpg", "images/a.jpg", False),
        ("labels/a.json", "a.jpg", "images/a.jpg", False),
        ("a.json", "C:\\Users\\someone\\set\\a.jpg", "photos/a.jpg", True),
        ("a.json", "/home/someone/set/a.jpg", "a.jpg", True),
        ("a.json", "", "a.jpg", False),
    ],
)
def test_places_of_images(tmp_path: Path, json_file: str, stated: str, image: str, is_noted: bool) -> None:
    write_images(tmp_path, image)
    write_json(tmp_path / json_file, content(stated, shape()))
    data = read_data(tmp_path)
    assert corners(data) == {"a.jpg": [[10, 20, 40, 60]]}
    assert outcomes(data) == ({(FOUND_BY_LAST_PARTS, "kept"): 1} if is_noted else {})


@pytest.mark.parametrize("layout", ["{split}/{name}", "{split}/annotations/{name}", "annotations/{split}/{name}"])
def test_splits(tmp_path: Path, layout: str) -> None:
    for number, split in enumerate(("train", "val")):
        write_json(
            tmp_path / layout.format(split=split, name="a.json"),
            content("a.jpg", shape("rectangle", [number, 0], [9, 9])),
        )
        folder = f"images/{split}" if layout.startswith("annotations") else split
        write_images(tmp_path / folder, "a.jpg")
    assert list_splits(tmp_path) == ["train", "val"]
    for number, split in enumerate(("train", "val")):
        assert corners(read_data(tmp_path, split)) == {"a.jpg": [[number, 0, 9, 9]]}


def test_a_single_file_that_is_not_of_labelme(tmp_path: Path) -> None:
    file = write_json(tmp_path / "a.json", {"a": {"shapes": [], "imagePath": "a.jpg"}})
    with pytest.raises(DataError, match="has no list 'shapes'"):
        read_data(file)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_any_value_in_any_place_gives_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    root = tmp_path_factory.mktemp("any")
    write_images(root, "a.jpg", "b.jpg")
    write_json(root / "b.json", content("b.jpg", shape()))
    for key in ("label", "points", "shape_type", "group_id", "flags", "imagePath", "imageHeight", "shapes"):
        broken = content(
            "a.jpg", shape("polygon", [1, 2], [3, 4], [5, 6], group_id=1), shape("polygon", [1, 2], [3, 4], [9, 6])
        )
        if key in broken:
            broken[key] = value
        else:
            broken["shapes"][0][key] = value
        write_json(root / "a.json", broken)
        assert corners(read_data(root))["b.jpg"] == [[10, 20, 40, 60]]
