"""Longer lines of YOLO: poses, polygons, confidences and track ids; yaml values as they stand."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.outlines import OUTLINE
from gfocal.data.readers.yolo import read_yolo
from gfocal.data.readers.yolo_layout import CONFIDENCE_AND_TRACK, KEYPOINTS, SIXTH, fits_as_pose
from gfocal.errors import DataError

BOX = (0.5, 0.4, 0.25, 0.5)  # cx, cy, width, height
XYXY = [37.5, 12.0, 62.5, 52.0]  # in an image of 100 x 80


def write(root: Path, lines: list[str], yaml: str = "", count: int = 1) -> Path:
    """A dataset of images with the same lines each."""
    for k in range(count):
        for folder in ("images/train", "labels/train"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new("L", (100, 80)).save(root / f"images/train/{k}.png")
        (root / f"labels/train/{k}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"train: images/train\nnames: [cat, dog]\n{yaml}")
    return root


def reasons(data: FileData) -> Counter[tuple[str, str]]:
    return Counter((p.reason, p.action) for p in data.problems)


def line(*numbers: float, label: int = 0) -> str:
    return " ".join(f"{value:g}" for value in (label, *numbers))


def pose(count: int, dims: int, seed: int = 0) -> str:
    """A line with keypoints inside its box, of which every third is not labeled."""
    rng = random.Random(seed)
    cx, cy, w, h = BOX
    points: list[float] = []
    for k in range(count):
        seen = k % 3 < 2
        place = (cx + w * (rng.random() - 0.5), cy + h * (rng.random() - 0.5)) if seen else (0.0, 0.0)
        points += [*place, 2.0 * seen][:dims]
    return line(*BOX, *points)


@pytest.mark.parametrize(("count", "dims"), [(4, 2), (4, 3), (17, 2), (17, 3), (1, 2), (1, 3), (2, 3)])
def test_the_box_of_a_pose_is_in_its_first_numbers(tmp_path: Path, count: int, dims: int) -> None:
    """Ultralytics' pose labels, such as coco8-pose of 17 keypoints and tiger-pose of 12 without visibility."""
    lines = [pose(count, dims, seed) for seed in range(3)]
    data = read_yolo(write(tmp_path, [*lines[:1], line(0.2, 0.2, 0.1, 0.1)], f"kpt_shape: [{count}, {dims}]\n"))
    assert data.samples[0].boxes.tolist()[0] == XYXY
    assert len(data.samples[0].labels) == 2
    assert reasons(data) == {(KEYPOINTS, "kept"): 1}


@pytest.mark.parametrize(("count", "dims"), [(4, 2), (4, 3), (17, 2), (17, 3), (2, 3)])
def test_poses_that_the_yaml_does_not_call_so_are_an_error(tmp_path: Path, count: int, dims: int) -> None:
    with pytest.raises(DataError) as caught:
        read_yolo(write(tmp_path, [pose(count, dims, seed) for seed in range(4)]))
    message = str(caught.value)
    assert f"kpt_shape: [{count}, {dims}]" in message
    length = 4 + count * dims
    assert (f"polygons of {length // 2} points (write task: segment)" in message) == (length % 2 == 0)
    assert "0.txt, line 1" in message


def test_the_yaml_may_say_that_lines_are_polygons(tmp_path: Path) -> None:
    data = read_yolo(write(tmp_path, [pose(4, 2)], "task: segment\n"))
    assert len(data.samples[0].boxes) == 1
    assert data.samples[0].boxes.tolist()[0] != XYXY


@pytest.mark.parametrize("key", ["flip_idx: [1, 0]", "kpt_names: {0: [nose, tail]}", "task: pose"])
def test_other_keys_of_poses_need_a_shape(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="add kpt_shape"):
        read_yolo(write(tmp_path, [pose(2, 2)], f"{key}\n"))


@pytest.mark.parametrize("shape", ["4", "[4]", "[4, 4]", "[0, 2]", "[a, 2]", "[4, 2, 1]", "{4: 2}"])
def test_a_broken_shape_is_an_error(tmp_path: Path, shape: str) -> None:
    with pytest.raises(DataError, match="kpt_shape"):
        read_yolo(write(tmp_path, [pose(4, 2)], f"kpt_shape: {shape}\n"))


def test_lines_of_another_length_than_the_shape_are_dropped_and_said(tmp_path: Path) -> None:
    data = read_yolo(write(tmp_path, [pose(4, 2), pose(3, 2), line(*BOX, 0.9)], "kpt_shape: [4, 2]\n"))
    assert len(data.samples[0].labels) == 1
    assert reasons(data)["not as long as kpt_shape says", "dropped"] == 2


