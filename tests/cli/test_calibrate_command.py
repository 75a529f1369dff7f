"""gfocal calibrate, and what eval, detect and train make of a calibrated model.

The network is real, but what its outputs are decoded to is made up: boxes near the objects, whose errors follow the
deviation of their distributions.
"""

from __future__ import annotations

import csv
import html
import json
import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import gfocal
from calibrations import NUM_BINS, calibration, detections
from conftest import OPTIONS, TINY
from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.config.start import describe_initial_model
from gfocal.data.identity import digest_image
from gfocal.data.preprocess import InputSettings
from gfocal.models import predict as predict_module
from gfocal.models.model_file import load_model, read_description, save_model, store_calibration, store_thresholds
from gfocal.models.precision import digest_weights
from gfocal.models.zoo import create
from gfocal.structures import Detections

Run = Callable[..., tuple[int, str, str]]
HEIGHT, COUNT, NAMES = 160, 40, ("a", "b")


def objects_of(width: int) -> tuple[Tensor, Tensor]:
    """Boxes and labels of the image of this width, by which it is known."""
    generator = torch.Generator().manual_seed(width)
    corner = torch.tensor([[10.0, 10.0], [110.0, 10.0], [10.0, 90.0], [110.0, 90.0]])
    boxes = torch.cat([corner, corner + 40 + 15 * torch.rand(4, 2, generator=generator)], 1)
    return boxes, torch.randint(0, 2, (4,), generator=generator)


def made_up(*arguments: Any) -> list[Detections]:
    """In place of ``decode``."""
    _, _, _, original_sizes, names, _ = arguments
    found = []
    for height, width in original_sizes.tolist():
        boxes, labels = objects_of(width)
        generator = torch.Generator().manual_seed(width)
        std = 0.3 + torch.rand(4, 4, generator=generator)
        edges = (-((torch.arange(NUM_BINS) - 4.3) ** 2) / (2 * std.unsqueeze(-1) ** 2)).softmax(-1)
        boxes = boxes + 2 * std * torch.randn(4, 4, generator=generator)
        scores = torch.rand(4, generator=generator).sort(descending=True).values * 0.5 + 0.45
        one = detections(boxes, scores, labels, edges, (height, width))
        found.append(Detections(**{**vars(one), "names": names}))
    return found


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_module, "decode", made_up)


