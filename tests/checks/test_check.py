"""``gfocal check`` as a command: what it prints and writes, its exit codes, and that docs/check.md agrees with it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made import NAMES, CocoSet, texture, voc_set, yolo_set

from gfocal.checks.findings import KINDS, SEVERITIES, Finding, group_by_kind
from gfocal.checks.records import CODES, check_records, parse_corners
from gfocal.data import validation
from gfocal.data.dataset import FileData, Problem
from gfocal.reports.check_tables import describe_finding

Run = Callable[..., tuple[int, str, str]]
HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / "docs" / "check.md"
GOOD = [40.0, 30.0, 50.0, 40.0]


def codes(run: Run, tmp_path: Path, *arguments: object) -> list[tuple[str, str]]:
    file = tmp_path / "out" / "found.json"
    code, _, error = run("check", *arguments, "--json", file)
    assert code in (0, 1), error
    return sorted((f["code"], f["split"]) for f in json.loads(file.read_text())["findings"])


def test_the_real_blood_cells(run: Run, shared: Path, tmp_path: Path) -> None:
    file = tmp_path / "bccd.json"
    code, out, _ = run("check", shared / "data" / "bccd", "--json", file, "--config", "bccd_r18")
    assert code == 1
    findings = json.loads(file.read_text())["findings"]
    found: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        found.setdefault(finding["code"], []).append(finding)
    assert {code: len(group) for code, group in found.items()} == {
        "zero-area-box": 2,
        "near-duplicate-across-splits": 1,
        "near-duplicate-box": 7,
        "unassigned-box": 1,  # at 240 pixels
    }
    assert [f["record"].partition(",")[0] for f in found["zero-area-box"]] == [
        "BloodImage_00343.jpg",
        "BloodImage_00338.jpg",
    ]
    (pair,) = found["near-duplicate-across-splits"]
    assert (Path(pair["file"]).stem, Path(pair["record"]).stem) == ("BloodImage_00037", "BloodImage_00038")
    assert "2 errors, 8 warnings, 1 note" in out


@pytest.mark.parametrize("name", ["cards", "coco_ccby"])
def test_real_sets_without_errors(run: Run, shared: Path, tmp_path: Path, name: str) -> None:
    found = codes(run, tmp_path, shared / "data" / name)
    assert not [code for code, _ in found if KINDS[code].severity == "error"]
    # Of the cards, six pairs in train are shots of one scene; no pair stands across splits.
    assert found.count(("near-duplicate-image", "train")) == (6 if name == "cards" else 0)
    assert not [code for code, _ in found if "across" in code]


def test_exit_codes(run: Run, tmp_path: Path) -> None:
    clean = CocoSet(tmp_path / "clean").write()
    assert run("check", clean)[0] == 0
    warned = CocoSet(tmp_path / "warned")
    warned.train.box(1, [130.0, 40.0, 50.0, 44.0])
    assert run("check", warned.write())[0] == 0
    assert run("check", warned.folder, "--strict")[0] == 1
    wrong = CocoSet(tmp_path / "wrong")
    wrong.val.box(1, [50.0, 40.0, 0.0, 44.0])
    assert run("check", wrong.write())[0] == 1
    assert run("check", wrong.folder, "--splits", "train")[0] == 0
    for arguments, said in (
        ([tmp_path / "nowhere"], "no such file"),
        ([clean, "--splits", "night"], "no split 'night'"),
        ([clean, "--config", "none_such"], "no config"),
        ([clean, "--set", "run.nothing=1"], "unknown key run.nothing"),
        ([clean, "--set", "run"], "KEY=VALUE"),
        ([clean, clean], "named twice"),
    ):
        code, _, error = run("check", *arguments)
        assert code == 2
        assert said in error
        assert "Traceback" not in error


def test_the_table_fits_80_columns(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    made = CocoSet(tmp_path / "coco")
    made.train.box(1, [50.0, 40.0, 0.0, 44.0])
    made.train.box(made.train.save_image(texture(1), "flat.png"), [5.0, 58.0, 150.0, 7.6])
    _, out, error = run("check", made.write(), "--config", "light")
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == "train: 13 images, 37 objects, 3 classes (training)"
    first = next(i for i, line in enumerate(lines) if "zero-area-box" in line)
    last = next(i for i, line in enumerate(lines) if "edges-outside-regression-range" in line)
    assert first < last, "the worst comes first"
    assert lines[-1] == "1 error, 0 warnings, 1 note"
    assert "train00.png, annotation 37: 50 40 50 84" in out
    assert re.search(r"^ +8 +128 +1 +\d+ +\d+\.\d\d%", out, re.M)
    assert "Traceback" not in error


def test_json_has_everything(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco")
    for i in range(8):
        made.train.box(made.train.save_image(texture(50 + i), f"flat{i}.png"), [5.0, 58.0, 150.0, 7.6])
    file = tmp_path / "found.json"
    light = ["--config", "light"]
    assert run("check", made.write(), "--json", file, *light, "--set", "run.max_clamped_fraction=0.5")[0] == 0
    found = json.loads(file.read_text())
    assert list(found) == [
        "schema", "gfocal", "data", "config", "fast", "splits", "classes", "counts", "findings", "regression_range",
        "advice",
    ]  # fmt: skip
    assert found["splits"]["train"] == {
        "training": True,
        "images": 20,
        "objects": 44,
        "classes": {"cat": 20, "dog": 12, "owl": 12},
    }
    keys = ["code", "severity", "split", "file", "record", "text", "fix", "command", "images"]
    assert all(list(f) == keys for f in found["findings"])
    assert found["counts"] == {"error": 0, "warning": 1, "note": 8}
    assert {f["code"] for f in found["findings"]} == {
        "many-edges-outside-regression-range",
        "edges-outside-regression-range",
    }
    measured = found["regression_range"]
    assert (measured["n"], measured["delta"], measured["boxes"]) == (16, 1.0, 44)
    assert [level["range_pixels"] for level in measured["levels"]] == [128, 256, 512, 1024, 2048]
    assert 0.01 < measured["clamped_fraction"] < measured["levels"][0]["clamped_fraction"]
    (advice,) = found["advice"]
    assert list(advice["changes"]) == ["model.options.n"]
    # The advice helps.
    again = [
        "check",
        made.folder,
        "--json",
        file,
        *light,
        "--set",
        f"model.options.n={advice['changes']['model.options.n']}",
    ]
    assert run(*again)[0] == 0
    assert json.loads(file.read_text())["regression_range"]["clamped_fraction"] <= 0.01
    # Above the config's own limit it is an error, which training refuses.
    assert run("check", made.folder, "--json", file, *light, "--set", "run.max_clamped_fraction=0.01")[0] == 1
    assert json.loads(file.read_text())["findings"][0]["code"] == "too-many-edges-outside-regression-range"


def test_a_detector_without_a_regression_range_is_passed_over(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    made = CocoSet(tmp_path / "coco").write()
    code, out, _ = run("check", made, "--json", file, "--set", "model.preset=ssd512_vgg16")
    assert code == 0
    assert json.loads(file.read_text())["regression_range"] is None
    assert "regression range" not in out


def test_the_page_shows_the_worst(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco", ("<b>cat</b>", "dog", "owl"))
    made.train.box(1, [50.0, 40.0, 0.0, 44.0])
    made.train.box(2, [50.0, 40.0, 1.0, 44.0])
    made.train.box(made.train.save_image(texture(1), "seen.png"), GOOD)
    made.val.box(made.val.save_image(texture(1), "seen_too.png"), GOOD)
    broken = made.train.folder / "train" / "broken.png"
    made.train.box(made.train.save_image(texture(2), "broken.png"), GOOD)
    broken.write_bytes(broken.read_bytes()[:2000])
    assert run("check", made.write(), "--html", tmp_path / "pages", "--config", "light")[0] == 1
    page = (tmp_path / "pages" / "check.html").read_text()
    for code in ("zero-area-box", "duplicate-across-splits", "unreadable-image"):
        assert f'id="{code}"' in page
    assert page.count("<img") == 4, "two odd boxes, and two images that are one"
    assert "<b>cat</b>" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert run("check", made.folder, "--html", tmp_path / "named.html")[0] == 1
    assert (tmp_path / "named.html").is_file()


def test_several_datasets_are_one(run: Run, tmp_path: Path) -> None:
    first, second = CocoSet(tmp_path / "first"), CocoSet(tmp_path / "second")
    for split in (second.train, second.val):
        for i, entry in enumerate(split.images):
            texture(7000 + 100 * (split is second.val) + i).save(split.folder / split.name / entry["file_name"])
    assert codes(run, tmp_path, first.write(), second.write()) == []
    texture(100).save(second.val.folder / "val" / "val00.png")  # the first image of first:train
    assert codes(run, tmp_path, first.folder, second.folder) == [("duplicate-across-splits", "second:val")]
    # Files of one split each: their names tell which is for training.
    files = [first.folder / "annotations" / f"instances_{split}.json" for split in ("train", "val")]
    file = tmp_path / "files.json"
    assert run("check", *files, "--json", file)[0] == 0
    splits = json.loads(file.read_text())["splits"]
    assert {name: facts["training"] for name, facts in splits.items()} == {
        "instances_train.json": True,
        "instances_val.json": False,
    }


def test_without_a_training_split_nothing_is_said_of_training(run: Run, tmp_path: Path) -> None:
    folder = CocoSet(tmp_path / "coco", (*NAMES, "emu")).write()
    file = tmp_path / "found.json"
    code, out, _ = run("check", folder, "--splits", "val", "--json", file)
    assert code == 0
    found = json.loads(file.read_text())
    assert [(one["code"], one["record"], one["text"]) for one in found["findings"]] == [
        ("class-not-evaluated", "emu", "no box in val: it is not evaluated there")
    ]
    assert found["splits"]["val"]["training"] is False
    assert found["regression_range"]["boxes"] == 15
    assert "15 boxes of 5 images of val" in " ".join(out.split())


def test_files_of_one_split_each_are_counted_as_one(run: Run, tmp_path: Path) -> None:
    made = CocoSet(tmp_path / "coco")
    made.train.annotations = [one for one in made.train.annotations if one["category_id"] != 3]
    folder = made.write()
    files = [folder / "annotations" / f"instances_{split}.json" for split in ("train", "val")]
    assert codes(run, tmp_path, *files) == [("class-not-in-training", "")]


def test_a_list_that_repeats_others_is_passed_over(run: Run, tmp_path: Path) -> None:
    """VOC's trainval names the images of train and val again."""
    flat = tmp_path / "voc"
    made = voc_set(tmp_path / "made")
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (flat / folder).mkdir(parents=True)
    for split in ("train", "val"):
        for file in (made / split).iterdir():
            file.rename(flat / ("Annotations" if file.suffix == ".xml" else "JPEGImages") / file.name)
        names = [f"{split}{i}" for i in range(10)]
        (flat / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    both = "\n".join(f"{split}{i}" for split in ("train", "val") for i in range(10))
    (flat / "ImageSets" / "Main" / "trainval.txt").write_text(both)
    assert codes(run, tmp_path, flat) == []
    found = codes(run, tmp_path, flat, "--splits", "train,trainval")
    assert found == [("duplicate-across-splits", "trainval")] * 10


def test_findings_on_classes_and_splits(run: Run, tmp_path: Path) -> None:
    other = CocoSet(tmp_path / "other")
    other.write()
    file = other.folder / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 9, "name": "emu"})
    file.write_text(json.dumps(content))
    assert codes(run, tmp_path, other.folder) == [("class-list-mismatch", "val")]

    empty = CocoSet(tmp_path / "empty")
    empty.val.annotations.clear()
    assert codes(run, tmp_path, empty.write()) == [("split-without-objects", "val")]

    bare = CocoSet(tmp_path / "bare")
    for i in range(20):
        bare.train.save_image(texture(900 + i), f"bare{i}.png")
    assert codes(run, tmp_path, bare.write()) == [("many-empty-images", "train")]

    twice = CocoSet(tmp_path / "twice", (*NAMES, "cat"))
    twice.train.annotations[0]["category_id"] = 4
    found = codes(run, tmp_path, twice.write())
    assert [code for code, _ in found if code == "duplicate-class-name"] == ["duplicate-class-name"] * 2

    many = yolo_set(tmp_path / "yolo", 12)
    crowd = [f"0 {0.02 + 0.04 * i:.3f} {0.05 + 0.1 * j:.3f} 0.035 0.09" for i in range(25) for j in range(4)]
    for i in range(12):
        (many / "labels" / "train" / f"train{i}.txt").write_text(
            "\n".join(crowd) + "\n1 0.5 0.8 0.2 0.2\n" * (i == 0)
        )
    found = codes(run, tmp_path, many)
    assert ("class-imbalance", "") in found
    assert ("rare-class", "") in found


