"""Label Studio: raw json, JSON_MIN, files of a target storage, and its exports to COCO and YOLO."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_files import corners, outcomes, write_images, write_json

from gfocal.data.annotated import NOT_ANNOTATED, OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.locate import FOUND_BY_LAST_PARTS
from gfocal.data.outlines import OUTLINE, ROTATED
from gfocal.data.readers.label_files import UNREADABLE_OBJECTS
from gfocal.data.readers.label_studio import (
    BROKEN_REGION,
    MAYBE_WHOLE,
    SEVERAL,
    SEVERAL_IMAGES,
    SEVERAL_LABELS,
    SKIPPED_TASK,
    TURNED,
)
from gfocal.data.readers.label_studio_yolo import ORDER_DIFFERS
from gfocal.data.readers.reading import BROKEN_BOX, WITHOUT_CLASS
from gfocal.data.readers.unboxed import NEVER_A_BOX
from gfocal.data.validation import REPEATED_IMAGE
from gfocal.errors import DataError

WIDTH, HEIGHT = 100, 80  # of the images of ``write_images``


def rectangle(
    x: Any = 10, y: Any = 20, width: Any = 30, height: Any = 40, label: str = "cat", rotation: Any = 0, **more: Any
) -> dict[str, Any]:
    """A region, in percent."""
    value = {"x": x, "y": y, "width": width, "height": height, "rotation": rotation, "rectanglelabels": [label]}
    return region("rectanglelabels", value, **more)


def region(kind: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    return {"from_name": "label", "to_name": "image", "type": kind, "value": value, **sizes, **more}


def annotation(*results: Any, **more: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "completed_by": 1,
        "was_cancelled": False,
        "ground_truth": False,
        "result": list(results),
        **more,
    }


def task(name: str, *annotations: Any, number: int = 1) -> dict[str, Any]:
    return {"id": number, "annotations": list(annotations), "predictions": [], "data": {"image": name}}


def read(root: Path, *tasks: Any, **options: Any) -> Any:
    write_json(root / "project-1-at-2026-01-01.json", list(tasks))
    return read_data(root, **options)


def test_boxes_are_percent_of_the_image(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.jpg", "b.jpg")
    data = read(
        tmp_path, task("/data/upload/1/0a1b2c3d-a.jpg", annotation(rectangle())), task("images/b.jpg", annotation())
    )
    assert detect_format(tmp_path) == "labelstudio"
    assert list_splits(tmp_path) == []
    assert data.names == ("cat",)
    assert corners(data) == {"a.jpg": [[10, 16, 40, 48]], "b.jpg": []}
    assert outcomes(data) == {(FOUND_BY_LAST_PARTS, "kept"): 1}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("0a1b2c3d-a.jpg", "0a1b2c3d-a.jpg"),
        ("/data/upload/3/0a1b2c3d-a.jpg", "a.jpg"),
        ("https://host.example/x/a.jpg?token=1", "a.jpg"),
        ("https://host.example/x/a.jpg", "5f6e7d8c__a.jpg"),
        ("s3://bucket/x/a.jpg", "5f6e7d8c__a.jpg"),
        ("a.jpg", "5f6e7d8c-a.jpg"),
    ],
)
def test_prefixes_of_uploads_and_addresses(tmp_path: Path, name: str, file: str) -> None:
    """8 hexadecimal digits and - for uploads, and __ for what the export fetched (label-studio-sdk 2.1.2)."""
    write_images(tmp_path / "images", file)
    assert corners(read(tmp_path, task(name, annotation(rectangle())))) == {file: [[10, 16, 40, 48]]}


def test_another_upload_of_the_same_name_is_another_image(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "5f6e7d8c-a.jpg")
    with pytest.raises(DataError, match="image file is missing"):
        read(tmp_path, task("0a1b2c3d-a.jpg", annotation(rectangle())))


def test_two_uploads_of_one_name_are_not_one_image(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.jpg", "b.jpg")
    tasks = [task(f"/data/upload/1/{prefix}-a.jpg", annotation(rectangle())) for prefix in ("0a1b2c3d", "ffffffff")]
    data = read(tmp_path, *tasks, task("b.jpg", annotation(rectangle())))
    assert corners(data) == {"b.jpg": [[10, 16, 40, 48]]}
    assert outcomes(data)["several names lead to one image by their last parts", "dropped"] == 2


def test_rotation_is_about_the_top_left_corner_in_pixels(tmp_path: Path) -> None:
    """As label_studio_sdk.converter.utils.convert_annotation_to_yolo_obb; its COCO export turns percent."""
    write_images(tmp_path, "a.jpg")
    data = read(tmp_path, task("a.jpg", annotation(rectangle(50, 25, 20, 25, rotation=90))))
    assert corners(data) == {"a.jpg": [[30, 20, 50, 40]]}
    assert outcomes(data) == {(ROTATED, "kept"): 1}


@given(st.floats(20, 60), st.floats(20, 60), st.floats(1, 20), st.floats(1, 20), st.floats(-720, 720))
def test_hull_of_a_rotated_box(
    tmp_path_factory: pytest.TempPathFactory, x: float, y: float, width: float, height: float, degrees: float
) -> None:
    root = tmp_path_factory.mktemp("rotated")
    write_images(root, "a.jpg")
    (found,) = corners(read(root, task("a.jpg", annotation(rectangle(x, y, width, height, rotation=degrees)))))[
        "a.jpg"
    ]
    angle = math.radians(degrees)
    left, top, w, h = x, y * 0.8, width, height * 0.8
    outline = [
        (left + u * math.cos(angle) - v * math.sin(angle), top + u * math.sin(angle) + v * math.cos(angle))
        for u, v in ((0, 0), (w, 0), (w, h), (0, h))
    ]
    xs, ys = zip(*outline, strict=True)
    expected = [max(min(xs), 0), max(min(ys), 0), min(max(xs), WIDTH), min(max(ys), HEIGHT)]
    assert found == pytest.approx(expected, abs=1e-3)


def test_skipped_and_unlabeled_tasks_are_not_background(tmp_path: Path) -> None:
    """Exports contain cancelled annotations, and with download_all_tasks all tasks (docs/guide/export)."""
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    data = read(
        tmp_path,
        task("a.jpg", annotation(rectangle(), was_cancelled=True)),
        task("b.jpg"),
        task("c.jpg", annotation(was_cancelled=True), annotation(rectangle())),
        {"id": 4, "completions": [annotation(rectangle(), skipped=True)], "data": {"image": "d.jpg"}},
    )
    assert corners(data) == {"c.jpg": [[10, 16, 40, 48]]}
    assert outcomes(data) == {(SKIPPED_TASK, "left out"): 2, (NOT_ANNOTATED, "left out"): 1}


def test_one_of_several_annotations_is_read(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg", "b.jpg")
    old = annotation(rectangle(0, 0, 10, 10), created_at="2025-01-01T00:00:00Z")
    new = annotation(rectangle(), created_at="2026-01-01T00:00:00Z")
    data = read(tmp_path, task("a.jpg", new, old), task("b.jpg", new, {**old, "ground_truth": True}))
    assert corners(data) == {"a.jpg": [[10, 16, 40, 48]], "b.jpg": [[0, 0, 10, 8]]}
    assert outcomes(data) == {(SEVERAL, "kept"): 1}
    assert data.problems[0].record == "2 tasks"


def test_labels_and_choices_of_a_region_are_joined_by_its_id(tmp_path: Path) -> None:
    """Rectangle with Labels, and perRegion choices, are results of one id that repeat the geometry."""
    write_images(tmp_path, "a.jpg")
    shape = {"x": 10, "y": 20, "width": 30, "height": 40, "rotation": 0}
    results = [
        region("rectangle", shape, id="r1"),
        region("labels", {**shape, "labels": ["cat"]}, id="r1"),
        region("choices", {**shape, "choices": ["difficult"]}, id="r1"),
        region("textarea", {"text": ["a note"]}, id="r1"),
        rectangle(0, 0, 10, 10, "dog", id="r2"),
        {"type": "relation", "from_id": "r1", "to_id": "r2", "direction": "right"},
    ]
    data = read(tmp_path, task("a.jpg", annotation(*results)))
    assert data.names == ("cat", "dog")
    assert data.samples[0].labels.tolist() == [0, 1]
    assert data.samples[0].crowd.tolist() == [True, False]
    assert not data.problems


def test_other_regions(tmp_path: Path) -> None:
    """polygonlabels, ellipselabels and keypointlabels, as in the sdk's data_polygons.json and data_keypoints.json."""
    write_images(tmp_path, *(f"{letter}.jpg" for letter in "abcdefgh"))
    polygon = region("polygonlabels", {"points": [[10, 10], [30, 10], [20, 50]], "polygonlabels": ["cat"]})
    ellipse = region(
        "ellipselabels", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0, "ellipselabels": ["cat"]}
    )
    point = region("keypointlabels", {"x": 1, "y": 1, "width": 0.1, "keypointlabels": ["nose"]})
    whole = {"type": "choices", "from_name": "choice", "to_name": "image", "value": {"choices": ["cat"]}}
    several = region(
        "rectanglelabels", {"x": 0, "y": 0, "width": 10, "height": 10, "rectanglelabels": ["cat", "dog"]}
    )
    unlabeled = region("rectanglelabels", {"x": 0, "y": 0, "width": 10, "height": 10})
    data = read(
        tmp_path,
        task("a.jpg", annotation(polygon, ellipse, point)),
        task("b.jpg", annotation(whole)),
        task("c.jpg", annotation(several)),
        task("d.jpg", annotation(rectangle(), unlabeled)),
        task("e.jpg", annotation(rectangle(), region("brushlabels", {"brushlabels": ["cat"], "rle": [1]}))),
        task("f.jpg", annotation(rectangle(image_rotation=90))),
        task("g.jpg", annotation(rectangle(x="x"))),
        task("h.jpg", annotation(rectangle(), "text")),
    )
    found = corners(data)
    assert sorted(found) == ["a.jpg", "c.jpg", "d.jpg"]
    assert found["a.jpg"] == [[10, 8, 30, 40], [40, 24, 60, 56]]
    assert data.samples[1].labels.tolist() == [0, 1]
    assert data.samples[2].crowd.tolist() == [False, True, True]  # without a label: an ignored region of all classes
    assert outcomes(data) == {
        (OUTLINE, "kept"): 1,
        (NEVER_A_BOX, "skipped"): 1,
        (SEVERAL_LABELS, "kept"): 1,
        (WITHOUT_CLASS, "kept"): 1,
        (OBJECTS_WITHOUT_BOX, "left out"): 2,
        (TURNED, "left out"): 1,
        (BROKEN_BOX, "left out"): 1,
        (BROKEN_REGION, "left out"): 1,
    }


