"""VIA project and annotation json, and csv: regions, the attribute that is the class, images that are left out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_files import boxes, reasons, write_images, write_json

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.discovery import detect_format, list_splits, read_data
from gfocal.data.outlines import OUTLINE
from gfocal.data.readers.reading import BROKEN_BOX, BROKEN_IMAGE, EMPTY_IMAGES, WITHOUT_CLASS
from gfocal.data.readers.unboxed import NEVER_A_BOX
from gfocal.data.readers.via import CHOSEN, ROWS_MISSING, SEVERAL_CLASSES
from gfocal.errors import DataError


def rect(x: Any = 10, y: Any = 20, width: Any = 30, height: Any = 40) -> dict[str, Any]:
    return {"name": "rect", "x": x, "y": y, "width": width, "height": height}


def region(shape: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(name: str, *regions: Any, size: Any = 1) -> dict[str, Any]:
    return {"filename": name, "size": size, "regions": list(regions), "file_attributes": {}}


def annotations(*entries: dict[str, Any]) -> dict[str, Any]:
    return {f"{one['filename']}{one['size']}": one for one in entries}


def project(images: dict[str, Any], **region_attributes: Any) -> dict[str, Any]:
    return {
        "_via_settings": {"ui": {}, "core": {"filepath": {}}, "project": {"name": "one"}},
        "_via_img_metadata": images,
        "_via_attributes": {"region": region_attributes, "file": {}},
        "_via_data_format_version": "2.0.10",
        "_via_image_id_list": list(images),
    }


def options(**named: str) -> dict[str, Any]:
    return {"type": "dropdown", "description": "", "options": named, "default_options": {}}


HEADER = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"


def test_project_with_options(tmp_path: Path) -> None:
    """Names of classes are the descriptions of options, in order, as in VIA's own export to COCO (2.0.10)."""
    images = annotations(
        entry("a.jpg", region(rect(), kind="mf"), region(rect(0, 0, 5, 5), kind="bc")), entry("b.jpg")
    )
    write_json(tmp_path / "via_project.json", project(images, kind=options(bc="Benedict", mf="Martin", na="Unknown")))
    data = read_data(write_images(tmp_path, "a.jpg", "images/b.jpg"))
    assert data.names == ("Benedict", "Martin", "Unknown")
    assert boxes(data) == {
        "a.jpg": [("Martin", [10, 20, 40, 60], False), ("Benedict", [0, 0, 5, 5], False)],
        "b.jpg": [],
    }
    assert reasons(data) == {CHOSEN: 1, EMPTY_IMAGES: 1}


def test_version_1_has_regions_by_number(tmp_path: Path) -> None:
    """As via-1.x.y/tests/data/unit_test_annotation2.json of VIA: ellipses, a circle, a polygon, a point."""
    shapes = [
        {"name": "ellipse", "cx": 30, "cy": 40, "rx": 20, "ry": 10},
        {"name": "circle", "cx": "50", "cy": "40", "r": "7"},
        {"name": "polygon", "all_points_x": [5, 1, 9, 5], "all_points_y": [2, 8, 4, 2]},
    ]
    one = entry("a.jpg") | {"regions": {str(k): region(s, name="x") for k, s in enumerate(shapes)}, "fileref": ""}
    point = entry("b.jpg", region({"name": "point", "cx": 5, "cy": 6}, name="x"), region(rect(), name="x"))
    write_json(tmp_path / "via.json", annotations(one, point))
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert [box for _, box, _ in boxes(data)["a.jpg"]] == [[10, 30, 50, 50], [43, 33, 57, 47], [1, 2, 9, 8]]
    assert reasons(data) == {CHOSEN: 1, OUTLINE: 1, OBJECTS_WITHOUT_BOX: 1}
    assert "b.jpg" not in boxes(data)


