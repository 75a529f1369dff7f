"""Findings on whole datasets: boxes of another convention, resized images, flags on most objects, repeated names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made import HEIGHT, WIDTH, texture

from conftest import TINY, Run
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR

NUM_IMAGES = 4
# Boxes of each image, xyxy, in the right and lower half, so that their numbers say what they are not.
CORNERS = [(70.0, 62.0, 120.0, 110.0), (100.0, 70.0, 150.0, 115.0), (90.0, 66.0, 130.0, 100.0)]


def write(
    folder: Path,
    boxes: Any = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    crowd: Any = None,
    names: tuple[str, ...] = ("cat", "dog"),
) -> Path:
    """A COCO set of images with three boxes each; ``boxes`` and ``crowd`` change what is written for them."""
    content: dict[str, list[Any]] = {"images": [], "annotations": []}
    for k in range(NUM_IMAGES):
        folder.mkdir(exist_ok=True)
        texture(k).save(folder / f"{k}.png")
        content["images"].append({"id": k, "file_name": f"{k}.png", "width": size[0], "height": size[1]})
        for x1, y1, x2, y2 in CORNERS:
            number = len(content["annotations"])
            corners = (x1 + k, y1 + k, x2 + k, y2 + k)
            bbox = [corners[0], corners[1], x2 - x1, y2 - y1] if boxes is None else boxes(*corners)
            entry = {"id": number, "image_id": k, "category_id": number % len(names), "bbox": bbox}
            content["annotations"].append(entry | ({} if crowd is None else {"iscrowd": crowd(number)}))
    content["categories"] = [{"id": i, "name": name} for i, name in enumerate(names)]
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def check(run: Run, folder: Path, *options: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Exit code, and the findings of ``gfocal check`` by code."""
    code, _, err = run("check", folder, "--json", folder / "found.jsn", "--fast", *options)
    assert code in (DONE, SOME_FAILED), err
    found: dict[str, list[dict[str, str]]] = {}
    for one in json.loads((folder / "found.jsn").read_text())["findings"]:
        found.setdefault(one["code"], []).append(one)
    return code, found


def train(run: Run, folder: Path, *options: str) -> tuple[int, str]:
    out = folder.parent / f"run_{len(list(folder.parent.iterdir()))}"
    code, _, err = run("train", folder, "--out", out, *TINY, "--set", "run.max_clamped_fraction=1", *options)
    return code, err


def test_right_boxes_give_no_finding(run: Run, tmp_path: Path) -> None:
    _, found = check(run, write(tmp_path / "set"))
    codes = {
        "other-box-convention",
        "fractions-for-pixels",
        "resized-images",
        "mostly-ignored",
        "duplicate-class-name",
    }
    assert not codes & set(found)


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (
            lambda *box: list(box),
            "12 of 12 boxes leave their images as x, y, width, height; 12 fit as x1, y1, x2, y2",
        ),
        (
            lambda x1, y1, x2, y2: [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1],
            "12 fit with x, y as their centers",
        ),
    ],
    ids=["corners", "centers"],
)
def test_boxes_of_another_convention_are_said_and_not_trained_on(
    run: Run, tmp_path: Path, boxes: Any, said: str
) -> None:
    folder = write(tmp_path / "set", boxes)
    code, found = check(run, folder)
    assert code == SOME_FAILED
    (finding,) = found["other-box-convention"]
    assert said in finding["record"]
    assert "correct them to" in finding["text"]
    code, err = train(run, folder)
    assert code == USER_ERROR
    assert said in err.splitlines()[-1]
    assert "--set run.trust_boxes=true" in err.splitlines()[-1]
    code, err = train(run, folder, "--set", "run.trust_boxes=true")
    assert code == DONE, err


def test_fractions_in_place_of_pixels_are_read_as_such(run: Run, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set",
        lambda x1, y1, x2, y2: [x1 / WIDTH, y1 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT],
    )
    _, found = check(run, folder)
    (finding,) = found["fractions-for-pixels"]
    assert "all numbers are in 0..1" in finding["text"]
    assert not {"tiny-box", "zero-area-box"} & set(found)


def test_images_that_were_resized_after_annotation(run: Run, tmp_path: Path) -> None:
    folder = write(
        tmp_path / "set",
        lambda x1, y1, x2, y2: [2 * x1, 2 * y1, 2 * (x2 - x1), 2 * (y2 - y1)],
        size=(2 * WIDTH, 2 * HEIGHT),
    )
    _, found = check(run, folder)
    (finding,) = found["resized-images"]
    assert "stated sizes of 4 of 4 images are 2 times the files', and 12 of 12 boxes fit them, 0 the files" in str(
        finding
    )
    assert not {"image-size-mismatch", "box-outside-image", "box-exceeds-image"} & set(found)
    code, err = train(run, folder)
    assert code == DONE, err
    assert "note: " in err
    assert "boxes are scaled to the files" in err


def test_crowd_flags_on_most_objects(run: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", crowd=lambda number: int(number % 4 > 0))
    said = "9 of 12 objects are marked as crowd (iscrowd) and not trained"
    _, found = check(run, folder)
    assert said in found["mostly-ignored"][0]["record"]
    assert "mostly-ignored" not in check(run, folder, "--ignored-as-objects")[1]
    code, err = train(run, folder)
    assert code == DONE, err
    assert said in err


def test_crowd_flags_on_all_objects_are_the_reason_in_the_error(run: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", crowd=lambda _: "1")
    code, err = train(run, folder)
    assert code == USER_ERROR
    last = err.splitlines()[-1]
    assert "12 of 12 objects are marked as crowd (iscrowd)" in last
    assert "--ignored-as-objects" in last
    assert "give data with boxes" not in last
    code, err = train(run, folder, "--ignored-as-objects")
    assert code == DONE, err
    assert "12 ignored objects are taken as ordinary objects" in err


@pytest.mark.parametrize("flag", ["0", "false", "False", "no", 0, 0.0, False, None])
def test_text_flags_that_mean_no(run: Run, tmp_path: Path, flag: Any) -> None:
    _, found = check(run, write(tmp_path / "set", crowd=lambda _: flag))
    assert not {"mostly-ignored", "ignored-regions"} & set(found)


def test_a_class_name_twice_is_refused_before_the_first_step(run: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "set", names=("thing", "thing"))
    code, found = check(run, folder)
    assert code == SOME_FAILED
    assert "2 classes are named 'thing'" in found["duplicate-class-name"][0]["record"]
    code, err = train(run, folder, "--val", str(folder))
    assert code == USER_ERROR
    assert "2 classes are named 'thing': give each a name of its own" in err.splitlines()[-1]
    code, err = train(run, folder, "--rename", "thing=thing")
    assert code == DONE, err


def test_images_without_usable_objects_are_not_trained_on(run: Run, tmp_path: Path) -> None:
    folder = write(tmp_path / "set")
    content = json.loads((folder / "a.json").read_text())
    for entry in content["annotations"]:
        if entry["image_id"] == 1:
            entry["bbox"] = [10, 10, 0, 20]
    (folder / "a.json").write_text(json.dumps(content))
    _, found = check(run, folder)
    (finding,) = found["image-not-trained"]
    assert finding["record"] == "1.png"
    code, err = train(run, folder)
    assert code == DONE, err
    assert "all objects of the image were dropped: it is evaluated, and not trained on" in err
    assert "3 training images" in err