def write_photos(folder: Path, count: int, names: Sequence[str] = NAMES, first: int = 200) -> Path:
    images, annotations = [], []
    folder.mkdir(parents=True)
    for k in range(count):
        width = first + k
        Image.effect_noise((width, HEIGHT), 60).save(folder / f"{k}.png")
        images.append({"id": k + 1, "file_name": f"{k}.png", "width": width, "height": HEIGHT})
        boxes, labels = objects_of(width)
        for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": k + 1, "category_id": label + 1, **box})
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(names)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_photos(tmp_path_factory.mktemp("data") / "photos", COUNT)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    built = create("gfl_light_fpn", 2, names=NAMES, pretrained=False, **OPTIONS).eval()
    built.input_settings = InputSettings(short_side=64, long_side=96)
    save_model(built, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


@pytest.fixture
def calibrated(model: Path) -> Path:
    store_calibration(model, calibration(digest_weights(load_model(model))))
    return model


@pytest.mark.usefixtures("decoded")
def test_it_is_written_into_the_model_and_measured(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    code, out, err = run("eval", model, photos, "--num-workers", 0)
    assert code == DONE, err
    assert "(not calibrated)" in out
    assert "promised" not in out
    code, out, err = run("calibrate", model, photos, "--num-workers", 0, "--json", tmp_path / "figures.json")
    assert code == DONE, err
    lines = out.splitlines()
    assert lines[0] == "edges: 160 matched boxes in 40 images counted"
    assert lines[1].startswith("  rule of their spread: standard, with no fitted numbers: the spread of its distrib")
    assert lines[2].startswith("boxes, 90% asked: ")
    assert lines[3].startswith("scores: LaECE ")
    assert err.splitlines()[-1].startswith(f"calibrated: {model}; 'gfocal eval {model} DATA'")
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert (figures["images"], figures["boxes"], figures["iou_threshold"]) == (COUNT, 160, 0.5)
    held_out = figures["held_out"]
    assert (held_out["nominal"], held_out["count"]) == (0.9, 160)
    assert f"{held_out['boxes']:.1%} covered, intervals {held_out['width']:.1f} pixels wide" in lines[2]
    stored = load_model(model).calibration
    assert stored is not None
    assert stored.num_boxes == 160
    assert str(photos) in stored.data
    others = write_photos(tmp_path / "others", 30, first=300)
    code, out, err = run("eval", model, others, "--num-workers", 0, "--out", tmp_path / "numbers.json")
    assert code == DONE, err
    assert "(calibrated)" in out
    assert "boxes, 90% promised: " in out
    assert "; calibrated: LaECE " in out
    trust = json.loads((tmp_path / "numbers.json").read_text())["trust"]
    assert trust["is_calibrated"]
    at_90 = next(one for one in trust["boxes"] if one["nominal"] == 0.9)
    assert at_90["boxes"] == pytest.approx(0.9, abs=0.08)
    assert trust["ence"] < 0.3
    (line,) = [line for line in out.splitlines() if line.startswith("boxes, 90% promised: ")]
    assert "covered, within chance of it (" in line
    assert at_90["chance"]["verdict"] == "within"
    assert at_90["chance"]["low"] < at_90["boxes"] < at_90["chance"]["high"]
    assert f"edges of {trust['num_boxes']} true positives with scores above 0.3: " in out
    assert f"({trust['num_boxes']} boxes in 30 images here, 160 in the calibration)" in out
    assert trust["calibrated_on"]["num_boxes"] == 160


@pytest.mark.usefixtures("decoded")
def test_an_evaluation_on_its_images_is_warned_of(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("calibrate", model, photos, "--num-workers", 0)[0] == DONE
    made = load_model(model).calibration
    assert made is not None
    assert set(made.images) == {digest_image(photos / f"{k}.png") for k in range(COUNT)}
    _, _, err = run("eval", model, photos, "--num-workers", 0)
    assert f"warning: the model was calibrated on all of these {COUNT} images: what its intervals cover" in err
    mixed = write_photos(tmp_path / "mixed", 6, first=300)
    (mixed / "3.png").write_bytes((photos / "0.png").read_bytes())
    _, _, err = run("eval", model, mixed, "--num-workers", 0)
    assert "warning: the model was calibrated on 1 of these 6 images" in err
    store_calibration(model, replace(made, images=()))  # by an older gfocal
    _, _, err = run("eval", model, photos, "--num-workers", 0)
    assert "was calibrated on" not in err


@pytest.mark.usefixtures("decoded")
def test_labels_of_another_kind_are_not_chance(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    assert run("calibrate", model, photos, "--num-workers", 0)[0] == DONE
    loose = write_photos(tmp_path / "loose", 30, first=300)
    content = json.loads((loose / "annotations.json").read_text())
    for one in content["annotations"]:
        x, y, width, height = one["bbox"]
        one["bbox"] = [x - 3, y - 3, width + 6, height + 6]
    (loose / "annotations.json").write_text(json.dumps(content))
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    code, out, err = run("eval", model, loose, "--num-workers", 0, "--out", numbers, "--report", page)
    assert code == DONE, err
    assert "covered, fewer than chance explains (" in out
    assert "edges are off by more than in the calibration, near and far: images of another kind" in out
    assert f"gfocal calibrate {model} IMAGES, with other annotated images like these" in out
    trust = json.loads(numbers.read_text())["trust"]
    assert [one["chance"]["verdict"] for one in trust["boxes"]] == ["below"] * 3
    text = page.read_text(encoding="utf-8")
    for sentence in trust["advice"]:
        assert f"  {sentence}\n" in out
        assert html.escape(sentence[1:], quote=False) in text


@pytest.mark.usefixtures("decoded")
def test_a_copy_leaves_the_model_as_it_was(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    code, _, err = run("calibrate", model, photos, "--num-workers", 0, "--out", tmp_path / "new" / "copy.safetensors")
    assert code == DONE, err
    assert model.read_bytes() == before
    assert load_model(tmp_path / "new" / "copy.safetensors").calibration is not None
    assert load_model(model).calibration is None


@pytest.mark.usefixtures("decoded")
def test_calibrating_again_is_the_same(run: Run, model: Path, photos: Path) -> None:
    assert run("calibrate", model, photos, "--num-workers", 0)[0] == DONE
    once = load_model(model).calibration
    assert run("calibrate", model, photos, "--num-workers", 0, "--batch-size", 3)[0] == DONE
    assert load_model(model).calibration == once


@pytest.mark.usefixtures("decoded")
def test_thresholds_of_the_model_or_of_the_user(run: Run, model: Path, photos: Path) -> None:
    store_thresholds(model, [0.5, 0.7], "made up")
    assert run("calibrate", model, photos, "--num-workers", 0)[0] == DONE
    made = load_model(model).calibration
    assert made is not None
    assert made.score_threshold == (0.5, 0.7)
    assert made.num_boxes < 160
    code, out, err = run("eval", model, photos, "--num-workers", 0, "--classes", "b")
    assert code == DONE, err
    assert "promised" in out
    assert run("calibrate", model, photos, "--num-workers", 0, "--score-threshold", 0.3)[0] == DONE
    made = load_model(model).calibration
    assert made is not None
    assert (made.score_threshold, made.num_boxes) == (0.3, 160)
    code, _, err = run("calibrate", model, photos, "--score-threshold", 2)
    assert code == USER_ERROR
    assert "takes a number in 0..1" in err


@pytest.mark.usefixtures("decoded")
def test_images_of_training_are_refused(run: Run, model: Path, photos: Path) -> None:
    digests = [digest_image(photos / f"{k}.png") for k in range(3)]
    known = model.parent / "training_images.json"
    known.write_text(json.dumps({"digests": digests}))
    code, _, err = run("calibrate", model, photos, "--num-workers", 0)
    assert code == USER_ERROR
    assert "the model was trained on 3 of these 40 images" in err
    assert load_model(model).calibration is None
    assert run("calibrate", model, photos, "--num-workers", 0, "--seen-images")[0] == DONE
    for damaged in ("{", "[]", '{"digests": 3}', "[" * 100_000):
        known.write_text(damaged)
        code, _, err = run("calibrate", model, photos, "--num-workers", 0)
        assert code == USER_ERROR
        assert f"{known}: not as gfocal wrote it" in err


@pytest.mark.usefixtures("decoded")
def test_few_images_are_said(run: Run, model: Path, tmp_path: Path) -> None:
    few = write_photos(tmp_path / "few", 4)
    code, out, err = run("calibrate", model, few, "--num-workers", 0)
    assert code == DONE, err
    assert "boxes of one image err alike: of 4 images the promise is rough; annotate 30 or more" in out


@pytest.mark.usefixtures("decoded")
def test_too_few_boxes(run: Run, model: Path, photos: Path) -> None:
    code, _, err = run("calibrate", model, photos, "--num-workers", 0, "--coverage", 0.995)
    assert code == USER_ERROR
    assert "a coverage of 0.995 needs at least 199 true positives, and there are 160" in err
    for wrong in ("0", "1", "90"):
        code, _, err = run("calibrate", model, photos, "--coverage", wrong)
        assert code == USER_ERROR
        assert "takes a number" in err


def test_a_model_that_finds_nothing(run: Run, model: Path, photos: Path) -> None:
    code, _, err = run("calibrate", model, photos, "--num-workers", 0)
    assert code == USER_ERROR
    assert "no detection above the score threshold is right, so there is nothing to calibrate on" in err
    assert load_model(model).calibration is None


@pytest.mark.usefixtures("decoded")
def test_data_of_other_classes(run: Run, model: Path, tmp_path: Path) -> None:
    foreign = write_photos(tmp_path / "foreign", 3, ("x", "y"))
    code, _, err = run("calibrate", model, foreign, "--num-workers", 0)
    assert code == USER_ERROR
    assert "Traceback" not in err
    assert load_model(model).calibration is None


def test_models_that_cannot_be_calibrated(run: Run, photos: Path, tmp_path: Path) -> None:
    code, _, err = run("calibrate", "nanodet_plus_m_416_coco", photos)
    assert code == USER_ERROR
    assert "--out" in err or "copy" in err
    plain = create("retinanet_r50_fpn", 2, names=NAMES, pretrained=False, body="test_resnet.r160_in1k", channels=32)
    save_model(plain, tmp_path / "plain.safetensors")
    code, _, err = run("calibrate", tmp_path / "plain.safetensors", photos)
    assert code == USER_ERROR
    assert "its head has no edge distributions; a GFL or NanoDet preset has" in err
    code, _, err = run("calibrate", tmp_path / "none.onnx", photos)
    assert code == USER_ERROR
    assert "none.onnx" in err
    code, _, err = run("calibrate", tmp_path / "nowhere", photos)
    assert code == USER_ERROR


@pytest.mark.usefixtures("decoded")
def test_detect_writes_what_the_calibration_says(run: Run, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--edges", "interval", "--format", "coco,csv,voc,yolo")
    code, _, err = run("detect", calibrated, photos / "0.png", photos / "1.png", "--out", out, *options)
    assert code == DONE, err
    content = json.loads((out / "detections.json").read_text())
    widths = [high - low for one in content["annotations"] for low, high in one["edge_interval"]]
    (line,) = re.findall("intervals of edges: (.*) pixels wide .median.; they promise all four edges of 90%", err)
    assert float(line) == pytest.approx(statistics.median_low(widths), abs=0.06)
    assert content["info"]["run"]["coverage"] == 0.9
    assert "edge_interval has the lowest and highest x or y" in content["info"]["description"]
    found = load_model(calibrated).detect(photos / "0.png")
    own = [one for one in content["annotations"] if one["image_id"] == 1]
    assert len(own) == len(found) == 4
    rows = list(csv.DictReader((out / "detections.csv").open()))
    for one, row, wanted in zip(own, rows, found, strict=False):
        assert one["edge_std"] == pytest.approx(wanted.edge_std, abs=0.01)
        assert one["calibrated_score"] == pytest.approx(wanted.calibrated_score, abs=1e-4)
        assert wanted.edge_interval is not None
        for pair, other in zip(one["edge_interval"], wanted.edge_interval, strict=True):
            assert pair == pytest.approx(other, abs=0.01)
        assert float(row["lowest_left"]) == one["edge_interval"][0][0]
        assert float(row["highest_bottom"]) == one["edge_interval"][3][1]
        assert float(row["calibrated_score"]) == one["calibrated_score"]
        assert wanted.to_dict()["edge_interval"][0] == pytest.approx(one["edge_interval"][0], abs=0.01)
    plain = tmp_path / "plain"
    assert run("detect", calibrated, photos / "0.png", "--out", plain)[0] == DONE
    assert (plain / "0.jpg").read_bytes() != (out / "0.jpg").read_bytes()


@pytest.mark.usefixtures("decoded")
def test_more_coverage_is_wider(run: Run, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    widths = []
    for coverage in (0.5, 0.95):
        out = tmp_path / str(coverage)
        code, _, err = run(
            "detect", calibrated, photos / "0.png", "--out", out, "--coverage", coverage, "--no-images"
        )
        assert code == DONE, err
        content = json.loads((out / "detections.json").read_text())
        assert content["info"]["run"]["coverage"] == coverage
        widths.append([high - low for one in content["annotations"] for low, high in one["edge_interval"]])
    assert all(less < more for less, more in zip(*widths, strict=True))


@pytest.mark.usefixtures("decoded")
def test_intervals_that_there_are_not(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    image, out = photos / "0.png", tmp_path / "out"
    for option in (("--coverage", 0.9), ("--edges", "interval")):
        code, _, err = run("detect", model, image, "--out", out, *option)
        assert code == USER_ERROR
        assert "this model is not calibrated; 'gfocal calibrate MODEL DATA' does it" in err
    code, _, err = run("detect", model, image, "--out", out)
    assert code == DONE, err
    content = (out / "detections.json").read_text()
    assert "edge_interval" not in content
    assert "coverage" not in content
    store_calibration(model, calibration(digest_weights(load_model(model)), count=5))
    code, _, err = run("detect", model, image, "--out", out, "--coverage", 0.9)
    assert code == USER_ERROR
    assert "needs at least 9 boxes, and the calibration of this model had 5" in err
    code, _, err = run("detect", model, image, "--out", out)  # no intervals of 90 %, but scores
    assert code == DONE, err
    written = json.loads((out / "detections.json").read_text())["annotations"][0]
    assert "calibrated_score" in written
    assert "edge_interval" not in written
    assert "note: no intervals of edges: the model was calibrated on fewer than the 9 boxes that 90% need" in err


@pytest.mark.usefixtures("decoded")
def test_a_calibration_of_other_weights_is_not_used(run: Run, model: Path, photos: Path, tmp_path: Path) -> None:
    store_calibration(model, calibration("of others"))
    code, _, err = run("detect", model, photos / "0.png", "--out", tmp_path / "out")
    assert code == DONE, err
    assert err.count("the calibration of this model is of other weights, and is not used") == 1
    assert "edge_interval" not in (tmp_path / "out" / "detections.json").read_text()
    code, _, err = run("detect", model, photos / "0.png", "--out", tmp_path / "out", "--edges", "interval")
    assert code == USER_ERROR
    assert "not calibrated" in err


@pytest.mark.usefixtures("decoded")
def test_a_run_is_resumed_with_the_same_coverage_alone(
    run: Run, calibrated: Path, photos: Path, tmp_path: Path
) -> None:
    command = (
        "detect",
        calibrated,
        photos / "0.png",
        tmp_path / "nowhere.png",
        "--out",
        tmp_path / "out",
        "--no-images",
    )
    assert run(*command)[0] == SOME_FAILED
    code, _, err = run(*command, "--resume", "--coverage", 0.5)
    assert code == USER_ERROR
    assert "coverage was 0.9 and is 0.5" in err
    store_calibration(calibrated, calibration(digest_weights(load_model(calibrated)), count=200))
    code, _, err = run(*command, "--resume")
    assert code == USER_ERROR
    assert "calibration was " in err


@pytest.mark.usefixtures("decoded")
def test_merged_classes_have_intervals(run: Run, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    code, _, err = run("detect", calibrated, photos / "0.png", "--out", tmp_path / "out", "--classes", "b")
    assert code == DONE, err
    assert "edge_interval" in (tmp_path / "out" / "detections.json").read_text()


def test_training_drops_it_with_a_word(run: Run, calibrated: Path, photos: Path, tmp_path: Path) -> None:
    assert "calibration" in read_description(calibrated)
    line = describe_initial_model(str(calibrated), NAMES)
    assert "its calibration is not that of other weights, and is dropped: 'gfocal calibrate' the trained" in line
    store_calibration(calibrated, None)
    assert "calibration" not in describe_initial_model(str(calibrated), NAMES)


def test_a_run_knows_its_images(run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    code, _, err = run("train", photos, "--out", folder, *TINY)
    assert code == DONE, err
    digests = json.loads((folder / "training_images.json").read_text())["digests"]
    held_out = COUNT - len(digests)
    assert 0 < held_out < COUNT
    monkeypatch.setattr(predict_module, "decode", made_up)
    code, out, err = run("calibrate", folder, photos, "--num-workers", 0)
    assert code == DONE, err
    assert f"in {held_out} images counted" in out
    assert "the best epoch was chosen on these images" in err
    assert gfocal.load(folder).calibration is not None
    shown = write_photos(tmp_path / "renamed", 0)
    (shown / "annotations.json").write_text((photos / "annotations.json").read_text())
    for k in range(COUNT):
        (shown / f"{k}.png").write_bytes((photos / f"{k}.png").read_bytes())
    alone = tmp_path / "alone"
    alone.mkdir()
    for name in ("best.safetensors", "training_images.json"):
        (alone / name).write_bytes((folder / name).read_bytes())
    code, _, err = run("calibrate", alone / "best.safetensors", shown, "--num-workers", 0)
    assert code == USER_ERROR
    assert f"the model was trained on {len(digests)} of these {COUNT} images" in err
    content = json.loads((shown / "annotations.json").read_text())
    held = {digest_image(shown / image["file_name"]) for image in content["images"]} - set(digests)
    content["images"] = [one for one in content["images"] if digest_image(shown / one["file_name"]) in held]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in kept]
    (shown / "annotations.json").write_text(json.dumps(content))
    code, _, err = run("calibrate", alone / "best.safetensors", shown, "--num-workers", 0)  # split.json is not there
    assert code == DONE, err
    assert "the best epoch was chosen on these images" in err
