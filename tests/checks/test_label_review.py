"""``gfocal check --model`` as a command: what it reviews, what it leaves out, and files that can be read back."""

from __future__ import annotations

import argparse
import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from made import CocoSet

from conftest import TINY
from gfocal.checks.label_review import LabelReview, as_findings
from gfocal.checks.proposals import combine
from gfocal.checks.review_files import COLUMNS, EXPORT_FORMATS, export_review, write_json, write_table
from gfocal.checks.suspects import SUSPECT_KINDS, rank_suspects
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.cli.label_review import add_review
from gfocal.data.convert import find_first_difference
from gfocal.data.dataset import FileData
from gfocal.data.discovery import read_data
from gfocal.reports.label_review import draw_suspect, write_review_page
from gfocal.structures import Detections
from gfocal.visualize.outliers import GROUND_TRUTH, PREDICTED

Run = Callable[..., tuple[int, str, str]]
DATA = ("--no-val", "--train-split", "train")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return CocoSet(tmp_path_factory.mktemp("data") / "photos").write()


@pytest.fixture
def trained(run: Run, photos: Path, tmp_path: Path) -> Path:
    code, _, err = run("train", photos, "--out", tmp_path / "run", *TINY, *DATA)
    assert code == DONE, err
    return tmp_path / "run"


def as_detections(data: FileData, index: int) -> Detections:
    """What a perfect detector would find."""
    sample = data.sample(index)
    edges = torch.zeros(len(sample.boxes), 4, 8)
    edges[:, :, 3] = 1
    assert sample.size is not None
    return Detections(
        boxes=sample.boxes,
        scores=torch.full((len(sample.boxes),), 0.8),
        labels=sample.labels,
        edges=edges,
        points=(sample.boxes[:, :2] + sample.boxes[:, 2:]) / 2,
        bin_sizes=torch.full((len(sample.boxes), 4), 8.0),
        names=data.names,
        size=sample.size,
    )


@pytest.fixture
def review(photos: Path) -> LabelReview:
    """Of annotations with one error of each kind, each in an image of its own."""
    data = read_data(photos, "train")
    proposals = [combine(as_detections(data, index), None, range(3)) for index in range(len(data))]
    samples = [data.sample(index) for index in range(len(data))]
    samples[0].labels[1] = 2
    two = samples[1]
    samples[1] = replace(two, boxes=two.boxes[:2], labels=two.labels[:2], crowd=two.crowd[:2], areas=None)
    extra = torch.tensor([[120.0, 80.0, 150.0, 110.0]])
    boxes, labels = torch.cat([samples[2].boxes, extra]), torch.tensor([0, 1, 2, 0])
    samples[2] = replace(samples[2], boxes=boxes, labels=labels, crowd=torch.zeros(4, dtype=torch.bool), areas=None)
    samples[3].boxes[0, 2] += 9
    wrong = FileData(data.names, data.category_ids, [replace(one, stated=None, areas=None) for one in samples])
    ranking = rank_suspects(samples, proposals, [True] * 3)
    reported = ranking.reported([0.3] * 3)
    assert {kind: [one.image for one in reported[kind]] for kind in SUSPECT_KINDS} == {
        "suspect-class": [0],
        "suspect-missing-box": [1],
        "suspect-extra-box": [2],
        "suspect-edge": [3],
    }
    return LabelReview(wrong, ["train"] * len(data), ranking, reported, "a perfect detector")


def test_findings_name_the_annotation_and_the_evidence(review: LabelReview) -> None:
    findings = {finding.code: finding for finding in as_findings(review)}
    assert "box 2 (owl)" in findings["suspect-class"].record
    assert "looks like dog (0.80)" in findings["suspect-class"].text
    assert findings["suspect-missing-box"].record.startswith("train01.png, no box (owl)")
    assert "box 4 (cat)" in findings["suspect-extra-box"].record
    assert findings["suspect-edge"].text.startswith("right edge 9.0 pixels outside")
    assert len(findings["suspect-edge"].boxes) == 2  # annotated and expected


