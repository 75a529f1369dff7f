"""Findings on boxes that may be something else, on shifted ids, and the commands beside findings on classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from gfocal.checks.annotations import check_boxes
from gfocal.checks.class_findings import check_classes, count_by_name
from gfocal.checks.findings import Finding
from gfocal.checks.records import check_records
from gfocal.cli import DONE
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data

Run = Callable[..., tuple[int, str, str]]
NAMES = ("cat", "dog")
NUM_IMAGES = 8


def write(folder: Path, boxes: list[list[float]], names: tuple[str, ...] = NAMES, first: int = 1) -> FileData:
    """COCO images of 200 x 160 without a stated size, each with the same boxes a little farther."""
    images, annotations = [], []
    folder.mkdir()
    for k in range(NUM_IMAGES):
        Image.new("L", (200, 160), k).save(folder / f"{k}.png")
        images.append({"id": k, "file_name": f"{k}.png"})
        for x, y, w, h in boxes:
            number = len(annotations)
            entry = {"id": number, "image_id": k, "category_id": 1 + number % 2, "bbox": [x + k, y, w + k, h]}
            annotations.append(entry)
    categories = [{"id": first + i, "name": name} for i, name in enumerate(names)]
    (folder / "a.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return read_data(folder)


def find(data: FileData) -> dict[str, Finding]:
    counts = count_by_name([data])
    of_classes = check_classes({"all": data}, ["all"], "set", counts, counts)
    found = [*check_records(data, "all"), *check_boxes(data, "all"), *of_classes]
    return {finding.code: finding for finding in found}


@pytest.mark.parametrize(
    ("boxes", "code"),
    [
        ([[10, 8, 30, 24], [20, 12, 50, 40], [5, 5, 33, 30]], "doubtful-boxes"),  # corners in the top left
        ([[150, 60, 10, 80], [170, 20, 12, 90], [100, 150, 80, 8]], ""),
        ([[60, 8, 8, 60], [100, 118, 12, 90], [20, 110, 8, 120]], "doubtful-boxes"),  # width and height swapped
        ([[260, 200, 40, 60], [20, 12, 30, 20], [105, 190, 60, 10]], "maybe-resized-images"),
        ([[20, 40, 10, 30], [70, 10, 20, 30], [50, 50, 30, 20]], "boxes-in-one-corner"),
    ],
)
def test_what_all_boxes_together_say(tmp_path: Path, boxes: list[list[float]], code: str) -> None:
    kinds = {"doubtful-boxes", "maybe-resized-images", "boxes-in-one-corner", "other-box-convention"}
    found = set(find(write(tmp_path / "set", boxes))) & kinds - (
        {"boxes-in-one-corner"} if "doubt" in code else set()
    )
    assert found == ({code} if code else set())


INSIDE = [[150.0, 60.0, 10.0, 80.0], [30.0, 20.0, 12.0, 90.0], [100.0, 100.0, 80.0, 8.0]]


def test_shifted_ids_are_one_finding_without_a_command(tmp_path: Path) -> None:
    found = find(write(tmp_path / "set", INSIDE, first=0))
    assert "subtract 1 from those of the objects, 1, 2" in found["shifted-class-ids"].record
    assert not {"unknown-class", "class-without-boxes"} & set(found)
    assert not found["shifted-class-ids"].command


def test_no_command_keeps_no_class(tmp_path: Path) -> None:
    found = find(write(tmp_path / "set", []))
    assert found["class-without-boxes"].command == ""


def test_the_command_that_merges_classes_names_them(tmp_path: Path) -> None:
    found = find(write(tmp_path / "set", INSIDE, ("big cat", "big cat")))
    assert found["duplicate-class-name"].command == "gfocal train DATA --rename 'big cat=big cat'"


def test_a_folder_of_two_splits_has_its_notes_once(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    (root / "labels").mkdir()
    Image.new("L", (100, 80)).save(root / "images" / "a.png")
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n7 0.5 0.5 0.1 0.1\n")
    (root / "data.yaml").write_text("path: ../set\ntrain: images\nval: images\nnames: [cat]\n")
    code, _, err = run("convert", root, "--to", "coco", "--out", tmp_path / "out")
    assert code == DONE, err
    assert err.count("unknown class") == 1
    assert "/../" not in err