def test_several_images_of_a_task(tmp_path: Path) -> None:
    """Two Image tags by their names; a list of pages by item_index."""
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg")
    pair = {
        "id": 1,
        "data": {"left": "a.jpg", "right": "b.jpg"},
        "annotations": [annotation(rectangle(to_name="right"))],
    }
    pages = {
        "id": 2,
        "data": {"pages": ["c.jpg", "d.jpg"]},
        "annotations": [annotation(rectangle(item_index=1, to_name="pdf"))],
    }
    unclear = {
        "id": 3,
        "data": {"one": "e.jpg", "two": "f.jpg"},
        "annotations": [annotation(rectangle(to_name="image"))],
    }
    data = read(tmp_path, pair, pages, unclear)
    assert {name: len(found) for name, found in corners(data).items()} == {
        "a.jpg": 0,
        "b.jpg": 1,
        "c.jpg": 0,
        "d.jpg": 1,
    }
    assert outcomes(data) == {(SEVERAL_IMAGES, "left out"): 2}


def test_classes_in_the_order_of_the_interface(tmp_path: Path) -> None:
    write_images(tmp_path, "a.jpg")
    labels = "".join(f'<Label value="{name}"/>' for name in ("dog", "cat", "R&amp;D"))
    interface = f'<View><Image name="image" value="$image"/><RectangleLabels name="l" toName="image">{labels}'
    (tmp_path / "label_config.xml").write_text(f"{interface}</RectangleLabels></View>")
    tasks = task("a.jpg", annotation(rectangle()))
    assert read(tmp_path, tasks).names == ("dog", "cat", "R&D")
    (tmp_path / "label_config.xml").write_text(
        "<View><RectangleLabels><Label value='other'/></RectangleLabels></View>"
    )
    assert read(tmp_path, tasks).names == ("cat",)


