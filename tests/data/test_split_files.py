"""Splits written into the files of a dataset of any format, read back, and never at the cost of what was there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from gfocal.data.assigned import list_assigned_splits
from gfocal.data.convert import Target, convert
from gfocal.data.dataset import FileData, Sample
from gfocal.data.discovery import list_splits, read_data
from gfocal.data.split_files import Division, comment_out, read_undivided, write_splits
from gfocal.errors import DataError, SplitError

COUNT = 6
NEW = ("train", "train", "val", "train", "test", "val")
TARGETS: tuple[Target, ...] = (
    "coco",
    "yolo",
    "voc",
    "csv",
    "label-studio",
    "cvat",
    "labelme",
    "createml",
    "via",
    "kitti",
)


def make_images(folder: Path, count: int = COUNT) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.new("RGB", (80, 60), (40 * number, 90, 60)).save(folder / f"i{number}.png")
    return sorted(folder.iterdir())


def make_data(folder: Path) -> FileData:
    samples = [
        Sample(k + 1, path, torch.tensor([[4.0 + k, 8, 30, 40]]), torch.tensor([k % 2]), torch.tensor([False]))
        for k, path in enumerate(make_images(folder))
    ]
    samples = [Sample(s.image_id, s.path, s.boxes, s.labels, s.crowd, (60, 80)) for s in samples]
    return FileData(("cat", "dog"), (1, 2), samples)


def voc(root: Path) -> None:
    make_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    for k in range(COUNT):
        box = f"<bndbox><xmin>{4 + k}</xmin><ymin>8</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
        name = ("cat", "dog")[k % 2]
        (root / "Annotations" / f"i{k}.xml").write_text(
            f"<annotation><object><name>{name}</name>{box}</object></annotation>"
        )


def yolo_lines(folder: Path) -> None:
    folder.mkdir(parents=True)
    for k in range(COUNT):
        (folder / f"i{k}.txt").write_text(f"{k % 2} 0.25 0.4 0.3 0.5\n")


def yolo_yaml(root: Path) -> None:
    make_images(root / "images" / "all")
    yolo_lines(root / "labels" / "all")
    (root / "data.yaml").write_text("# mine\ntrain:\n  - images/all\nval:  # none yet\nnames:\n- cat\n- dog\n")


def yolo_folder(root: Path) -> None:
    make_images(root / "images")
    yolo_lines(root / "labels")
    (root / "classes.txt").write_text("cat\ndog\n")


def coco(root: Path) -> None:
    paths = make_images(root / "images")
    boxes = [[4 + k, 8, 20, 30] for k in range(COUNT)]
    content = {
        "info": {"year": 2020},
        "images": [{"id": 10 + k, "file_name": path.name} for k, path in enumerate(paths)],
        "annotations": [
            {"id": k, "image_id": 10 + k, "category_id": 1 + k % 2, "bbox": box, "iscrowd": 0, "score": 0.5}
            for k, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_default.json").write_text(json.dumps(content))


def csv(root: Path) -> None:
    make_images(root)
    rows = [f"i{k}.png,{('cat', 'dog')[k % 2]},{0.05 + k / 100},0.1,0.5,0.7" for k in range(COUNT)]
    (root / "labels.csv").write_text("\n".join(["filename,class,xmin,ymin,xmax,ymax", *rows]) + "\n")


MAKERS: dict[str, tuple[Callable[[Path], None], set[str]]] = {  # and the files that are written
    "voc": (voc, {f"ImageSets/Main/{split}.txt" for split in ("train", "val", "test")}),
    "yolo": (yolo_yaml, {"train.txt", "val.txt", "test.txt", "data.yaml"}),
    "yolo without yaml": (yolo_folder, {"train.txt", "val.txt", "test.txt", "data.yaml"}),
    "coco": (coco, {f"annotations/instances_default_{split}.json" for split in ("train", "val", "test")}),
    "csv": (csv, {"gfocal.json"}),
}


def divide(path: Path, splits: tuple[str, ...] = NEW, replace_existing: bool = False) -> list[Path]:
    data, sources = read_undivided(path, sorted(set(splits) - {"train"}), replace_existing)
    return write_splits(Division(path, data, sources, splits[: len(data)]), {"seed": 0})


def read_names(path: Path) -> dict[str, list[str]]:
    return {
        split: sorted(s.path.name for s in read_data(path, split).samples if s.path) for split in list_splits(path)
    }


EXPECTED = {"train": ["i0.png", "i1.png", "i3.png"], "val": ["i2.png", "i5.png"], "test": ["i4.png"]}


@pytest.mark.parametrize("kind", MAKERS)
def test_splits_are_written_as_the_format_has_them(tmp_path: Path, kind: str) -> None:
    make, files = MAKERS[kind]
    make(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    boxes = {s.path: s.boxes.tolist() for s in read_undivided(tmp_path, ["val"], False)[0].samples}
    written = divide(tmp_path)
    assert {file.relative_to(tmp_path).as_posix() for file in written} == files
    assert {name: names for name, names in read_names(tmp_path).items() if name in EXPECTED} == EXPECTED
    after = [sample for split in EXPECTED for sample in read_data(tmp_path, split).samples]
    assert {sample.path: sample.boxes.tolist() for sample in after} == boxes
    assert all(read_data(tmp_path, split).names == ("cat", "dog") for split in EXPECTED)
    assert {f for f in before if f.read_bytes() != before[f]} <= {tmp_path / "data.yaml"}


def test_the_replaced_entries_of_a_yaml_become_comments(tmp_path: Path) -> None:
    yolo_yaml(tmp_path)
    divide(tmp_path)
    assert (tmp_path / "data.yaml").read_text().splitlines() == [
        *("# mine", "# train:", "#   - images/all", "# val:  # none yet", "names:", "- cat", "- dog"),
        *("train: train.txt", "val: val.txt", "test: test.txt"),
    ]
    assert (tmp_path / "test.txt").read_text() == "./images/all/i4.png\n"
    assert comment_out(["train: [a,", "  b]", "names: [c]", "val2: x"], {"train"})[2:] == ["names: [c]", "val2: x"]


def test_a_coco_file_keeps_all_of_its_content(tmp_path: Path) -> None:
    coco(tmp_path)
    whole = json.loads((tmp_path / "annotations" / "instances_default.json").read_text())
    divide(tmp_path)
    parts = [json.loads((tmp_path / f"annotations/instances_default_{split}.json").read_text()) for split in EXPECTED]
    for key in ("images", "annotations"):
        assert sorted((one for part in parts for one in part[key]), key=lambda one: one["id"]) == whole[key]
    assert all(part["categories"] == whole["categories"] and part["info"] == whole["info"] for part in parts)


def test_the_path_of_a_coco_file_has_the_splits_too(tmp_path: Path) -> None:
    coco(tmp_path)
    file = tmp_path / "annotations" / "instances_default.json"
    divide(file)
    assert read_names(file) == EXPECTED
    assert read_names(tmp_path)["val"] == EXPECTED["val"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_split_train_of_any_format_is_divided(tmp_path: Path, target: Target) -> None:
    convert({"train": make_data(tmp_path / "source")}, target, tmp_path / "set", "copy", {})
    path = tmp_path / "set"
    before = {split: read_data(path, split) for split in list_splits(path)}
    divide(path)
    stems = {split: [name.rpartition(".")[0] for name in names] for split, names in read_names(path).items()}
    assert stems == {split: [name.rpartition(".")[0] for name in names] for split, names in EXPECTED.items()}
    whole = {tuple(map(tuple, s.boxes.tolist())) for data in before.values() for s in data.samples}
    assert {
        tuple(map(tuple, s.boxes.tolist())) for split in EXPECTED for s in read_data(path, split).samples
    } == whole
    with pytest.raises(SplitError):
        read_data(path, "other")


@pytest.mark.parametrize("kind", MAKERS)
def test_a_split_that_is_there_is_replaced_only_if_asked(tmp_path: Path, kind: str) -> None:
    MAKERS[kind][0](tmp_path)
    divide(tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(DataError, match=r"val of 2 images already; nothing is changed\. --replace"):
        divide(tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before
    data, sources = read_undivided(tmp_path, ["val"], True)
    names = [sample.path.name for sample in data.samples if sample.path]
    assert sorted(names) == sorted(EXPECTED["train"] + EXPECTED["val"])
    splits = tuple("val" if name == "i0.png" else "train" for name in names)
    write_splits(Division(tmp_path, data, sources, splits), {})
    assert read_names(tmp_path)["val"] == ["i0.png"]
    assert read_names(tmp_path)["test"] == EXPECTED["test"]
    assert len(read_names(tmp_path)["train"]) == 4


def test_only_train_is_divided_and_a_list_that_was_there_is_kept(tmp_path: Path) -> None:
    voc(tmp_path)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("i0\ni1\ni2\ni3\n")
    (lists / "test.txt").write_text("i4\ni5\n")
    divide(tmp_path, ("train", "val", "train", "train"))
    assert (lists / "trainval.txt").read_text() == "i0\ni1\ni2\ni3\n"
    assert (lists / "val.txt").read_text() == "i1\n"
    assert read_names(tmp_path)["test"] == ["i4.png", "i5.png"]


def test_images_added_later_are_training_images(tmp_path: Path) -> None:
    csv(tmp_path)
    divide(tmp_path)
    Image.new("RGB", (80, 60)).save(tmp_path / "new.png")
    with (tmp_path / "labels.csv").open("a") as file:
        file.write("new.png,cat,0.1,0.1,0.5,0.5\n")
    (tmp_path / "i5.png").unlink()
    assert read_names(tmp_path) == {**EXPECTED, "train": [*EXPECTED["train"], "new.png"], "val": ["i2.png"]}
    assert any("assigns to a split" in problem.reason for problem in read_data(tmp_path, "val").problems)
    assert list_assigned_splits(["labels"], {"": {"val": ["a"]}}) == ["train", "val"]


def test_broken_splits_are_said(tmp_path: Path) -> None:
    csv(tmp_path)
    (tmp_path / "gfocal.json").write_text('{"moved": {"": {"": {"val": [3]}}}}')
    with pytest.raises(DataError, match=r"gfocal\.json: broken"):
        list_splits(tmp_path)
    (tmp_path / "gfocal.json").write_text('{"moved": {"": {"": {"val": ["gone.png"]}}}}')
    with pytest.raises(DataError, match="none of its images"):
        read_data(tmp_path, "val")
