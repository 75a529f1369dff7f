"""Create ML json: boxes by their centers, both spellings of the keys, files with other conventions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.readers.createml import CORNERS, FRACTIONS
from gfocal.data.readers.reading import BROKEN_BOX, BROKEN_IMAGE, WITHOUT_CLASS
from gfocal.errors import DataError


def one(label: Any = "cat", x: Any = 55, y: Any = 50, width: Any = 90, height: Any = 60) -> dict[str, Any]:
    return {"label": label, "coordinates": {"x": x, "y": y, "width": width, "height": height}}


def test_x_and_y_are_those_of_the_center(tmp_path: Path) -> None:
    """Apple: MLObjectDetector.AnnotationType.boundingBox, whose default anchor is the center; empty images stay."""
    write_json(
        tmp_path / "_annotations.createml.json",
        [
            {"image": "a.jpg", "annotations": [one(), one("dog", 30.5, 20, 10, 8)]},
            {"image": "b.jpg", "annotations": []},
        ],
    )
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert detect_format(tmp_path) == "createml"
    assert boxes(data) == {
        "a.jpg": [("cat", [10, 20, 100, 80], False), ("dog", [25.5, 16, 35.5, 24], False)],
        "b.jpg": [],
    }
    assert not data.problems


def test_the_keys_of_the_reference(tmp_path: Path) -> None:
    """Apple's page on the json of MLObjectDetector.DataSource has imagefilename and annotation."""
    write_json(tmp_path / "a.json", [{"imagefilename": "a.jpg", "annotation": [one()]}])
    assert len(boxes(read_data(write_images(tmp_path, "a.jpg")))["a.jpg"]) == 1


def test_splits_of_a_roboflow_export(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        home = write_images(tmp_path / split, "a.jpg")
        write_json(home / "_annotations.createml.json", [{"image": "a.jpg", "annotations": [one(split)]}])
    assert list_splits(tmp_path) == ["train", "val"]
    data = read_data(tmp_path, "val")
    assert data.names == ("train", "valid")
    assert boxes(data)["a.jpg"][0][0] == "valid"


def test_fractions_are_recognized(tmp_path: Path) -> None:
    """The units .normalized of Apple's boundingBox, which the file does not state."""
    write_json(tmp_path / "a.json", [{"image": "a.jpg", "annotations": [one("cat", 0.5, 0.5, 0.2, 0.5)]}])
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert boxes(data)["a.jpg"] == [("cat", [40, 20, 60, 60], False)]
    assert reasons(data) == {FRACTIONS: 1}


def test_corners_in_place_of_centers_get_a_note(tmp_path: Path) -> None:
    """As in datumaro's tests/assets/roboflow_dataset/createml, which are made for its own reading of x and y."""
    write_json(tmp_path / "a.json", [{"image": "a.jpg", "annotations": [one("cat", 0, 0, 20, 40), one()]}])
    assert reasons(read_data(write_images(tmp_path, "a.jpg")))[CORNERS] == 1


def test_what_is_not_understood_is_no_background(tmp_path: Path) -> None:
    content = [
        {"image": "a.jpg", "annotations": [one(x="left")]},
        {"image": "b.jpg", "annotations": [{"label": "cat"}]},
        {"image": "c.jpg", "annotations": [one(), one(None, 30, 30, 9, 9), one("cat", 9, 9, 8, 8)]},
        {"image": "d.jpg"},
        7,
    ]
    write_json(tmp_path / "a.json", content)
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg"))
    assert [crowd for *_, crowd in boxes(data)["c.jpg"]] == [False, True, False]
    assert list(boxes(data)) == ["c.jpg"]
    assert reasons(data) == {BROKEN_BOX: 2, WITHOUT_CLASS: 1, BROKEN_IMAGE: 2}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[{"image": "a.jpg", "annotations": [{"coordinates": {"x": 1}}], }]')
    with pytest.raises(DataError, match=r"a\.json: broken json at line 1"):
        read_data(file)
    file.write_text('[{"image": "a.jpg", "annotations": [], "coordinates": {}, "more": ' + "[" * 100_000)
    with pytest.raises(DataError, match=r"a\.json"):
        read_data(file)
