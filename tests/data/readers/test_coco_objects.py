"""COCO annotations as tools write them: outlines without boxes, labels of whole images, text ids, rotated boxes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coco_files import box, dump, image, reasons

from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.masks import MASK_SIZE
from gfocal.data.outlines import NO_ROTATION, OUTLINE, ROTATED
from gfocal.data.readers.coco import EMPTY_CATEGORY, read_coco
from gfocal.data.readers.coco_objects import EMPTY_LABEL, FIVE_NUMBERS
from gfocal.data.readers.fields import FLAG
from gfocal.errors import DataError


def square_of_runs(x: int, y: int, side: int, text: bool = False) -> dict[str, Any]:
    """A square of pixels in an image of 100 x 80 as a mask of run lengths."""
    start = x * 80 + y
    runs = [start, side, *[80 - side, side] * (side - 1)]
    return {"size": [80, 100], "counts": [*runs, 80 * 100 - sum(runs)]}


SQUARES = [(10, 20, 30), (50, 5, 12)]


@pytest.mark.parametrize(
    "outline",
    [
        lambda x, y, s: [[x, y, x + s, y, x + s, y + s, x, y + s]],
        lambda x, y, s: [x, y, x + s, y + s],
        square_of_runs,
        lambda x, y, s: {"size": [80, 100], "counts": compressed(square_of_runs(x, y, s)["counts"])},
    ],
    ids=["polygons", "one flat polygon", "runs", "compressed runs"],
)
@pytest.mark.parametrize("written", [{}, {"bbox": None}, {"bbox": []}, {"bbox": [0, 0, 0, 0]}], ids=str)
def test_outline_without_a_box(tmp_path: Path, outline: Callable[..., Any], written: dict[str, Any]) -> None:
    """A mask without bbox, as in datasets for segmentation; some tools write a box of zeros in its place."""
    annotations = [
        {"id": n, "image_id": 7, "category_id": 3, "segmentation": outline(*square)} | written
        for n, square in enumerate(SQUARES)
    ]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    assert data.samples[1].boxes.tolist() == [[x, y, x + s, y + s] for x, y, s in SQUARES]
    assert reasons(data) == {(OUTLINE, "kept"): 2}
    assert data.table.stated is not None
    assert data.table.stated.boxes.tolist() == [[x, y, s, s] for x, y, s in SQUARES]


def compressed(runs: list[int]) -> str:
    """Run lengths as the text of COCO: 5 bits a character, as differences from the third run on."""
    text = ""
    for number, run in enumerate(runs):
        value = run - runs[number - 2] if number > 2 else run
        more = True
        while more:
            bits = value & 31
            value >>= 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + (bits | (32 if more else 0)))
    return text


def test_a_box_goes_before_the_outline(tmp_path: Path) -> None:
    entry = box(1, 7, 3, [1, 2, 3, 4], segmentation=[[10, 10, 20, 10, 20, 20]])
    data = read_coco(dump(tmp_path / "a.json", [entry]))
    assert data.samples[1].boxes.tolist() == [[1, 2, 4, 6]]
    assert data.problems == []


def test_image_with_an_object_without_a_box_is_left_out(tmp_path: Path) -> None:
    """Half of the objects have a box: those without one would be trained on as background."""
    annotations = [
        box(1, 7, 3, [1, 2, 3, 4]),
        {"id": 2, "image_id": 7, "category_id": 3, "keypoints": [5, 5, 2]},
        box(3, 1, 3, [1, 2, 3, 4]),
    ]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    assert [s.image_id for s in data.samples] == [1]
    assert reasons(data) == {(OBJECTS_WITHOUT_BOX, "left out"): 1}


TRAPS = [{"id": 0, "name": "empty"}, {"id": 1, "name": "deer"}, {"id": 2, "name": "bird"}]


def camera_trap(folder: Path, annotations: list[dict[str, Any]], split: str = "train", count: int = 4) -> Path:
    """COCO Camera Traps as lila.science describes it: ids are text, annotations may be labels of images."""
    images = [{"id": f"{split}/loc1/{k:02d}", "file_name": f"{split}{k}.jpg", "seq_id": "s"} for k in range(count)]
    for entry in images:
        image(folder / entry["file_name"])
    for number, one in enumerate(annotations):
        one |= {"id": f"a{number}", "image_id": images[one.pop("at")]["id"], "sequence_level_annotation": False}
    file = folder / f"{split}.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": TRAPS}))
    return file


def test_labels_of_whole_images(tmp_path: Path) -> None:
    """Of camera traps: empty images are background, an animal without a box leaves its image out."""
    file = camera_trap(
        tmp_path,
        [
            {"at": 0, "category_id": 0},
            {"at": 1, "category_id": 1, "bbox": [10, 10, 30, 30]},
            {"at": 2, "category_id": 2},
            {"at": 3, "category_id": 0},
        ],
    )
    data = read_coco(file)
    assert data.names == ("deer", "bird")
    assert data.category_ids == (1, 2)
    assert [s.path.name for s in data.samples if s.path] == ["train0.jpg", "train1.jpg", "train3.jpg"]
    assert [len(s.labels) for s in data.samples] == [0, 1, 0]
    assert reasons(data) == {
        (EMPTY_LABEL, "kept"): 2,
        (EMPTY_CATEGORY, "skipped"): 1,
        (OBJECTS_WITHOUT_BOX, "left out"): 1,
    }
    assert data.table.stated is not None
    assert data.table.stated.image_ids == ("train/loc1/00", "train/loc1/01", "train/loc1/03")


def test_splits_agree_on_the_category_of_empty_images(tmp_path: Path) -> None:
    train = camera_trap(tmp_path, [{"at": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}, {"at": 1, "category_id": 0}])
    val = camera_trap(tmp_path, [{"at": 0, "category_id": 2, "bbox": [1, 1, 9, 9]}], "val")
    lists = [read_coco(a, siblings=[b]).names for a, b in ((train, val), (val, train))]
    assert lists == [("deer", "bird")] * 2
    boxed = camera_trap(tmp_path, [{"at": 0, "category_id": 0, "bbox": [1, 1, 9, 9]}, {"at": 1, "category_id": 0}])
    data = read_coco(boxed)
    assert data.names == ("empty", "deer", "bird")  # a box says that it is a class
    assert (OBJECTS_WITHOUT_BOX, "left out") in reasons(data)


def test_names_of_a_model_may_have_the_category_of_empty_images(tmp_path: Path) -> None:
    file = camera_trap(tmp_path, [{"at": 0, "category_id": 1, "bbox": [1, 1, 9, 9]}, {"at": 1, "category_id": 0}])
    data = read_coco(file, names=["empty", "deer", "bird"])
    assert data.names == ("empty", "deer", "bird")
    assert len(data) == 3  # a label without a box of what may be a class


@pytest.mark.parametrize("write", [str, float, lambda i: f"{i}.0"], ids=["text", "decimals", "text of decimals"])
def test_ids_as_text_or_decimals(tmp_path: Path, write: Callable[[int], Any]) -> None:
    """pandas makes decimals of ids in columns with gaps, csv converters make text."""
    images = [{"id": write(i), "file_name": f"{i}.png", "width": write(100), "height": write(80)} for i in (12, 3)]
    for i in (12, 3):
        image(tmp_path / f"{i}.png")
    categories = [{"id": write(9), "name": "cat"}, {"id": 4, "name": "dog"}]
    annotations = [box(1, 12, 9, [1, 2, 3, 4]), box(2, write(3), write(4), [1, 2, 3, 4])]
    data = read_coco(dump(tmp_path / "a.json", annotations, images, categories=categories))
    assert data.names == ("dog", "cat")
    assert data.category_ids == (4, 9)
    assert [(s.image_id, s.labels.tolist()) for s in data.samples] == [(3, [0]), (12, [1])]
    assert data.problems == []
    assert data.table.stated is not None  # results are written with the ids of the file
    assert list(data.table.stated.image_ids) == [write(3), write(12)]


def test_category_ids_that_are_no_numbers(tmp_path: Path) -> None:
    categories = [{"id": "z", "name": "zebra"}, {"id": "c", "name": "cat"}]
    annotations = [box(1, 7, "c", [1, 2, 3, 4]), box(2, 7, "z", [5, 2, 3, 4]), box(3, 7, "x", [5, 2, 3, 4])]
    data = read_coco(dump(tmp_path / "a.json", annotations, categories=categories))
    assert data.names == ("zebra", "cat")
    assert data.category_ids == (1, 2)
    assert data.samples[1].labels.tolist() == [1, 0]
    assert reasons(data) == {("unknown class", "dropped"): 1}


def test_image_names_of_lvis(tmp_path: Path) -> None:
    """LVIS v1 has coco_url in place of file_name, and images of val2017 among those for training."""
    names = ["train2017/000000000001.jpg", "val2017/000000000002.jpg"]
    images = []
    for number, name in enumerate(names, 1):
        image(tmp_path / name)
        address = f"http://images.cocodataset.org/{name}"
        images.append(
            {"id": number, "coco_url": address, "width": 100, "height": 80, "not_exhaustive_category_ids": []}
        )
    images.append({"id": 3, "width": 100, "height": 80})
    data = read_coco(dump(tmp_path / "lvis_v1_train.json", [box(1, 2, 3, [1, 2, 3, 4])], images))
    assert [s.path for s in data.samples] == [tmp_path / name for name in names]
    assert reasons(data) == {("image without 'file_name' (or 'coco_url')", "dropped"): 1}


def test_rotated_boxes_of_cvat(tmp_path: Path) -> None:
    """CVAT's COCO export: bbox is that of the unrotated rectangle, degrees are an attribute."""
    annotations = [
        box(1, 7, 3, [30, 30, 40, 20], attributes={"rotation": 90.0, "occluded": False}),
        box(2, 7, 3, [30, 30, 40, 20], attributes={"rotation": 0.0}),
        box(3, 7, 3, [10, 10, 20, 20], attributes={"rotation": 45}, segmentation=[[20, 10, 30, 20, 20, 30, 10, 20]]),
        box(4, 7, 3, [10, 50, 20, 20], attributes={"rotation": "a lot"}),
        box(5, 1, 3, [30, 30, 40, 20], attributes={"rotation": 30.0}),
    ]
    data = read_coco(dump(tmp_path / "a.json", annotations))
    around = data.samples[0].boxes[0].tolist()
    assert around == pytest.approx([27.6795, 21.3397, 72.3205, 58.6603], abs=1e-3)
    expected = [[40, 20, 60, 60], [30, 30, 70, 50], [10, 10, 30, 30], [10, 50, 30, 70]]
    for found, wanted in zip(data.samples[1].boxes.tolist(), expected, strict=True):
        assert found == pytest.approx(wanted)
    assert reasons(data) == {(ROTATED, "kept"): 2, (NO_ROTATION, "kept"): 1}