def minimal(name: str, *values: dict[str, Any], number: int = 1, annotation_id: int | None = 1) -> dict[str, Any]:
    record = {
        "image": name,
        "id": number,
        "annotator": 1,
        "annotation_id": annotation_id,
        "created_at": f"2026-0{number}",
    }
    return record | ({"label": list(values)} if values else {})


def minimal_box(x: float = 10) -> dict[str, Any]:
    value: dict[str, Any] = rectangle(x)["value"]
    return value | {"original_width": WIDTH, "original_height": HEIGHT}


def test_json_min(tmp_path: Path) -> None:
    """A record for each annotation, without a type (label_studio_sdk.converter.convert_to_json_min, 2.1.2)."""
    write_images(tmp_path, "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    polygon = {
        "points": [[0, 0], [10, 0], [0, 10]],
        "polygonlabels": ["dog"],
        "original_width": 100,
        "original_height": 80,
    }
    records = [
        minimal("a.jpg", minimal_box(), polygon),
        minimal("b.jpg", number=2),
        minimal("c.jpg", number=3, annotation_id=None),
        minimal("d.jpg", minimal_box(), number=4),
        minimal("d.jpg", minimal_box(0), number=4) | {"created_at": "2027", "sentiment": "good"},
    ]
    data = read(tmp_path, *records)
    assert detect_format(tmp_path) == "labelstudio"
    assert corners(data) == {"a.jpg": [[10, 16, 40, 48], [0, 0, 10, 8]], "b.jpg": [], "d.jpg": [[0, 16, 30, 48]]}
    assert outcomes(data) == {
        (OUTLINE, "kept"): 1,
        (MAYBE_WHOLE, "kept"): 1,
        (NOT_ANNOTATED, "left out"): 1,
        (SEVERAL, "kept"): 1,
    }


