"""Supervisely projects: pixel indices with the last one included, masks, tags, nested datasets, empty images."""

from __future__ import annotations

import base64
import io
import math
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.annotated import NOT_ANNOTATED, OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.outlines import OUTLINE, ROTATED
from gfocal.data.readers.reading import BROKEN_BOX, EMPTY_IMAGES, SCORED
from gfocal.data.readers.supervisely import MAX_MASK
from gfocal.errors import DataError


def one(
    name: str = "cat", corners: Any = ((10, 5), (39, 24)), kind: str = "rectangle", **more: Any
) -> dict[str, Any]:
    points = {"exterior": [list(corner) for corner in corners], "interior": []}
    return {"classTitle": name, "geometryType": kind, "points": points, "tags": []} | more


def write_dataset(folder: Path, **images: list[Any]) -> None:
    """A dataset of images a.jpg, b.jpg, ... with their objects."""
    for name, objects in images.items():
        write_images(folder / "img", f"{name}.jpg")
        content = {"description": "", "tags": [], "size": {"height": 80, "width": 100}, "objects": objects}
        write_json(folder / "ann" / f"{name}.jpg.json", content)


def write_meta(project: Path, *names: str) -> None:
    write_json(
        project / "meta.json",
        {
            "classes": [
                {"title": n, "shape": "rectangle", "color": "#0F498A", "id": 7 + k} for k, n in enumerate(names)
            ]
        },
    )


def png(columns: range, rows: range, size: tuple[int, int] = (8, 8), palette: bool = False) -> bytes:
    mask = Image.new("P" if palette else "L", size)
    if palette:
        mask.putpalette([0, 0, 0, 255, 255, 255])
    for x in columns:
        for y in rows:
            mask.putpixel((x, y), 1 if palette else 255)
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    return stream.getvalue()


def bitmap(data: bytes, origin: Any = (20, 30)) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    return {"classTitle": "cat", "geometryType": "bitmap", "bitmap": {"origin": list(origin), "data": text}}


def test_project(tmp_path: Path) -> None:
    """As written by sly.Project of supervisely 6.74.51, whose Rectangle is right - left + 1 wide."""
    write_meta(tmp_path, "dog", "cat", "unused")
    write_dataset(tmp_path / "ds1", a=[one(), one("dog", ((99, 79), (0, 0)))], b=[])
    write_dataset(tmp_path / "ds2", c=[one(tags=[{"name": "confidence", "value": 0.87}, {"name": "occluded"}])])
    data = read_data(tmp_path)
    assert detect_format(tmp_path) == "supervisely"
    assert (data.names, data.category_ids) == (("dog", "cat", "unused"), (7, 8, 9))
    assert boxes(data) == {
        "a.jpg": [("cat", [10, 5, 40, 25], False), ("dog", [0, 0, 100, 80], False)],
        "b.jpg": [],
        "c.jpg": [("cat", [10, 5, 40, 25], False)],
    }
    assert reasons(data) == {EMPTY_IMAGES: 1, SCORED: 1}


def test_one_dataset_alone_and_images_without_annotation(tmp_path: Path) -> None:
    write_meta(tmp_path, "dog", "cat")
    write_dataset(tmp_path / "ds", a=[one()])
    write_images(tmp_path / "ds" / "img", "b.jpg")
    data = read_data(tmp_path / "ds")
    assert data.names == ("dog", "cat")
    assert list(boxes(data)) == ["a.jpg"]
    assert reasons(data) == {NOT_ANNOTATED: 1}


def test_datasets_called_by_splits_and_nested_ones(tmp_path: Path) -> None:
    """datasets/ below a dataset, as in 01_Project_Structure_new.md of supervisely/docs."""
    write_meta(tmp_path, "cat")
    write_dataset(tmp_path / "train", a=[one()])
    write_dataset(tmp_path / "train" / "datasets" / "valid", b=[one()])
    write_dataset(tmp_path / "night", c=[one()])
    assert list_splits(tmp_path) == ["train", "val", "night"]
    assert [list(boxes(read_data(tmp_path, split))) for split in ("train", "val", "night")] == [
        ["a.jpg"],
        ["b.jpg"],
        ["c.jpg"],
    ]