def test_ellipse_is_turned_by_radians(tmp_path: Path) -> None:
    shape = {"name": "ellipse", "cx": 50, "cy": 40, "rx": 20, "ry": 10, "theta": math.pi / 2}
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", region(shape, name="x"))))
    assert boxes(read_data(write_images(tmp_path, "a.jpg")))["a.jpg"] == [("x", [40, 20, 60, 60], False)]


def test_points_of_a_class_without_boxes_are_skipped_beside_boxes(tmp_path: Path) -> None:
    point = region({"name": "point", "cx": 5, "cy": 6}, name="eye")
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", region(rect(), name="x"), point)))
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert len(boxes(data)["a.jpg"]) == 1
    assert reasons(data)[NEVER_A_BOX] == 1


def test_csv_of_both_versions(tmp_path: Path) -> None:
    """Header and quoting as in via-1.x.y/tests/data/unit_test_annotation1.csv and the export of version 2.0.10."""
    shape = '"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}"'
    rows = [
        f'a,b.jpg,7,"{{}}",2,0,{shape},"{{""name"":""red \\""dot\\""""}}"',
        f'a,b.jpg,7,"{{}}",2,1,{shape.replace("10", "50")},"{{""name"":""blue""}}"',
        'c.jpg,8,"{}",0,0,"{}","{}"',
    ]
    for start in ("", "#"):
        (tmp_path / "via.csv").write_text("\n".join([start + HEADER, *rows]))
        data = read_data(write_images(tmp_path, "a,b.jpg", "c.jpg"))
        assert detect_format(tmp_path) == "via"
        assert boxes(data) == {
            "a,b.jpg": [('red "dot"', [10, 20, 40, 60], False), ("blue", [50, 20, 80, 60], False)],
            "c.jpg": [],
        }


def test_missing_rows_of_a_csv_leave_their_image_out(tmp_path: Path) -> None:
    shape = '"{""name"":""rect"",""x"":10,""y"":20,""width"":30,""height"":40}"'
    attributes = '"{""name"":""x""}"'
    rows = [f'a.jpg,7,"{{}}",3,0,{shape},{attributes}', f'b.jpg,7,"{{}}",1,0,{shape},{attributes}']
    (tmp_path / "via.csv").write_text("\n".join([HEADER, *rows]))
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert list(boxes(data)) == ["b.jpg"]
    assert reasons(data)[ROWS_MISSING] == 1


def test_several_attributes_are_an_error_that_lists_them(tmp_path: Path) -> None:
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", region(rect(), animal="cat", coat="black"))))
    write_images(tmp_path, "a.jpg")
    with pytest.raises(DataError, match=r"animal \(1 regions\).*coat \(1 regions\).*class_attribute"):
        read_data(tmp_path)
    write_json(tmp_path / "gfocal.json", {"class_attribute": "coat"})
    assert read_data(tmp_path).names == ("black",)
    write_json(tmp_path / "gfocal.json", {"class_attribute": "fur"})
    with pytest.raises(DataError, match=r"'fur'.*animal"):
        read_data(tmp_path)


def test_an_attribute_with_a_usual_name_is_the_class(tmp_path: Path) -> None:
    attributes = {"Label": "cat", "difficult": "true", "track": 4}
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", region(rect(), **attributes))))
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert boxes(data)["a.jpg"] == [("cat", [10, 20, 40, 60], True)]
    assert "'track'" in next(p.record for p in data.problems if p.reason == CHOSEN)


def test_checkboxes_with_one_and_with_several_values(tmp_path: Path) -> None:
    one, two = {"cat": True, "dog": False}, {"cat": True, "dog": True}
    images = annotations(entry("a.jpg", region(rect(), kind=one)), entry("b.jpg", region(rect(), kind=two)))
    write_json(tmp_path / "via.json", images)
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert boxes(data) == {"a.jpg": [("cat", [10, 20, 40, 60], False)]}
    assert reasons(data)[SEVERAL_CLASSES] == 1


