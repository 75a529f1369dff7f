"""gfocal eval: the summary, the page, thresholds in the model file, detections from elsewhere."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.cli import DONE, USER_ERROR
from gfocal.data.coco_names import COCO_NAMES
from gfocal.data.preprocess import InputSettings
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create

Run = Callable[..., tuple[int, str, str]]
NAMES = ("cat", "dog")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 images in COCO's layout, a cat in each and a dog in every other, all in split val."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "annotations").mkdir()
    (folder / "val2017").mkdir()
    images, annotations = [], []
    for k in range(12):
        Image.new("RGB", (200, 100), (60, 20 * k, 60)).save(folder / "val2017" / f"{k}.jpg")
        images.append({"id": 10 * k + 5, "file_name": f"{k}.jpg", "width": 200, "height": 100})
        for category, x in ((3, 10), (7, 110))[: 1 + k % 2]:
            box = {"bbox": [x, 10, 50, 60], "area": 3000, "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": 10 * k + 5, "category_id": category, **box})
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Every cat, with scores from 0.5 up; one dog in place of a cat; a cat where nothing is."""
    rows = [(10 * k + 5, 3, [10, 10, 50, 60], 0.5 + k / 100) for k in range(11)]
    rows += [(115, 7, [10, 10, 50, 60], 0.9), (5, 3, [150, 50, 20, 20], 0.4)]
    keys = ("image_id", "category_id", "bbox", "score")
    path = tmp_path / "results.json"
    path.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
    built = create("gfl_light_fpn", 2, names=NAMES, pretrained=False, **options)
    built.input_settings = InputSettings(short_side=64, long_side=96)
    with torch.no_grad():  # some 2 in 3 scores above the threshold
        built.head.cls_out.bias.fill_(-2.5)
    save_model(built.eval(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_detections_of_another_detector(run: Run, photos: Path, results: Path, tmp_path: Path) -> None:
    code, out, err = run("eval", results, photos, "--out", tmp_path / "numbers.json")
    assert code == DONE, err
    assert f"evaluating 12 images: split val of {photos}" in err
    lines = out.splitlines()
    assert lines[0].split() == ["12", "images,", "18", "ground-truth", "boxes,", "13", "detections"]
    assert lines[-3].startswith("most costly error type: missed, 6 errors; AP50 +")
    best = (
        "best threshold by f1, all classes together, on these images: 0.45 (precision 0.917, recall 0.611, F1 0.733)"
    )
    assert lines[-2] == best
    thresholds = "at the thresholds of highest F1, chosen on these images"
    assert lines[-1] == f"{thresholds}: 11 true positives, 0.08 false positives per image"
    content = json.loads((tmp_path / "numbers.json").read_text())
    assert content["errors"]["types"]["classification"]["count"] == 1
    assert content["at_thresholds"]["confusion"]["counts"] == [[11, 1, 0], [0, 0, 6], [0, 0, 0]]
    assert content["best_thresholds"]["per_class"]["cat"]["threshold"] == 0.45


def test_the_page(run: Run, photos: Path, results: Path, tmp_path: Path) -> None:
    code, _, err = run("eval", results, photos, "--report", tmp_path / "folder", "--worst", "2")
    assert code == DONE, err
    page = (tmp_path / "folder" / "evaluation.html").read_text(encoding="utf-8")
    assert err.splitlines()[-1] == f"report: {tmp_path / 'folder' / 'evaluation.html'}"
    assert page.count("<figure>") == 2
    assert "11.jpg: 1 false positive (1 classification), 2 missed, 0 true positives" in page
    code, _, err = run("eval", results, photos, "--report", tmp_path / "own.html", "--worst", "0")
    assert code == DONE, err
    assert "<figure>" not in (tmp_path / "own.html").read_text(encoding="utf-8")


def test_the_viewer_counts_as_the_terminal_does_and_names_the_thresholds(
    run: Run, photos: Path, results: Path, tmp_path: Path
) -> None:
    page = tmp_path / "viewer.html"
    code, out, err = run("eval", results, photos, "--viewer", page)
    assert code == DONE, err
    text = page.read_text(encoding="utf-8")
    assert "results.json on images with ground truth, at first at the thresholds of highest F1</h1>" in text
    (settings,) = re.findall(r'class="viewer-settings">(.*?)</script>', text)
    thresholds, right = np.array(json.loads(settings)["thresholds"]), 0
    for block in re.findall(r'class="viewer-image">(.*?)</script>', text):
        image = json.loads(block)
        scores, labels, kinds = (
            np.frombuffer(base64.b64decode(image[name]), kind)
            for name, kind in (("scores", "<f4"), ("labels", "<u2"), ("kinds", "u1"))
        )
        right += int(((kinds == 0) & (scores > thresholds[labels])).sum())
    assert f"at the thresholds of highest F1, chosen on these images: {right} true positives, " in out


def test_stored_thresholds_are_used(run: Run, photos: Path, model: Path) -> None:
    code, _, err = run("eval", model, photos, "--num-workers", 0, "--store-thresholds", "precision=0.5")
    assert code == DONE, err
    how = f"precision=0.5 at IoU 0.5 on 12 images: split val of {photos}"
    assert f"thresholds written into {model}, {how}" in err
    assert "look better than they are" not in err
    stored = load_model(model)
    assert stored.class_thresholds is not None
    assert stored.thresholds_how == how
    for name, threshold in zip(NAMES, stored.class_thresholds, strict=True):
        assert f"  {name}: {threshold:g}" in err
    code, again, err = run("eval", model, photos, "--num-workers", 0)
    assert code == DONE, err
    assert "at the model's own thresholds: " in again
    assert load_model(model).class_thresholds == stored.class_thresholds  # only --store-thresholds writes


def test_suppression_by_options_and_by_the_model(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    numbers, counts, words = tmp_path / "numbers.json", [], ("--num-workers", 0, "--out", tmp_path / "numbers.json")
    for options in ((), ("--class-agnostic-nms", "--iou", "0.5")):
        code, _, err = run("eval", model, photos, *words, *options)
        assert code == DONE, err
        assert ("; NMS at IoU 0.5 across all classes" in err) == bool(options)
        content = json.loads(numbers.read_text())
        counts.append(content["num_detections"])
        assert content["nms"] == {"iou": 0.5 if options else 0.6, "class_agnostic": bool(options)}
    assert counts[1] < counts[0]
    assert not load_model(model).decode_settings.class_agnostic_nms  # only --store-nms writes

    options = ("--class-agnostic-nms", "--nms-iou", "0.5", "--store-nms")
    code, _, err = run("eval", model, photos, "--num-workers", 0, *options)
    assert code == DONE, err
    assert f"NMS at IoU 0.5 across all classes: written into {model}" in err
    code, _, err = run("eval", model, photos, *words)
    assert "; NMS at IoU 0.5 across all classes" in err
    assert json.loads(numbers.read_text())["num_detections"] == counts[1]
    code, _, err = run("eval", model, photos, *words, "--no-class-agnostic-nms", "--iou", "0.6")
    assert json.loads(numbers.read_text())["num_detections"] == counts[0]


def test_thresholds_know_the_suppression_they_were_chosen_with(run: Run, photos: Path, model: Path) -> None:
    words = ("--num-workers", 0, "--class-agnostic-nms")
    _, _, err = run("eval", model, photos, *words, "--store-thresholds", "f1")
    assert "note: the thresholds hold with this NMS, which the model file lacks: --store-nms writes it too" in err
    assert "; NMS at IoU 0.6 across all classes" in load_model(model).thresholds_how
    _, _, err = run("eval", model, photos, *words, "--store-nms")
    assert "note: its score thresholds were chosen with another NMS: --store-thresholds chooses new ones" in err


def test_thresholds_chosen_on_test_are_noted(run: Run, photos: Path, model: Path) -> None:
    annotations = photos / "annotations"
    (annotations / "instances_test2017.json").write_bytes((annotations / "instances_val2017.json").read_bytes())
    if not (photos / "test2017").exists():
        (photos / "test2017").symlink_to(photos / "val2017")
    try:
        code, _, err = run("eval", model, photos, "--num-workers", 0, "--split", "test", "--store-thresholds", "f1")
    finally:
        (annotations / "instances_test2017.json").unlink()
        (photos / "test2017").unlink()
    assert code == DONE, err
    assert (
        "note: thresholds chosen on the split test make its results look better than they are: choose on val" in err
    )


def test_user_errors_end_in_one_line(run: Run, photos: Path, results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(json.dumps([{"image_id": 6, "category_id": 3, "bbox": [1, 1, 2, 2], "score": 0.5}]))
    for arguments, message in (
        (
            (results, photos, "--store-thresholds", "f1"),
            f"{results}: a file of detections; --store-thresholds needs a model file",
        ),
        ((results, photos, "--store-nms"), f"{results}: a file of detections; --store-nms needs a model file"),
        ((results, photos, "--iou", "0.5"), f"{results}: a file of detections; --nms-iou and --class-agnostic-nms"),
        ((results, photos, "--results", tmp_path / "x.json"), f"{results}: a file of detections already"),
        ((other, photos), f"{other}: 1 image id not among those of the data, the first is 6"),
        ((tmp_path / "gone.json", photos), "gone.json"),
        ((results, photos, "--store-thresholds", "f2"), "takes f1, or precision=P with P in 0..1"),
        ((results, photos, "--report", tmp_path), None),
    ):
        code, _, err = run("eval", *arguments)
        if message is None:
            assert code == DONE, err
            continue
        assert code == 2
        assert message in err.splitlines()[-1]
        assert "Traceback" not in err


def with_category(photos: Path, folder: Path, name: str, objects: int) -> Path:
    """The photos with one more class, which has some objects."""
    content = json.loads((photos / "annotations" / "instances_val2017.json").read_text())
    content["categories"].append({"id": 5, "name": name})
    for k in range(objects):
        box = {"bbox": [150, 70, 20, 20], "area": 400, "iscrowd": 0}
        content["annotations"].append({"id": 100 + k, "image_id": 10 * k + 5, "category_id": 5, **box})
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (folder / "val2017").symlink_to(photos / "val2017")
    return folder


@pytest.mark.parametrize("objects", [0, 2])
def test_a_class_that_the_model_lacks_is_left_out_with_a_note(
    run: Run, photos: Path, model: Path, tmp_path: Path, objects: int
) -> None:
    data = with_category(photos, tmp_path / "data", "bird", objects)
    code, out, err = run("eval", model, data, "--num-workers", 0, "--device", "cpu")
    assert code == DONE, err
    assert f"2 of the 3 classes of the data are expected; left out: bird ({objects} objects)" in err
    code, same, err = run("eval", model, photos, "--num-workers", 0, "--device", "cpu")
    assert (code, same) == (DONE, out), err


def test_data_without_a_class_of_the_model_are_refused(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    data = with_category(photos, tmp_path / "data", "bird", 0)
    code, _, err = run("eval", model, data, "--rename", "cat=Cat", "--rename", "dog=Dog", "--num-workers", 0)
    assert code == USER_ERROR
    assert "the model knows none of your 3 classes (Cat, bird, Dog), but 2 others (cat, dog); " in err
    assert "--rename OLD=NEW" in err


def test_a_model_of_coco_on_other_classes_does_not_ask_for_coco(run: Run, photos: Path, tmp_path: Path) -> None:
    options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
    save_model(
        create("gfl_light_fpn", 80, names=COCO_NAMES, pretrained=False, **options).eval(),
        tmp_path / "coco.safetensors",
    )
    words = ("--rename", "cat=RBC", "--rename", "dog=WBC", "--num-workers", 0)
    code, _, err = run("eval", tmp_path / "coco.safetensors", photos, *words)
    assert code == USER_ERROR
    assert "the model knows none of your 2 classes (RBC, WBC), but 80 others (person, bicycle, car, motorcycle" in err
    assert "toothbrush" not in err
    assert "COCO 2017 is expected" not in err


def test_only_some_classes_are_reported(run: Run, photos: Path, results: Path, model: Path, tmp_path: Path) -> None:
    numbers = {}
    for name, words in (("all", ()), ("dog", ("--classes", "dog")), ("both", ("--classes", "dog, cat"))):
        code, out, err = run("eval", results, photos, *words, "--out", tmp_path / f"{name}.json")
        assert code == DONE, err
        numbers[name] = json.loads((tmp_path / f"{name}.json").read_text())
    assert "; classes cat, dog" in err
    assert numbers["both"] == numbers["all"]
    assert list(numbers["dog"]["per_class"]) == ["dog"]
    assert numbers["dog"]["per_class"]["dog"] == numbers["all"]["per_class"]["dog"]
    assert numbers["dog"]["num_detections"] == 1
    found = tmp_path / "found.json"
    words = ("--classes", "dog", "--results", found, "--num-workers", 0, "--device", "cpu")
    code, out, err = run("eval", model, photos, *words)
    assert code == DONE, err
    assert {one["category_id"] for one in json.loads(found.read_text())} == {7}
    assert "cat" not in out
    code, _, err = run("eval", results, photos, "--classes", "dogs")
    assert code == USER_ERROR
    assert "--classes: no class 'dogs'; did you mean 'dog'?" in err


def test_ids_of_text_are_read_and_written(run: Run, photos: Path, model: Path, tmp_path: Path) -> None:
    content = json.loads((photos / "annotations" / "instances_val2017.json").read_text())
    for one in content["images"]:
        one["id"] = f"image {one['id']}"
    for one in content["annotations"]:
        one["image_id"] = f"image {one['image_id']}"
    (tmp_path / "data" / "annotations").mkdir(parents=True)
    (tmp_path / "data" / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "data" / "val2017").symlink_to(photos / "val2017")
    found = tmp_path / "found.json"
    code, by_model, err = run("eval", model, tmp_path / "data", "--results", found, "--num-workers", 0)
    assert code == DONE, err
    written = json.loads(found.read_text())
    assert {one["image_id"] for one in written} <= {one["id"] for one in content["images"]}
    code, out, err = run("eval", found, tmp_path / "data", "--out", tmp_path / "numbers.json")
    assert code == DONE, err
    assert out.splitlines()[0] == by_model.splitlines()[0]


def test_more_than_100_objects_are_said_and_more_detections_can_count(
    run: Run, photos: Path, model: Path, tmp_path: Path
) -> None:
    boxes = [[k % 16 * 12, k // 16 * 12, 9, 9] for k in range(120)]
    annotations = [
        {"id": k + 1, "image_id": 1, "category_id": 3, "bbox": box, "area": 81, "iscrowd": 0}
        for k, box in enumerate(boxes)
    ]
    content = {
        "images": [{"id": 1, "file_name": "0.jpg", "width": 200, "height": 100}],
        "annotations": annotations,
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (tmp_path / "val2017").symlink_to(photos / "val2017")
    results = tmp_path / "results.json"
    keys = ("image_id", "category_id", "bbox")
    results.write_text(json.dumps([{key: one[key] for key in keys} | {"score": 0.9} for one in annotations]))
    code, out, err = run("eval", results, tmp_path)
    assert code == DONE, err
    assert "note: 20 of 120 objects cannot be found: only the best 100 detections of each class and image" in err
    assert "'gfocal eval --max-detections 120' gives AP with 120 too" in err
    code, out, err = run("eval", results, tmp_path, "--max-detections", 120, "--out", tmp_path / "numbers.json")
    assert code == DONE, err
    assert "AP@120" in out
    assert "cannot be found" not in err
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert (round(numbers["ap"], 3), round(numbers["limited"]["ap"], 3)) == (0.832, 1.0)
    words = ("--num-workers", 0, "--device", "cpu", "--out", tmp_path / "numbers.json")
    code, _, err = run("eval", model, tmp_path, *words)
    assert code == DONE, err
    assert "only the best 100 detections of each image count" in err
    plain = json.loads((tmp_path / "numbers.json").read_text())
    code, _, err = run("eval", model, tmp_path, *words, "--max-detections", 300)
    assert code == DONE, err
    more = json.loads((tmp_path / "numbers.json").read_text())
    assert more["limited"]["max_detections"] == 300
    assert {key: plain[key] for key in ("ap", "ar100", "num_detections")} == {
        key: more[key] for key in ("ap", "ar100", "num_detections")
    }


def test_detections_of_unknown_categories(run: Run, photos: Path, results: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    extra = {"image_id": 5, "category_id": 9, "bbox": [1, 1, 2, 2], "score": 0.5}
    other.write_text(json.dumps([*json.loads(results.read_text()), extra]))
    code, out, err = run("eval", other, photos)
    assert code == DONE, err
    assert (
        "1 detection of category ids that the data do not have (9): left out, as pycocotools leaves them out" in err
    )
    assert out == run("eval", results, photos)[1]
    other.write_text(json.dumps([extra]))
    code, _, err = run("eval", other, photos)
    assert code == USER_ERROR
    assert "those of the data are 3, 7: write the detections with these" in err


@pytest.mark.parametrize("given", ["", "detections.json", "labels"])
def test_what_detect_wrote_is_evaluated(run: Run, model: Path, photos: Path, tmp_path: Path, given: str) -> None:
    kinds = "yolo" if given == "labels" else "coco,yolo"
    score = ("--score-threshold", load_model(model).decode_settings.score_threshold)
    code, _, err = run("detect", model, photos, "--out", tmp_path / "found", "--format", kinds, "--no-images", *score)
    assert code == DONE, err
    for name, source in (("model", model), ("file", tmp_path / "found" / given)):
        code, _, err = run("eval", source, photos, "--num-workers", 0, "--out", tmp_path / f"{name}.json")
        assert code == DONE, err
    of_model, of_file = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("model", "file"))
    for key in ("ap", "ap50", "ap75"):
        assert of_file[key] == pytest.approx(of_model[key], abs=2e-3)
    assert "left out" not in err


def test_what_detect_wrote_for_other_images_or_classes(run: Run, photos: Path, tmp_path: Path) -> None:
    labels = tmp_path / "found" / "labels"
    labels.mkdir(parents=True)
    (tmp_path / "found" / "classes.txt").write_text("cat\nbird\n")
    (labels / "0.txt").write_text("0 0.175 0.4 0.25 0.6 0.9\n1 0.5 0.5 0.1 0.1 0.8\n")
    (labels / "elsewhere.txt").write_text("0 0.5 0.5 0.1 0.1 0.8\n")
    code, _, err = run("eval", tmp_path / "found", photos)
    assert code == DONE, err
    assert "1 image not among those of the data, left out" in err
    assert "1 detection of classes that the data do not have, left out: bird" in err
    assert "says nothing of 11 images of the data, which count as without objects" in err
    (labels / "0.txt").write_text("0 0.175 0.4 0.25 0.6\n")
    code, _, err = run("eval", tmp_path / "found", photos)
    assert code == USER_ERROR
    assert "0.txt: line 1: expected class, center x, center y, width, height and score" in err.splitlines()[-1]
    (labels / "0.txt").unlink()
    assert "none of its 1 image is among those of the data" in run("eval", tmp_path / "found", photos)[2]


def test_a_class_renamed_in_training_is_renamed_in_evaluation(run: Run, model: Path, photos: Path) -> None:
    renamed = load_model(model)
    renamed.names = ("kitten", "dog")
    renamed.renames = {"cat": "kitten", "cow": "dog"}
    save_model(renamed, model)
    assert load_model(model).renames == renamed.renames
    code, _, err = run("eval", model, photos, "--num-workers", 0)
    assert code == DONE, err
    assert "note: classes of the data renamed as in the training of the model: cat to kitten\n" in err
    assert "classes differ" not in err
    code, _, err = run("eval", model, photos, "--num-workers", 0, "--rename", "cat=dog")  # the user's own counts
    assert code == DONE, err
    assert "as in the training" not in err


def test_an_extra_class_without_objects_is_left_out_and_said(
    run: Run, model: Path, photos: Path, tmp_path: Path
) -> None:
    content = json.loads((photos / "annotations" / "instances_val2017.json").read_text())
    content["categories"].insert(0, {"id": 0, "name": "animals"})  # as Roboflow writes the name of the project
    folder = tmp_path / "more"
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").symlink_to(photos / "val2017")
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    numbers = []
    for data in (photos, folder):
        code, _, err = run("eval", model, data, "--num-workers", 0, "--out", tmp_path / "numbers.json")
        assert code == DONE, err
        numbers.append(json.loads((tmp_path / "numbers.json").read_text())["ap"])
    assert numbers[0] == numbers[1]
    assert "2 of the 3 classes of the data are expected; left out: animals" in err