def test_old_projects_name_annotations_without_the_suffix_of_the_image(tmp_path: Path) -> None:
    write_dataset(tmp_path / "ds", a=[one()])
    (tmp_path / "ds" / "ann" / "a.jpg.json").rename(tmp_path / "ds" / "ann" / "a.json")
    data = read_data(tmp_path)
    assert boxes(data) == {"a.jpg": [("cat", [10, 5, 40, 25], False)]}
    assert not data.problems


def test_outlines_rotated_boxes_and_the_geometry_of_videos(tmp_path: Path) -> None:
    """OrientedBBox.to_bbox of supervisely 6.74.51: radians, about the center."""
    turned = one("cat", ((10, 20), (49, 39)), "oriented_bbox", angle=math.pi / 2)
    nested = {"classTitle": "dog", "geometryType": "polygon", "geometry": {"points": one()["points"]}}
    nested["geometry"]["points"]["exterior"] = [[3, 2], [5, 20], [40, 15]]
    write_dataset(tmp_path / "ds", a=[turned, nested])
    data = read_data(tmp_path)
    assert boxes(data)["a.jpg"] == [("cat", [20, 10, 40, 50], False), ("dog", [3, 2, 41, 21], False)]
    assert reasons(data) == {OUTLINE: 1, ROTATED: 1}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("palette", [True, False])
def test_masks(tmp_path: Path, compressed: bool, palette: bool) -> None:
    """Bitmap.base64_2_data of supervisely 6.74.51 takes png as it is, and compressed by zlib."""
    data = png(range(2, 5), range(1, 7), palette=palette)
    write_dataset(tmp_path / "ds", a=[bitmap(zlib.compress(data) if compressed else data)])
    assert boxes(read_data(tmp_path))["a.jpg"] == [("cat", [22, 31, 25, 37], False)]


@pytest.mark.parametrize(
    "bad",
    [
        bitmap(b"no png"),
        bitmap(png(range(0), range(0))),
        bitmap(png(range(1), range(1)), origin=(1,)),
        bitmap(zlib.compress(b"\0" * (MAX_MASK + 100))),
        one(corners=((1, 2),)),
        one(corners=((1, 2), (3, "x"))),
        one(kind="new_shape"),
        7,
    ],
)
def test_what_is_not_understood_is_no_background(tmp_path: Path, bad: Any) -> None:
    write_dataset(tmp_path / "ds", a=[one(), bad], b=[one()])
    data = read_data(tmp_path)
    assert list(boxes(data)) == ["b.jpg"]
    assert reasons(data)[BROKEN_BOX] == 1


def test_points_and_ignored_objects(tmp_path: Path) -> None:
    point = one("cat", ((4, 5),), "point")
    ignored = one("cat", ((0, 0), (9, 9)), tags=[{"name": "Ignore", "value": None}])
    write_dataset(tmp_path / "ds", a=[one(), point], b=[one(), one("cat", ((50, 50), (60, 60))), ignored])
    data = read_data(tmp_path)
    assert [crowd for *_, crowd in boxes(data)["b.jpg"]] == [False, False, True]
    assert reasons(data) == {OBJECTS_WITHOUT_BOX: 1}


def test_broken_files_are_named(tmp_path: Path) -> None:
    write_dataset(tmp_path / "ds", a=[one()])
    (tmp_path / "ds" / "ann" / "a.jpg.json").write_text("{")
    with pytest.raises(DataError, match=r"a\.jpg\.json: broken json"):
        read_data(tmp_path)
    write_dataset(tmp_path / "ds", a=[one()])
    write_json(tmp_path / "meta.json", {"classes": [{"color": "red"}]})
    with pytest.raises(DataError, match=r"meta\.json.*title"):
        read_data(tmp_path)