@given(st.lists(st.lists(st.floats(0, 1), min_size=6, max_size=40).map(lambda v: v[: len(v) // 2 * 2]), min_size=2))
def test_polygons_of_several_lengths_stay_polygons(
    tmp_path_factory: pytest.TempPathFactory, polygons: list[list[float]]
) -> None:
    if len({len(one) for one in polygons}) < 2:
        polygons = [*polygons, [*polygons[0], 0.5, 0.5]]
    folder = write(tmp_path_factory.getbasetemp() / "polygons", [line(*one) for one in polygons])
    data = read_yolo(folder)
    for found in data.samples[0].boxes.tolist():
        assert any(
            found
            == pytest.approx([min(p[::2]) * 100, min(p[1::2]) * 80, max(p[::2]) * 100, max(p[1::2]) * 80], abs=1e-3)
            for p in polygons
        )


def test_oriented_boxes_of_a_dataset_are_polygons(tmp_path: Path) -> None:
    """Ultralytics' OBB labels have eight numbers in all lines, as a pose of two keypoints."""
    rng = random.Random(1)
    lines = []
    for _ in range(40):
        x, y, w, h = rng.uniform(0.05, 0.75), rng.uniform(0.05, 0.75), rng.uniform(0.02, 0.2), rng.uniform(0.02, 0.2)
        lines.append(line(x, y, x + w, y, x + w, y + h, x, y + h))
    data = read_yolo(write(tmp_path, lines))
    assert len(data.samples[0].labels) == 40
    assert reasons(data).keys() <= {("near-duplicate box of the same class", "kept"), (OUTLINE, "kept")}


@pytest.mark.parametrize("extra", [0.87, 1.0, 0.0, 7, 12345])
def test_a_sixth_column_is_a_confidence_or_a_track_id(tmp_path: Path, extra: float) -> None:
    """As 'yolo predict save_txt save_conf' and 'yolo track save_txt' write them."""
    data = read_yolo(write(tmp_path, [line(*BOX, extra), line(0.2, 0.2, 0.1, 0.1, extra)]))
    assert data.samples[0].boxes.tolist()[0] == XYXY
    assert reasons(data) == {(SIXTH, "kept"): 1}
    assert data.problems[0].record == "2 lines"


@pytest.mark.parametrize("extra", [-0.5, 1.57, float("nan"), float("inf")])
def test_any_other_sixth_column_is_not_understood(tmp_path: Path, extra: float) -> None:
    """An angle in radians, for example."""
    data = read_yolo(write(tmp_path, [line(*BOX, extra)]))
    assert len(data.samples[0].labels) == 0
    assert ("neither a box nor a polygon", "dropped") in reasons(data)
    assert data.untrained == {1}


def test_confidence_and_track_id(tmp_path: Path) -> None:
    """'yolo track save_txt save_conf' writes both, six numbers as a triangle has them."""
    data = read_yolo(write(tmp_path, [line(*BOX, 0.9, 3), line(0.2, 0.2, 0.1, 0.1, 0.4, 12)]))
    assert data.samples[0].boxes.tolist()[0] == XYXY
    assert reasons(data) == {(CONFIDENCE_AND_TRACK, "kept"): 1}
    triangles = [line(0.1, 0.2, 0.5, 0.1, 0.3, 0.75), line(0.6, 0.6, 0.9, 0.6, 0.75, 1)]
    data = read_yolo(write(tmp_path, triangles))
    assert data.samples[0].boxes.tolist()[0] == pytest.approx([10, 8, 50, 60])
    assert reasons(data) == {(OUTLINE, "kept"): 1}


def test_visibility_says_that_numbers_are_keypoints() -> None:
    assert fits_as_pose([*BOX, 0.9, 0.9, 2], 3)
    assert not fits_as_pose([*BOX, 0.9, 0.9, 0.5], 3)
    assert not fits_as_pose([*BOX, 0.9, 0.9], 2)


def test_class_names_are_the_text_of_the_yaml(tmp_path: Path) -> None:
    names = ["yes", "no", "on", "null", "007", "1.50", "~", "true", "0x10", "2026-01-01"]
    folder = write(tmp_path, [line(*BOX, label=k) for k in range(len(names))])
    for written in (f"[{', '.join(names)}]", "{" + ", ".join(f"{k}: {name}" for k, name in enumerate(names)) + "}"):
        (folder / "data.yaml").write_text(
            f"path: ~\ntrain: images/train\nval:\ntest: null\nnc: 10\nnames: {written}\n"
        )
        data = read_yolo(folder)
        assert data.names == tuple(names)
        assert data.samples[0].labels.tolist() == list(range(len(names)))
        assert data.problems == []


def test_an_entry_of_a_split_may_be_an_image(tmp_path: Path) -> None:
    folder = write(tmp_path, [line(*BOX)], count=4)
    entries = "\n".join(f"  - images/train/{k}.png" for k in (0, 1, 3))
    (folder / "data.yaml").write_text(f"train:\n{entries}\nval: images/train/2.png\nnames: [cat]\n")
    assert [s.path.name for s in read_yolo(folder, "train").samples if s.path] == ["0.png", "1.png", "3.png"]
    assert [s.path.name for s in read_yolo(folder, "val").samples if s.path] == ["2.png"]


@pytest.mark.parametrize("with_yaml", [True, False])
def test_boxes_on_stored_pixels(tmp_path: Path, with_yaml: bool) -> None:
    """LabelImg shows an image as it is stored, so its boxes lie on pixels that EXIF has not rotated."""
    folder = write(tmp_path, [line(*BOX)])
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("L", (100, 80))
    stored.paste(255, (38, 12, 63, 52))
    (folder / "images/train/0.png").unlink()
    stored.save(folder / "images/train/0.jpg", exif=exif, quality=100)
    if not with_yaml:
        (folder / "data.yaml").unlink()
        (folder / "classes.txt").write_text("cat\ndog\n")
    told = read_yolo(folder, "train")
    assert "boxes_on_stored_pixels" in told.problems[0].reason
    (folder / "gfocal.json").write_text('{"boxes_on_stored_pixels": true}')
    data = read_yolo(folder, "train")
    assert data.problems == []
    assert data.samples[0].boxes.tolist() == [[28.0, 37.5, 68.0, 62.5]]
    pixels, sample = data.read(0)
    assert sample.size == tuple(pixels.shape[1:]) == (100, 80)
    x1, y1, x2, y2 = (round(v) for v in sample.boxes[0].tolist())
    assert float(pixels[0, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].float().mean()) > 250
    assert float(pixels[0].float().mean()) < 50
