"""What ``gfocal check`` shows: classes first, groups of duplicates with what differs, commands, words explained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from made import CocoSet, texture
from PIL import Image, ImageFilter

from conftest import Run
from gfocal.checks.findings import KINDS, Finding, GroupImage, MarkedBox
from gfocal.checks.terms import TERMS
from gfocal.reports.check import explain
from gfocal.reports.check_images import COLORS, draw_group

NAMES = ("black-bishop", "white-bishop", "rook", "bishop")


def planted(folder: Path) -> Path:
    """A set with a mistaken class, equal images with different boxes, and a series of nearly equal images."""
    made = CocoSet(folder, NAMES)
    train = made.train
    train.box(train.save_image(texture(1), "odd.png"), [40.0, 30.0, 50.0, 40.0], 4)
    first, second = (train.save_image(texture(2), f"{name}.png") for name in ("one", "two"))
    train.box(first, [10.0, 10.0, 40.0, 40.0], 1)
    train.box(second, [10.0, 10.0, 40.0, 40.0], 2)
    train.box(second, [90.0, 50.0, 40.0, 40.0], 3)
    for k in range(4):
        blurred = texture(3).filter(ImageFilter.GaussianBlur(k / 2))
        train.box(train.save_image(blurred, f"frame{k}.png"), [20.0, 20.0, 60.0, 50.0], 1)
    return made.write()


def test_console_and_page(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    planted(tmp_path / "chess")
    _, out, error = run("check", "chess", "--html", "page.html", "--json", "found.json")
    assert "Traceback" not in error
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    _check_console(lines, " ".join(out.split()))
    _check_json(json.loads(Path("found.json").read_text()))
    _check_page(Path("page.html").read_text())


def _check_console(lines: list[str], words: str) -> None:
    """Classes, then names, then findings, then the regression range."""
    starts = [
        next(i for i, line in enumerate(lines) if what in line)
        for what in (
            "class ",
            "white-bishop",
            "mislabeled-class",
            "duplicate-image-other-boxes",
            "regression range with",
        )
    ]
    assert starts == sorted(starts)
    row = next(line for line in lines if line.startswith("rook"))
    assert row.split() == ["rook", "18", "13", "5", "18", "44", "117", "0%"]
    assert (
        "bishop: 1 box, near black-bishop (22 boxes; without 'black', also near white-bishop): mislabeled?" in words
    )
    assert "$ gfocal train chess --rename bishop=black-bishop" in words
    assert f"(near-duplicate: {TERMS['near-duplicate']})" in words
    assert words.count(TERMS["stride"]) == 1


def _check_json(found: dict[str, object]) -> None:
    findings = {one["code"]: one for one in found["findings"]}  # type: ignore[attr-defined]
    assert {"mislabeled-class", "duplicate-image-other-boxes", "near-duplicate-image"} <= set(findings)
    near = findings["near-duplicate-image"]
    assert [Path(one["file"]).stem for one in near["images"]] == [f"frame{k}" for k in range(4)]
    assert near["text"].startswith("one of 4 images of nearly the same view")
    equal = findings["duplicate-image-other-boxes"]
    assert equal["text"].endswith("1 box added, 1 box of another class: black-bishop → white-bishop")
    assert findings["mislabeled-class"]["command"] == "gfocal train chess --rename bishop=black-bishop"
    classes = found["classes"]
    assert classes["bishop"] == {  # type: ignore[index]
        "objects": 1,
        "splits": {"train": 1, "val": 0},
        "images": 1,
        "median_side": 44.721,
        "median_side_at_input": classes["bishop"]["median_side_at_input"],  # type: ignore[index]
        "small_fraction": 0.0,
    }


def _check_page(page: str) -> None:
    order = [page.index(what) for what in (">Classes<", 'id="mislabeled-class"', ">Findings<", ">Regression range<")]
    assert order == sorted(order)
    assert page.count('<article class="card">') == 3, "a mistaken name, two equal images, one series"
    assert page.count('<div class="pair">') == page.count('<div class="group">') == 1
    assert "<code>gfocal train chess --rename bishop=black-bishop</code>" in page
    assert "only in this image" in page
    assert all(f"<dt>{term}</dt>" in page for term in TERMS)


def test_several_datasets_have_no_command_that_takes_one(run: Run, tmp_path: Path) -> None:
    first, second = CocoSet(tmp_path / "first").write(), CocoSet(tmp_path / "second").write()  # the same images
    file = tmp_path / "found.json"
    assert run("check", first, second, "--fast", "--json", file)[0] == 1
    leaks = [one for one in json.loads(file.read_text())["findings"] if one["code"] == "duplicate-across-splits"]
    assert leaks
    assert {one["command"] for one in leaks} == {""}


def test_data_without_val_say_so_with_the_command(run: Run, tmp_path: Path) -> None:
    folder = CocoSet(tmp_path / "some set").write()
    (folder / "annotations" / "instances_val.json").unlink()
    file = tmp_path / "found.json"
    assert run("check", folder, "--fast", "--json", file)[0] == 0
    (found,) = [one for one in json.loads(file.read_text())["findings"] if one["code"] == "no-val-split"]
    assert found["command"] == f"gfocal split '{folder}' --val 0.15"
    assert found["text"].endswith("no val")


def test_words_are_explained_once_and_not_inside_of_tags() -> None:
    explained = explain('<a href="#split">two splits, a split</a>', ("split",))
    assert explained.count("<abbr") == 1
    assert '<a href="#split">' in explained
    assert ">splits</abbr>, a split<" in explained
    assert explain("splitting", ("split",)) == "splitting"


def test_every_word_of_a_kind_has_a_meaning() -> None:
    assert {kind.term for kind in KINDS.values()} - {""} <= set(TERMS)


def test_changes_are_drawn_in_their_colors(tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    Image.new("RGB", (400, 400), "white").save(image)
    boxes = (MarkedBox((20, 20, 200, 200)), MarkedBox((210, 210, 390, 390), "added"))
    group = (GroupImage("train", image), GroupImage("val", image, boxes, "1 box added"))
    card = draw_group(Finding("near-duplicate-image", str(image), "", "nearly", "train", image, group=group))
    assert card.count("<img") == 2
    assert "val: a.png: 1 box added" in card
    assert len(set(COLORS.values())) == len(COLORS) - 1, "missing boxes are red, as what is found"
    assert (
        draw_group(Finding("near-duplicate-image", "b", "", "", group=(GroupImage("train", tmp_path / "b.png"),)))
        == ""
    )
