"""The validation of images and boxes that all readers share, tested with COCO files."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import box, dump, image, reasons
from hypothesis import given, settings
from hypothesis import strategies as st

from gfocal.data.dataset import Problem
from gfocal.data.readers.coco import read_coco
from gfocal.data.validation import ImageRecord, summarize, validate_records

BAD_BOXES = {
    "box has no area": [[10, 10, 0, 5], [10, 10, 5, 0], [10, 10, 0, 0], [50000, 10, 1e-9, 5]],
    "box is inverted": [[10, 10, -5, 5], [10, 10, 5, -5]],
    "box is not finite": [[float("nan"), 0, 5, 5], [0, 0, float("inf"), 5], [1e300, 0, 5, 5]],
    "box is outside the image": [[100, 10, 5, 5], [-20, 10, 20, 5], [10, 80, 5, 5], [10, -9, 5, 5]],
    "not a box of finite numbers": [
        [1, 2, 3],
        "text",
        [1, 2, 3, None],
        5,
        [10**400, 0, 1, 1],
    ],
}


@pytest.mark.parametrize("reason", BAD_BOXES)
def test_each_bad_box_is_dropped_and_reported_once(tmp_path: Path, reason: str) -> None:
    bad = BAD_BOXES[reason]
    annotations = [box(n, 7, 3, b) for n, b in enumerate(bad)] + [box(99, 7, 17, [1, 2, 3, 4])]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    assert reasons(data) == {(reason, "dropped"): len(bad)}
    assert data.samples[1].boxes.tolist() == [[1, 2, 4, 6]]
    assert data.samples[1].labels.tolist() == [1]
    for n, problem in enumerate(data.problems):
        assert f"annotation {n}:" in problem.record
        assert problem.file == str(tmp_path / "a.json")


def test_box_partly_outside_is_clipped_and_rounding_is_not_reported(tmp_path: Path) -> None:
    annotations = [box(1, 7, 3, [-10, 20, 30, 400]), box(2, 7, 17, [50, 50, 50.3, 30.01])]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    assert data.samples[1].boxes.tolist() == [[0, 20, 20, 80], [50, 50, 100, 80]]
    assert reasons(data) == {("box exceeds the image", "clipped"): 1}
    assert "annotation 1: -10 20 20 420" in data.problems[0].record


def test_exact_repeats_are_dropped_and_near_ones_kept(tmp_path: Path) -> None:
    same = [10, 10, 40, 40]
    annotations = [
        box(1, 7, 3, same),
        box(2, 1, 3, same),  # another image
        box(3, 7, 17, same),  # another class
        box(4, 7, 3, same, iscrowd=1),  # a crowd region is no object
        box(5, 7, 3, same),  # repeats
        box(6, 7, 3, same),
        box(7, 7, 3, [10, 10, 40, 35]),  # IoU 0.875
        box(8, 7, 17, [11, 10, 40, 40]),  # IoU 0.951 with annotation 3
        box(9, 7, 3, [11, 10, 40, 40], iscrowd=1),  # of regions nobody cares
    ]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    found = {p.record.split(",")[1].split(":")[0].strip(): (p.reason, p.action) for p in data.problems}
    assert found == {
        "annotation 5": ("duplicate box of the same class", "dropped"),
        "annotation 6": ("duplicate box of the same class", "dropped"),
        "annotation 8": ("near-duplicate box of the same class", "kept"),
    }
    assert [len(s.labels) for s in data.samples] == [1, 6]


def test_summary_counts_each_kind_and_shows_the_first() -> None:
    problems = [
        Problem("a", "1", "no area", "dropped"),
        Problem("a", "2", "outside", "clipped"),
        Problem("b", "3", "outside", "clipped"),
        Problem("c", "4", "outside", "dropped"),
    ]
    assert summarize(problems) == [
        "2 x outside (clipped), e.g. a: 2",
        "1 x no area (dropped), e.g. a: 1",
        "1 x outside (dropped), e.g. c: 4",
    ]
    assert summarize([]) == []


numbers = st.one_of(
    st.integers(-30, 130).map(float),
    st.floats(-30, 130),
    st.sampled_from([float("nan"), float("inf"), -1e30, 1e39]),
)
rows = st.lists(
    st.tuples(st.tuples(numbers, numbers, numbers, numbers), st.integers(0, 2), st.booleans()), max_size=30
)


@settings(max_examples=150, deadline=None)
@given(rows=rows)
def test_any_boxes_give_valid_data_and_every_box_is_accounted_for(
    rows: list[tuple[tuple[float, ...], int, bool]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = image(tmp_path_factory.getbasetemp() / "law.png", 100, 80)
    raw = ImageRecord("file", path, 1)
    for number, (corners, label, crowd) in enumerate(rows):
        raw.add(corners, label, crowd, f"row {number}")
    data = validate_records([raw], ["a", "b", "c"], [1, 2, 3], [], "file")
    boxes = data.samples[0].boxes
    assert torch.isfinite(boxes).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= torch.tensor([100.0, 80.0])).all()
    named = Counter(p.record.split(":")[0] for p in data.problems)
    assert max(named.values(), default=1) == 1
    assert len(boxes) + sum(p.action == "dropped" for p in data.problems) == len(rows)
    keys = [
        (*b, c, f)
        for b, c, f in zip(
            boxes.tolist(), data.samples[0].labels.tolist(), data.samples[0].crowd.tolist(), strict=True
        )
    ]
    assert len(set(keys)) == len(keys)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_near_duplicates_equal_those_of_all_pairs(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 3, (40, 2))
    corners = np.concatenate((low, low + random.uniform(20, 40, (40, 2))), 1).astype(np.float32)
    labels = random.integers(0, 2, 40)
    path = image(tmp_path_factory.getbasetemp() / "law.png", 100, 80)
    raw = ImageRecord("file", path, 1)
    for number, (corner, label) in enumerate(zip(corners, labels, strict=True)):
        raw.add(corner.tolist(), int(label), False, f"row {number}")
    expected = set()
    for j in range(40):
        for i in range(j):
            sides = np.minimum(corners[i, 2:], corners[j, 2:]) - np.maximum(corners[i, :2], corners[j, :2])
            overlap = float(np.prod(sides.clip(0), dtype=np.float64))
            areas = [float(np.prod(corners[k, 2:] - corners[k, :2], dtype=np.float64)) for k in (i, j)]
            iou = overlap / (sum(areas) - overlap)
            if labels[i] == labels[j] and iou >= 0.9:
                expected.add(j)
    data = validate_records([raw], ["a", "b"], [1, 2], [], "file")
    assert {int(p.record.split("row ")[1].split(":")[0]) for p in data.problems} == expected