def test_a_region_without_a_class_is_ignored_not_background(tmp_path: Path) -> None:
    regions = [region(rect(), name="x"), region(rect(50, 0), name=""), region(rect(0, 0), name="undefined")]
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", *regions)))
    data = read_data(write_images(tmp_path, "a.jpg"))
    assert [crowd for *_, crowd in boxes(data)["a.jpg"]] == [False, True, True]
    assert reasons(data)[WITHOUT_CLASS] == 2


@pytest.mark.parametrize(
    "shape",
    [
        {"name": "rect", "x": 1, "y": 2, "width": "wide", "height": 4},
        {"name": "rect", "x": 1, "y": 2, "width": math.inf, "height": 4},
        {"name": "polygon", "all_points_x": [1, 2], "all_points_y": [1]},
        {"name": "spiral", "cx": 1},
        {},
        [],
    ],
)
def test_what_is_not_understood_leaves_its_image_out(tmp_path: Path, shape: Any) -> None:
    good = entry("b.jpg", region(rect(), name="x"))
    write_json(tmp_path / "via.json", annotations(entry("a.jpg", region(shape, name="x")), good))
    data = read_data(write_images(tmp_path, "a.jpg", "b.jpg"))
    assert list(boxes(data)) == ["b.jpg"]
    assert reasons(data)[BROKEN_BOX] == 1


def test_a_broken_entry_is_reported(tmp_path: Path) -> None:
    images = annotations(entry("b.jpg", region(rect(), name="x"))) | {"c": {"filename": "c.jpg", "size": 1}, "d": 3}
    write_json(tmp_path / "via.json", images)
    assert reasons(read_data(write_images(tmp_path, "b.jpg", "c.jpg")))[BROKEN_IMAGE] == 2


def test_splits_in_folders_of_their_own(tmp_path: Path) -> None:
    """The layout of the balloon example of Matterport's Mask R-CNN: train/ and val/ with via_region_data.json."""
    for split, x in (("train", 1), ("val", 2)):
        images = annotations(entry("a.jpg", region(rect(x), name="balloon")))
        write_json(write_images(tmp_path / split, "a.jpg") / "via_region_data.json", images)
    assert list_splits(tmp_path) == ["train", "val"]
    for split, x in (("train", 1), ("val", 2)):
        assert boxes(read_data(tmp_path, split))["a.jpg"] == [("balloon", [x, 20, x + 30, 60], False)]
    assert not any("last parts" in reason for reason in reasons(read_data(tmp_path, "val")))


def test_a_project_goes_before_its_exports(tmp_path: Path) -> None:
    images = annotations(entry("a.jpg", region(rect(), name="x")))
    write_json(tmp_path / "via_project_1.json", project(images))
    write_json(tmp_path / "via_export_json.json", images)
    (tmp_path / "via_export_csv.csv").write_text(HEADER + "\n")
    assert len(read_data(write_images(tmp_path, "a.jpg"))) == 1


def test_version_3_is_named(tmp_path: Path) -> None:
    content: dict[str, Any] = {key: {} for key in ("project", "config", "attribute", "file", "metadata", "view")}
    content["file"] = {"1": {"filename": "a", "size": 1, "regions": 2}}
    with pytest.raises(DataError, match="VIA 3"):
        read_data(write_json(tmp_path / "via.json", content))


@given(
    st.lists(st.tuples(*[st.floats(0, 40, width=32)] * 2, *[st.floats(2, 39, width=32)] * 2), min_size=1, max_size=5)
)
def test_rectangles_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, rects: list[tuple[float, float, float, float]]
) -> None:
    folder = write_images(tmp_path_factory.mktemp("via"), "a.jpg")
    write_json(folder / "via.json", annotations(entry("a.jpg", *(region(rect(*one), name="x") for one in rects))))
    found = [box for _, box, _ in boxes(read_data(folder))["a.jpg"]]
    wanted = [[x, y, x + w, y + h] for x, y, w, h in dict.fromkeys(rects)]
    assert len(found) <= len(wanted)
    assert all(any(box == pytest.approx(one, abs=1e-3) for one in wanted) for box in found)