@pytest.mark.parametrize(
    ("flag", "ignored"), [("0", False), ("false", False), ("1", True), ("True", True), (1.0, True)]
)
def test_text_flags(tmp_path: Path, flag: Any, ignored: bool) -> None:
    for key in ("iscrowd", "ignore"):
        data = read_coco(dump(tmp_path / "a.json", [box(1, 7, 3, [1, 2, 3, 4], **{key: flag})]))
        assert data.samples[1].crowd.tolist() == [ignored]


def test_a_flag_that_is_neither_yes_nor_no_is_said(tmp_path: Path) -> None:
    data = read_coco(dump(tmp_path / "a.json", [box(1, 7, 3, [1, 2, 3, 4], iscrowd="perhaps")]))
    assert data.samples[1].crowd.tolist() == [False]
    assert reasons(data) == {(FLAG, "kept"): 1}


def test_class_names_twice_are_named_when_a_model_is_evaluated(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "thing"}, {"id": 2, "name": "thing"}]
    file = dump(tmp_path / "a.json", [box(1, 7, 1, [1, 2, 3, 4])], categories=categories)
    with pytest.raises(DataError, match="2 classes are named 'thing'"):
        read_coco(file, names=["thing"])


@pytest.mark.parametrize("stated", [{"width": 100, "height": 80}, {"width": 80, "height": 100}, {}], ids=str)
def test_a_mask_of_another_size_than_its_image(tmp_path: Path, stated: dict[str, int]) -> None:
    """Width and height in place of height and width: the runs add up, and the box would be another one."""
    right, swapped = square_of_runs(10, 20, 30), square_of_runs(10, 20, 30) | {"size": [100, 80]}
    images = [{"id": 1, "file_name": "b.png", "width": 100, "height": 80}, {"id": 7, "file_name": "a.png"} | stated]
    for name in ("a.png", "b.png"):
        image(tmp_path / name)
    entries = [
        {"id": 1, "image_id": 1, "category_id": 3, "segmentation": right},
        {"id": 2, "image_id": 7, "category_id": 3, "segmentation": swapped},
    ]
    data = read_coco(dump(tmp_path / "a.json", entries, images))
    assert [sample.path.name for sample in data.samples if sample.path] == ["b.png"]
    assert reasons(data)[(MASK_SIZE, "left out")] == 1
    (problem,) = (p for p in data.problems if p.reason == MASK_SIZE)
    assert "mask of height 100 and width 80, image of height 80 and width 100" in problem.record


def test_a_mask_of_the_stated_size_of_a_resized_image_is_scaled_with_it(tmp_path: Path) -> None:
    image(tmp_path / "b.png", 50, 40)
    images = [{"id": 1, "file_name": "b.png", "width": 100, "height": 80}]
    masks = (square_of_runs(60, 20, 30), square_of_runs(2, 2, 30), square_of_runs(40, 40, 30))
    entries = [{"id": n, "image_id": 1, "category_id": 3, "segmentation": mask} for n, mask in enumerate(masks)]
    data = read_coco(dump(tmp_path / "a.json", entries, images))
    assert data.samples[0].boxes.tolist()[0] == [30, 10, 45, 25]


def test_five_numbers_are_said_to_be_five(tmp_path: Path) -> None:
    data = read_coco(dump(tmp_path / "a.json", [box(1, 7, 3, [1, 2, 3, 4, 30]), box(2, 1, 3, [1, 2, 3, 4])]))
    assert reasons(data)[(FIVE_NUMBERS, "dropped")] == 1
