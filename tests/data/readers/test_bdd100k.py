"""BDD100K and Scalabel json: lists for each split, a file for each image, inclusive corners, ignored objects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.masks import MASK_SIZE
from gfocal.data.outlines import OUTLINE
from gfocal.data.readers.bdd100k import AREAS, BENCHMARK_IGNORES, NO_LABELS
from gfocal.data.readers.reading import BROKEN_BOX, BROKEN_IMAGE
from gfocal.errors import DataError


def one(category: str = "car", x1: Any = 10, y1: Any = 16, x2: Any = 59, y2: Any = 55, **more: Any) -> dict[str, Any]:
    attributes = {"occluded": True, "truncated": True, "trafficLightColor": "NA"}
    box = {"x1": x1, "y1": y1, "x2": x2, "y2": y2}
    return {"id": "0", "category": category, "attributes": attributes, "manualShape": True, "box2d": box} | more


def frame(name: str, *labels: Any, **more: Any) -> dict[str, Any]:
    attributes = {"weather": "clear", "timeofday": "daytime", "scene": "highway"}
    return {"name": name, "attributes": attributes, "timestamp": 10000, "labels": list(labels)} | more


CAR = ("car", [10, 16, 60, 56], False)


def test_lists_of_2020(tmp_path: Path) -> None:
    """doc/source/format.rst of bdd100k: frames without objects lack labels; Scalabel's box2d_to_bbox adds 1."""
    empty = {key: value for key, value in frame("b.jpg").items() if key != "labels"}
    lists = {
        "train": [frame("a.jpg", one(), one("rider", x1=70, x2=79)), empty, frame("c.jpg") | {"labels": None}],
        "val": [frame("a.jpg", one("pedestrian"))],
    }
    for split, frames in lists.items():
        write_json(tmp_path / "labels" / "det_20" / f"det_{split}.json", frames)
        write_images(tmp_path / "images" / "100k" / split, "a.jpg", "b.jpg", "c.jpg")
    assert detect_format(tmp_path) == "bdd100k"
    assert list_splits(tmp_path) == ["train", "val"]
    data = read_data(tmp_path, "train")
    assert (data.names, data.category_ids) == (("rider", "car", "pedestrian"), (2, 3, 1))
    assert boxes(data) == {"a.jpg": [CAR, ("rider", [70, 16, 80, 56], False)], "b.jpg": [], "c.jpg": []}
    assert reasons(data) == {NO_LABELS: 1}
    val = read_data(tmp_path, "val").sample(0).path
    assert val == tmp_path / "images" / "100k" / "val" / "a.jpg"


def test_files_of_single_images_of_2018(tmp_path: Path) -> None:
    """labels/100k/train/<id>.json: names without suffix, objects below frames; lanes are polygons alone."""
    lane = {"category": "lane/road curb", "id": 4, "attributes": {}, "poly2d": [[1, 2, "L"], [3, 4, "L"]]}
    area = {"category": "drivable area", "id": 5, "poly2d": [{"vertices": [[1, 2], [3, 4]], "types": "LL"}]}
    for name, objects in (("a", [one("bike"), lane, area]), ("b", [])):
        content = {"name": name, "attributes": {}, "frames": [{"timestamp": 10000, "objects": objects}]}
        write_json(tmp_path / "labels" / "100k" / "train" / f"{name}.json", content)
        write_images(tmp_path / "images" / "100k" / "train", f"{name}.jpg")
    assert list_splits(tmp_path) == ["train"]
    data = read_data(tmp_path)
    assert boxes(data) == {"a.jpg": [("bike", *CAR[1:])], "b.jpg": []}
    assert reasons(data) == {AREAS: 1}


def test_scalabel_states_classes_and_sizes(tmp_path: Path) -> None:
    """Scalabel's dict with frames and config; polygons and masks of Scalabel 0.3.1."""
    categories = [{"name": "vehicle", "subcategories": [{"name": "trailer"}, {"name": "car"}]}, {"name": "sign"}]
    polygon = {"id": "1", "category": "sign", "poly2d": [{"vertices": [[1, 2], [9, 4], [5, 8]], "closed": True}]}
    mask = {"id": "2", "category": "sign", "rle": {"size": [80, 100], "counts": "PP11P\\8"}}
    frames = [frame("a.jpg", one("trailer"), polygon, size={"width": 100, "height": 80}), frame("b.jpg", mask)]
    write_json(tmp_path / "a.json", {"frames": frames, "groups": None, "config": {"categories": categories}})
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert data.names == ("trailer", "car", "sign")
    assert boxes(data)["a.jpg"] == [("trailer", *CAR[1:]), ("sign", [1, 2, 9, 8], False)]
    assert reasons(data)[OUTLINE] == 1


def test_a_mask_of_another_size_than_its_image(tmp_path: Path) -> None:
    mask = {"id": "2", "category": "car", "rle": {"size": [100, 80], "counts": "PP11P\\8"}}
    size = {"width": 100, "height": 80}
    write_json(tmp_path / "a.json", [frame("a.jpg", one(), size=size), frame("b.jpg", mask, size=size)])
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert list(boxes(data)) == ["a.jpg"]
    assert reasons(data)[MASK_SIZE] == 1


def test_ignored_objects(tmp_path: Path) -> None:
    """bdd100k/configs/det.toml: other person, other vehicle and trailer are ignored with a class each."""
    crowd = one("car", x1=70, x2=79) | {"attributes": {"crowd": True}}
    labels = [one(), one("car", 0, 0, 9, 9), one("bus", 1, 1, 9, 9), crowd, one("other vehicle", 80, 0, 89, 9)]
    write_json(tmp_path / "a.json", [frame("a.jpg", *labels)])
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert data.names == ("car", "bus")
    assert [(name, crowd) for name, _, crowd in boxes(data)["a.jpg"]] == [
        ("car", False),
        ("car", False),
        ("bus", False),
        ("car", True),
        ("car", True),
    ]
    assert reasons(data) == {BENCHMARK_IGNORES: 1}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (one(x2="?"), BROKEN_BOX),
        (one() | {"box2d": {"x1": 1}}, BROKEN_BOX),
        (one() | {"box2d": None}, OBJECTS_WITHOUT_BOX),
        ({"id": "1", "category": "car", "box3d": {}}, OBJECTS_WITHOUT_BOX),
        (7, BROKEN_BOX),
    ],
)
def test_what_is_not_understood_is_no_background(tmp_path: Path, bad: Any, reason: str) -> None:
    write_json(tmp_path / "a.json", [frame("a.jpg", bad), frame("b.jpg", one()), {"labels": []}])
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert list(boxes(data)) == ["b.jpg"]
    assert reasons(data) == {reason: 1, BROKEN_IMAGE: 1}


def test_a_list_of_something_else_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json"):
        read_data(write_json(tmp_path / "a.json", [{"category": 1, "name": 4, "box2d": 3}]))