def test_the_table_can_be_read_as_annotations(review: LabelReview, photos: Path, tmp_path: Path) -> None:
    write_table(review, tmp_path / "suspects.csv")
    with (tmp_path / "suspects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == list(SUSPECT_KINDS)
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["suggested_class"] == "dog"
    assert float(rows[3]["xmax"]) - float(rows[3]["suggested_xmax"]) == pytest.approx(9, abs=0.02)
    assert float(rows[3]["z_right"]) > 4
    (photos / "suspects.csv").write_text((tmp_path / "suspects.csv").read_text())
    read = read_data(photos / "suspects.csv", "train")
    (photos / "suspects.csv").unlink()
    assert [path.name for path in (sample.path for sample in read.samples) if path] == [
        f"train0{k}.png" for k in range(4)
    ]
    assert len(read.table.boxes) == 4


def test_the_json_has_all_of_it(review: LabelReview, tmp_path: Path) -> None:
    write_json(review, tmp_path / "suspects.json")
    content = json.loads((tmp_path / "suspects.json").read_text())
    assert content["counts"] == dict.fromkeys(SUSPECT_KINDS, 1)
    assert (content["images"], content["model"]) == (12, "a perfect detector")
    assert [one["annotation"] for one in content["suspects"]] == [2, None, 4, 1]


def test_the_page_draws_each(review: LabelReview, tmp_path: Path) -> None:
    write_review_page(review, tmp_path / "review.html", "Annotations of photos")
    page = (tmp_path / "review.html").read_text()
    assert page.count("<figure>") == 4
    assert "looks like dog (0.80)" in page


def test_what_the_model_found_is_drawn(review: LabelReview) -> None:
    """A class that is contradicted and a moved edge show the detection; a missing box shows its neighbors."""
    suspects = {kind: review.reported[kind][0] for kind in SUSPECT_KINDS}
    of_class = suspects["suspect-class"]
    assert of_class.detected_box is not None
    # A detection off the annotation, so that both can be seen.
    x1, y1, x2, y2 = of_class.box
    moved = replace(of_class, detected_box=(x1 + 6, y1 + 6, x2 + 6, y2 + 6))
    for one, colors in (
        (moved, {PREDICTED, GROUND_TRUTH}),
        (suspects["suspect-missing-box"], {PREDICTED, GROUND_TRUTH}),
        (suspects["suspect-extra-box"], {GROUND_TRUTH}),
        (suspects["suspect-edge"], {PREDICTED, GROUND_TRUTH}),
    ):
        image = draw_suspect(review, one)
        found = {color for _, color in image.getcolors(1 << 24) or ()}
        assert {color for color in (PREDICTED, GROUND_TRUTH) if color in found} == colors, one.kind
    boxes = {finding.code: len(finding.boxes) for finding in as_findings(review)}
    assert boxes == {
        "suspect-class": 2,
        "suspect-missing-box": 1,
        "suspect-extra-box": 1,
        "suspect-edge": 2,
    }


def test_suspects_come_first_and_the_dataset_in_short(
    run: Run, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    names = ("cat", "dog", "owl", *(f"bird {chr(97 + k)}" for k in range(20)))
    photos = CocoSet(tmp_path / "many", names).write()
    review = ("--model", trained, "--splits", "val", "--device", "cpu")
    code, out, err = run("check", photos, *review, "--html", tmp_path / "check.html")
    assert code == DONE, err
    lines = out.splitlines()
    assert "training" not in out.partition("regression range")[0]
    first, second = (
        next(i for i, line in enumerate(lines) if line.startswith(w)) for w in ("annotations: ", "dataset, ")
    )
    of_classes = [i for i, line in enumerate(lines) if "class-not-evaluated" in line]
    assert first < second < of_classes[0]
    assert len(of_classes) == 1
    assert "bird a, bird b, bird c, bird d and 16 more" in " ".join(out.split())
    assert re.fullmatch(r"\d+ suspects?; 0 errors, 0 warnings, .* notes, of \d kinds?", lines[-1])
    page = (tmp_path / "check.html").read_text()
    if 'id="suspect-' in page:
        assert page.index('id="suspect-') < page.index(">Classes<")
    # Without the review, at length.
    _, out, _ = run("check", photos, *review, "--no-review")
    assert "also bird b, bird c, bird d, bird e and 15 more" in " ".join(out.split())
    assert "annotations: " not in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "m", "--fast", "--review", "out"), "--review reviews annotations, which --fast skips"),
        (("--model", "m", "--folds", "2", "--seen-images"), "--seen-images is of a review by --model alone"),
        (("--seen-images",), "--seen-images is of a review by --model alone"),
        (("--model", "m", "--review", "out", "--export", "cvat"), "is not empty"),
    ],
)
def test_options_without_a_review_and_exports_that_exist_are_refused_first(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    """Refused before anything is read or trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out" / "cvat").mkdir(parents=True)
    (tmp_path / "out" / "cvat" / "annotations.xml").write_text("corrected by hand")
    code, _, err = run("check", photos, *options)
    assert code == USER_ERROR
    assert said in " ".join(err.split())
    assert "reading" not in err


def test_help_says_what_a_review_excludes() -> None:
    parser = argparse.ArgumentParser()
    add_review(parser)
    text = " ".join(parser.format_help().split())
    assert "not with --fast or --no-review, which review nothing" in text


def test_label_studio_has_the_annotations_and_predictions(review: LabelReview, tmp_path: Path) -> None:
    export_review(review, "label-studio", tmp_path / "tasks")
    again = read_data(tmp_path / "tasks", "train")
    assert find_first_difference(review.data.select(range(4)), again) is None
    tasks = json.loads((tmp_path / "tasks" / "train.json").read_text())
    regions = [task["predictions"][0]["result"] for task in tasks]
    assert [len(result) for result in regions] == [1, 1, 0, 1]
    assert regions[0][0]["value"]["rectanglelabels"] == ["dog"]
    texts = [item["meta"]["text"] for task in tasks for item in task["annotations"][0]["result"] if "meta" in item]
    assert [text[0].partition(":")[0] for text in texts] == ["suspect-class", "suspect-extra-box", "suspect-edge"]
    # The box of a prediction is where the model sees the object.
    annotated = tasks[3]["annotations"][0]["result"][0]["value"]
    assert annotated["width"] - regions[3][0]["value"]["width"] == pytest.approx(100 * 9 / 160, abs=0.01)


def test_cvat_has_the_annotations_with_their_evidence(review: LabelReview, tmp_path: Path) -> None:
    export_review(review, "cvat", tmp_path / "tasks")
    again = read_data(tmp_path / "tasks", "train")
    expected = review.data.select(range(4))
    for index in (0, 2, 3):
        assert torch.equal(again.sample(index).boxes, expected.sample(index).boxes)
        assert torch.equal(again.sample(index).labels, expected.sample(index).labels)
    # What is missing is a box to be kept or deleted.
    assert len(again.sample(1).boxes) == len(expected.sample(1).boxes) + 1
    assert not again.problems
    tree = ET.parse(tmp_path / "tasks" / "annotations.xml")
    texts = [one.text or "" for one in tree.iterfind(".//box/attribute[@name='review']")]
    assert sorted(text.partition(":")[0] for text in texts) == sorted(SUSPECT_KINDS)


def test_an_export_of_data_without_splits_is_one_split(review: LabelReview, tmp_path: Path) -> None:
    whole = replace(review, split_of=["all"] * len(review.split_of))
    for kind in EXPORT_FORMATS:
        export_review(whole, kind, tmp_path / kind)
        assert len(read_data(tmp_path / kind, "train")) == 4


def test_images_of_training_are_not_reviewed(run: Run, photos: Path, trained: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "review", tmp_path / "check.json"
    code, _, err = run("check", photos, "--model", trained, "--review", out, "--json", file, "--device", "cpu")
    assert code in (DONE, SOME_FAILED), err
    assert "12 of 17 images are not reviewed" in " ".join(err.split())
    content = json.loads((out / "suspects.json").read_text())
    assert (content["images"], content["images_left_out"], content["boxes"]) == (5, 12, 15)
    found = [one for one in json.loads(file.read_text())["findings"] if one["code"].startswith("suspect-")]
    assert len(found) == len(content["suspects"])
    assert {one["split"] for one in found} <= {"val"}

    run("check", photos, "--model", trained, "--review", tmp_path / "all", "--seen-images", "--device", "cpu")
    assert json.loads((tmp_path / "all" / "suspects.json").read_text())["images"] == 17

    code, _, err = run("check", photos, "--model", trained, "--splits", "train", "--device", "cpu")
    assert code in (DONE, SOME_FAILED), err
    assert "12 of 12 images are not reviewed" in " ".join(err.split())


def test_a_model_of_other_classes_reviews_nothing(run: Run, trained: Path, tmp_path: Path) -> None:
    others = CocoSet(tmp_path / "others", names=("cup", "plate", "fork")).write()
    code, out, err = run("check", others, "--model", trained, "--device", "cpu")
    assert code in (DONE, SOME_FAILED), err
    assert "has none of the classes" in err
    assert "suspect-" not in out


@pytest.mark.parametrize("option", ["--no-review", "--fast"])
def test_a_check_without_a_review(run: Run, photos: Path, trained: Path, option: str) -> None:
    code, _, err = run("check", photos, "--model", trained, option)
    assert code in (DONE, SOME_FAILED), err
    assert "review" not in err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--export", "cvat"), "--review DIR; give both"),
        (("--epochs", "3"), "--folds K"),
        (("--folds", "3", "--fast"), "which --fast skips"),
        (("--review", "out", "--no-review", "--model", "nano"), "which --no-review skips"),
        (("--review", "out"), "give --model, or --folds K"),
    ],
)
def test_options_that_contradict_each_other(run: Run, photos: Path, options: tuple[str, ...], words: str) -> None:
    code, _, err = run("check", photos, *options)
    assert code == USER_ERROR
    assert words in " ".join(err.split())


def test_folds_review_every_image_by_a_model_that_has_not_seen_it(
    run: Run, photos: Path, trained: Path, tmp_path: Path
) -> None:
    out = tmp_path / "review"
    command = ("check", photos, "--model", trained, "--folds", 2, "--epochs", 1, "--review", out, "--device", "cpu")
    code, _, err = run(*command)
    assert code in (DONE, SOME_FAILED), err
    content = json.loads((out / "suspects.json").read_text())
    assert (content["images"], content["images_left_out"]) == (17, 0)
    trained_on = [
        set(json.loads((out / "folds" / f"fold_{k}" / "training_images.json").read_text())["digests"]) for k in (1, 2)
    ]
    assert sum(map(len, trained_on)) == 17  # each image in one of two
    assert not trained_on[0] & trained_on[1]
    # Again: nothing is trained, and the result is the same.
    code, _, err = run(*command)
    assert code in (DONE, SOME_FAILED), err
    assert json.loads((out / "suspects.json").read_text())["suspects"] == content["suspects"]


def test_folds_refuse_to_start_from_weights_that_know_the_images(
    run: Run, photos: Path, trained: Path, tmp_path: Path
) -> None:
    start = f"model.init_from={trained}"
    code, _, err = run("check", photos, "--model", trained, "--folds", 2, "--set", start, "--device", "cpu")
    assert code == USER_ERROR
    assert "would know them" in " ".join(err.split())
    (tmp_path / "alone").mkdir()
    (trained / "last.safetensors").rename(tmp_path / "alone" / "last.safetensors")
    code, _, err = run("check", photos, "--model", tmp_path / "alone" / "last.safetensors", "--folds", 2)
    assert code == USER_ERROR
    assert "name the config with --config" in " ".join(err.split())