def test_every_reason_of_the_readers_has_a_code() -> None:
    reasons = [
        value
        for name, value in vars(validation).items()
        if name.isupper() and isinstance(value, str) and name not in ("NEARLY",)
    ]
    assert len(reasons) >= 15
    for reason in reasons:
        assert any(reason.startswith(start) for start in CODES), f"{reason!r} has no code of its own"
    assert set(CODES.values()) <= set(KINDS)
    data = FileData(("a",), (1,), [], [Problem("f", "line 1", "something new", done) for done in ("dropped", "kept")])
    assert [f.code for f in check_records(data, "train")] == ["invalid-record", "unusual-record"]


def test_corners_of_a_record() -> None:
    assert parse_corners("a.jpg, object 4 (RBC): 181 329 181 329.5") == (181, 329, 181, 329.5)
    assert parse_corners("annotation 7: image_id 99") is None
    assert parse_corners("a b c d") is None


def test_untrusted_text_does_not_steer_the_terminal() -> None:
    finding = Finding("invalid-record", "data.txt", "line 1: \x1b[31mred\nnext", "odd", "train")
    assert "\x1b" not in describe_finding(finding)
    assert "\n" not in describe_finding(finding)


def test_the_worst_kinds_come_first() -> None:
    found = group_by_kind([Finding(code, "f", "", "") for code in reversed(KINDS)])
    ranks = [SEVERITIES.index(KINDS[code].severity) for code in found]
    assert ranks == sorted(ranks)
    assert set(found) == set(KINDS)


def test_every_kind_is_in_the_docs_as_the_code_has_it() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (\w+) \| (.+?) \| (.+?) \|$", DOCS.read_text(encoding="utf-8"), re.M)
    commands = {code: kind.command.replace("PARTS", "--val 0.15") for code, kind in KINDS.items()}
    assert rows == [
        (code, kind.severity, kind.title, kind.fix + (f": `{commands[code]}`" if kind.command else ""))
        for code, kind in KINDS.items()
    ]


def test_every_kind_occurs_in_a_test() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in HERE.glob("test_*.py"))
    assert [code for code in KINDS if f'"{code}"' not in text] == []


def test_short_side_is_that_of_training(run: Run, tmp_path: Path) -> None:
    data = CocoSet(tmp_path / "set").write()
    for words, sides in (([], [320, 427]), (["--short-side", 160], [160, 214])):
        run("check", data, "--json", tmp_path / "found.json", "--config", "light", *words)
        measured = json.loads((tmp_path / "found.json").read_text())["regression_range"]
        assert [measured["short_side"], measured["long_side"]] == sides
