"""Ids of classes that are all one too high or too low, in each format that has numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.checks.before_training import refuse_other_convention
from gfocal.checks.records import check_records
from gfocal.data.class_ids import IDS_SHIFTED, find_shift
from gfocal.data.discovery import read_data
from gfocal.errors import DataError

NAMES = ("cat", "dog", "cow")


def write(folder: Path, kind: str, ids: list[int], first: int = 0) -> Path:
    """Six images with a box each, of the given ids in turn; classes count from ``first``."""
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    images, annotations = [], []
    for k in range(6):
        Image.new("L", (100, 80)).save(folder / "images" / f"{k}.png")
        images.append({"id": k, "file_name": f"images/{k}.png", "width": 100, "height": 80})
        category = ids[k % len(ids)]
        annotations.append({"id": k, "image_id": k, "category_id": category, "bbox": [20, 30, 40, 30]})
        beside = "images" if kind == "darknet" else "labels"
        (folder / beside / f"{k}.txt").write_text(f"{category} 0.4 0.5 0.3 0.4\n" if kind != "coco" else "")
    if kind == "coco":
        categories = [{"id": first + i, "name": name} for i, name in enumerate(NAMES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "a.json").write_text(json.dumps(content))
    elif kind == "yolo":
        (folder / "data.yaml").write_text(f"train: images\nnames: [{', '.join(NAMES)}]\n")
    else:
        (folder / "obj.names").write_text("\n".join(NAMES))
        (folder / "train.txt").write_text("".join(f"images/{k}.png\n" for k in range(6)))
        (folder / "obj.data").write_text("classes = 3\ntrain = train.txt\nnames = obj.names\n")
    return folder


@pytest.mark.parametrize(
    ("kind", "ids", "first"),
    [
        ("yolo", [1, 2, 3], 0),
        ("yolo", [2, 3], 0),
        ("darknet", [1, 2, 3], 0),
        ("coco", [0, 1, 2], 1),
        ("coco", [1, 2, 3], 0),
        ("coco", [2, 3, 4], 1),
    ],
)
def test_shifted_ids_are_said_and_not_trained_on(tmp_path: Path, kind: str, ids: list[int], first: int) -> None:
    data = read_data(write(tmp_path / "set", kind, ids, first))
    (problem,) = (p for p in data.problems if p.reason == IDS_SHIFTED)
    assert f"({'3' if len(ids) == 2 else '2'} objects) is unknown" in problem.record
    with pytest.raises(DataError, match="look shifted by one") as caught:
        refuse_other_convention(data, trust_boxes=False)
    assert "trust_boxes" not in str(caught.value)
    codes = [finding.code for finding in check_records(data, "train")]
    assert codes.count("shifted-class-ids") == 1
    assert "unknown-class" not in codes


@pytest.mark.parametrize(("kind", "ids"), [("yolo", [1, 2]), ("yolo", [0, 1, 3]), ("coco", [0, 7]), ("yolo", [1, 5])])
def test_other_ids_are_not_shifted(tmp_path: Path, kind: str, ids: list[int]) -> None:
    data = read_data(write(tmp_path / "set", kind, ids))
    assert IDS_SHIFTED not in [p.reason for p in data.problems]
    refuse_other_convention(data, trust_boxes=False)


@given(st.sets(st.integers(0, 20), min_size=1), st.sets(st.integers(-1, 21)))
def test_a_shift_makes_all_ids_known(known: set[int], used: set[int]) -> None:
    shift = find_shift(used, known)
    assert find_shift(known, known) == 0
    if shift:
        assert not used <= known
        assert {value - shift for value in used} <= known