@pytest.mark.parametrize("suffix", ["", ".json"])
def test_a_file_for_each_annotation_or_task(tmp_path: Path, suffix: str) -> None:
    """Target storages get one file for each annotation, with its task inside, named by its number."""
    write_images(tmp_path / "images", "a.jpg", "b.jpg")
    for number, name in ((3, "a.jpg"), (11, "b.jpg")):
        one = annotation(rectangle()) | {"task": {"id": number, "data": {"image": name}}}
        write_json(tmp_path / f"{number}{suffix}", one)
    assert {name: len(found) for name, found in corners(read_data(tmp_path)).items()} == {"a.jpg": 1, "b.jpg": 1}
    for number, name in ((3, "a.jpg"), (11, "b.jpg")):
        write_json(tmp_path / f"{number}{suffix}", task(name, annotation(rectangle()), number=number))
    assert {name: len(found) for name, found in corners(read_data(tmp_path)).items()} == {"a.jpg": 1, "b.jpg": 1}


@pytest.mark.parametrize(
    "content", ["[1, 2]", '[{"annotations": [], "data": {}}]', '{"data": {"image": 3}, "annotations": [1]}']
)
def test_files_without_images_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=r"a\.json|no annotated images"):
        read_data(tmp_path / "a.json")


def coco(*names: str, first: int = 0) -> dict[str, Any]:
    return {
        "images": [{"id": i, "file_name": name, "width": WIDTH, "height": HEIGHT} for i, name in enumerate(names)],
        "categories": [{"id": first, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": first, "bbox": [i, 2, 30, 40], "iscrowd": 0, "ignore": 0}
            for i in range(len(names))
        ],
        "info": {"contributor": "Label Studio"},
    }


@pytest.mark.parametrize(
    "before",
    [
        "..\\..\\label-studio\\media\\upload\\4\\",
        "/label-studio/data/media/upload/4/",
        "images/1/",
        "images\\3\\",  # of a server on Windows
        "/data/local-files/?d=photos/",
        "https://storage.example.org/bucket/",
        "images/3fa1b2c4-",  # uploads, beside the files that were uploaded
    ],
)
def test_coco_export(tmp_path: Path, before: str) -> None:
    write_images(tmp_path / "images", "001.jpg", "002.jpg")
    write_json(tmp_path / "result.json", coco(f"{before}001.jpg", f"{before}002.jpg"))
    data = read_data(tmp_path)
    assert corners(data) == {"001.jpg": [[0, 2, 30, 42]], "002.jpg": [[1, 2, 31, 42]]}
    assert outcomes(data) == {(FOUND_BY_LAST_PARTS, "kept"): 2}


def test_coco_export_of_two_annotators_lists_an_image_twice(tmp_path: Path) -> None:
    """An entry for each annotation, the newest first (label_studio_sdk.converter.convert_to_coco, 2.1.2)."""
    write_images(tmp_path / "images", "001.jpg")
    write_json(tmp_path / "result.json", coco("images/001.jpg", "images/001.jpg"))
    data = read_data(tmp_path)
    assert corners(data) == {"001.jpg": [[0, 2, 30, 42]]}
    assert outcomes(data) == {(REPEATED_IMAGE, "dropped"): 1}


def yolo(root: Path, labels: dict[str, str], classes: str = "round\nsquare\n", ids: tuple[int, ...] = (0, 1)) -> None:
    (root / "labels").mkdir(parents=True)
    for name, text in labels.items():
        (root / "labels" / f"{name}.txt").write_text(text)
    (root / "classes.txt").write_text(classes)
    names = [{"id": i, "name": name} for i, name in zip(ids, ("round", "square"), strict=True)]
    write_json(root / "notes.json", {"categories": names, "info": {"contributor": "Label Studio"}})


def test_yolo_export(tmp_path: Path) -> None:
    """notes.json is no COCO file; skipped tasks have no label file; a label file has the name of the upload."""
    write_images(tmp_path / "images", "a.jpg", "b.jpg", "skipped.jpg", "0a1b2c3d__c.jpg")
    line = "1 0.5 0.5 0.2 0.5\n"
    yolo(tmp_path, {"0a1b2c3d-a": line, "b": "", "0a1b2c3d__c": "0 0.1 0.1 0.3 0.1 0.2 0.5\n"})
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "labelstudio-yolo"
    assert data.names == ("round", "square")
    assert corners(data) == {"0a1b2c3d__c.jpg": [[10, 8, 30, 40]], "a.jpg": [[40, 20, 60, 60]], "b.jpg": []}
    assert outcomes(data) == {(OUTLINE, "kept"): 1, (NOT_ANNOTATED, "left out"): 1, (FOUND_BY_LAST_PARTS, "kept"): 1}


def test_yolo_export_with_numbers_that_are_not_an_order(tmp_path: Path) -> None:
    """Explicit ``category`` numbers of labels: classes.txt only lists the names."""
    write_images(tmp_path / "images", "a.jpg")
    yolo(tmp_path, {"a": "7 0.5 0.5 0.2 0.5\n"}, ids=(7, 3))
    data = read_data(tmp_path)
    assert data.names == ("square", "round")
    assert data.category_ids == (3, 7)
    assert data.samples[0].labels.tolist() == [1]
    assert outcomes(data) == {(ORDER_DIFFERS, "kept"): 1}


def test_yolo_export_with_a_yaml_is_read_by_it(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.jpg")
    yolo(tmp_path, {"a": "1 0.5 0.5 0.2 0.5\n"})
    (tmp_path / "data.yaml").write_text("train: images\nnames: [round, square]\n")
    assert detect_format(tmp_path) == "yolo"
    assert corners(read_data(tmp_path)) == {"a.jpg": [[40, 20, 60, 60]]}


def test_lines_of_the_yolo_export_that_are_not_understood(tmp_path: Path) -> None:
    write_images(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
    yolo(
        tmp_path,
        {"a": "0 0.5 0.5 0.2 0.5", "b": "2 0.5 0.5 0.2 0.5", "c": "0 0.5 0.5 0.2", "d": "cat 0.5 0.5 0.2 0.5"},
    )
    data = read_data(tmp_path)
    assert sorted(corners(data)) == ["a.jpg"]
    assert outcomes(data) == {(UNREADABLE_OBJECTS, "left out"): 3}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
    )
)
def test_any_value_in_any_place_gives_data_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, value: Any
) -> None:
    root = tmp_path_factory.mktemp("any")
    write_images(root, "a.jpg", "b.jpg")
    good = task("b.jpg", annotation(rectangle()))
    for place in ("annotations", "data", "result", "value", "x", "image", "label", "rotation", "size"):
        broken = json.loads(json.dumps(task("a.jpg", annotation(rectangle()))))
        first = broken["annotations"][0]["result"][0]
        if place in broken:
            broken[place] = value
        elif place == "result":
            broken["annotations"][0]["result"] = value
        elif place == "value":
            first["value"] = value
        elif place == "image":
            broken["data"]["image"] = value
        elif place == "label":
            first["value"]["rectanglelabels"] = value
        elif place == "size":
            first["original_width"] = value
        else:
            first["value"][place] = value
        data = read(root, good, broken)
        assert corners(data)["b.jpg"] == [[10, 16, 40, 48]]
