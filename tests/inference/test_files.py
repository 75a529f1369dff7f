"""gfocal detect: images of every kind, records in pixels of the original, and broken files do not end a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.data.preprocess import InputSettings
from gfocal.models import predict as predict_module
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.ops.boxes import iou

OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}


Run = Callable[..., tuple[int, str, str]]  # of the fixture "run"


def tiny(names: tuple[str, ...]) -> Detector:
    torch.manual_seed(0)
    model = create("gfl_light_fpn", len(names), names=names, pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    return model.eval()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(tiny(("cat", "dog")), path)
    return path


GOOD: dict[str, tuple[int, int]] = {  # name -> upright height and width
    "png_named.jpg": (60, 90),
    "gray.jpg": (60, 90),
    "palette.png": (60, 90),
    "transparent.png": (60, 90),
    "deep.png": (60, 90),
    "cmyk.jpg": (60, 90),
    "turned.jpg": (90, 60),
    "dot.png": (1, 1),
    "long.png": (200, 12000),
}
BAD = {
    "truncated.jpg": "truncated",
    "text.jpg": "not an image",
    "empty.jpg": "empty file",
    "missing.jpg": "no such file",
}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    rgb = Image.effect_noise((90, 60), 60).convert("RGB")
    ImageDraw.Draw(rgb).rectangle((20, 10, 60, 40), fill=(200, 30, 30))
    rgb.save(folder / "png_named.jpg", format="PNG")
    rgb.convert("L").save(folder / "gray.jpg")
    rgb.quantize(16).save(folder / "palette.png")
    rgb.convert("RGBA").save(folder / "transparent.png")
    rgb.convert("L").convert("I").point(lambda value: value * 257).convert("I;16").save(folder / "deep.png")
    rgb.convert("CMYK").save(folder / "cmyk.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    rgb.save(folder / "turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (12000, 200), "green").save(folder / "long.png")
    rgb.save(folder / "truncated.jpg", quality=95)
    content = (folder / "truncated.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.jpg").write_text("dear reader, this is a text")
    (folder / "empty.jpg").touch()
    return folder


@pytest.mark.parametrize("batch_size", [1, 3])
def test_detect_in_images_of_every_kind(
    run: Run, model: Path, zoo: Path, tmp_path: Path, batch_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO

    names = [name for pair in zip(GOOD, [*BAD, *[""] * 9], strict=False) for name in pair if name]
    out = tmp_path / "found"
    files = [zoo / name for name in names]
    code, _, err = run("detect", model, *files, "--out", out, "--score-threshold", 0, "--batch-size", batch_size)
    assert code == SOME_FAILED
    for name, reason in BAD.items():
        (line,) = [line for line in err.splitlines() if name in line]
        assert line.startswith(f"failed: {zoo / name}: ")
        assert reason in line
    values, *lines, twice, last = err.splitlines()
    assert "one object with two names?" in twice
    assert values.startswith("1 image of more than 8 bits: values 0..65535")  # deep.png
    assert len(lines) == len(names)
    assert "Traceback" not in err

    coco = COCO(str(out / "detections.json"))
    capsys.readouterr()
    images = {Path(image["file_name"]).name: image for image in coco.dataset["images"]}
    assert list(images) == [name for name in names if name in GOOD]
    count = len(coco.dataset["annotations"])
    assert last == (
        f"{count} objects in {len(GOOD)} images, {len(BAD)} failed: {out / 'detections.json'}, and "
        f"drawn in {out}; scores above 0 (--score-threshold)"
    )
    assert "numbered from 1 in the model's order" in coco.dataset["info"]["description"]
    assert [category["name"] for category in coco.dataset["categories"]] == ["cat", "dog"]
    for name, (height, width) in GOOD.items():
        image = images[name]
        assert (image["height"], image["width"]) == (height, width), name
        for record in coco.loadAnns(coco.getAnnIds([image["id"]])):
            x, y, w, h = record["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + w <= width + 0.02
            assert y + h <= height + 0.02
            assert 0 < record["score"] < 1
            assert record["category_id"] in (1, 2)
            assert len(record["edge_std"]) == 4
        with Image.open(out / image["image"]) as drawn:
            assert drawn.size == (width, height), name
    assert any(record["bbox"][2] > 60 for record in coco.dataset["annotations"])  # in pixels of the original


def test_records_are_the_detections_of_the_model(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    code, _, _ = run("detect", model, zoo / "turned.jpg", "--out", tmp_path, "--score-threshold", 0, "--no-images")
    assert code == DONE
    assert [file.name for file in tmp_path.iterdir()] == ["detections.json"]
    assert "image" not in json.loads((tmp_path / "detections.json").read_text())["images"][0]
    found = load_model(model).detect(zoo / "turned.jpg", score_threshold=0.0)
    records = json.loads((tmp_path / "detections.json").read_text())["annotations"]
    assert len(records) == len(found) > 0
    boxes = torch.tensor([record["bbox"] for record in records])
    boxes[:, 2:] += boxes[:, :2]
    torch.testing.assert_close(boxes, found.boxes, atol=0.011, rtol=0)  # type: ignore[union-attr]
    stds = torch.tensor([record["edge_std"] for record in records])
    torch.testing.assert_close(stds, found.edge_std, atol=0.006, rtol=0)  # type: ignore[union-attr]


@pytest.mark.parametrize("edges", ["std", "distribution"])
def test_edges_are_drawn(run: Run, model: Path, zoo: Path, tmp_path: Path, edges: str) -> None:
    for kind in ("none", edges):
        code, _, err = run(
            "detect", model, zoo / "gray.jpg", "--out", tmp_path / kind, "--score-threshold", 0, "--edges", kind
        )
        assert code == DONE, err
    assert (tmp_path / "none/gray.jpg").read_bytes() != (tmp_path / edges / "gray.jpg").read_bytes()


def test_drawings_follow_their_options(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    drawn = []
    for k, options in enumerate(
        (["--labels", "none"], ["--labels", "name"], ["--line-width", 5], ["--font-size", 13])
    ):
        out = tmp_path / str(k)
        code, _, err = run("detect", model, zoo / "gray.jpg", "--out", out, "--score-threshold", 0, *options)
        assert code == DONE, err
        drawn.append((out / "gray.jpg").read_bytes())
    assert len(set(drawn)) == 4
    code, _, err = run("detect", model, zoo / "gray.jpg", "--out", tmp_path / "font", "--font", zoo / "gray.jpg")
    assert code == 2
    assert "gray.jpg: cannot be read as a font" in err


def test_names_that_no_font_can_write_are_printed(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    unknown = "\U000f0000\U000f0001"  # of the private use area
    detect = (
        "detect",
        model,
        zoo / "gray.jpg",
        "--out",
        tmp_path,
        "--rename",
        f"{load_model(model).names[0]}={unknown}",
    )
    code, _, err = run(*detect)
    assert code == DONE, err
    assert f"no font here has the letters of {unknown} = class 0: drawings show the number; --font names" in err


def test_nothing_found_is_a_result(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    code, _, err = run("detect", model, zoo / "dot.png", "--out", tmp_path, "--score-threshold", 1)
    assert code == DONE
    assert err.splitlines()[0] == f"{zoo / 'dot.png'}: nothing"
    assert err.splitlines()[1].startswith("note: nothing found: no score comes near the threshold, 1; ")
    assert err.splitlines()[2].startswith("0 objects in 1 image: ")
    assert json.loads((tmp_path / "detections.json").read_text())["annotations"] == []


def test_nothing_found_anywhere_names_the_best_score(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    detector = load_model(model)
    detector.decode_settings = replace(detector.decode_settings, score_threshold=0.0)
    save_model(detector, tmp_path / "low.safetensors")
    detector.class_thresholds = (0.9, 0.8)
    save_model(detector, tmp_path / "own.safetensors")
    words = ("--no-images", "--out", tmp_path / "found")
    files = (zoo / "gray.jpg", zoo / "palette.png")
    code, _, err = run("detect", tmp_path / "low.safetensors", *files, *words, "--score-threshold", 0)
    assert (code, "nothing found" in err) == (DONE, False)
    found = json.loads((tmp_path / "found" / "detections.json").read_text())["annotations"]
    for name, limit, classes in (
        ("low", "the threshold, 0.9", ()),
        ("low", "the threshold, 0.9", ("--classes", "dog")),
        ("own", "the model's own threshold of each class, 0.80 to 0.90", ()),
    ):
        option = ("--score-threshold", 0.9) if name == "low" else ()
        code, _, err = run("detect", tmp_path / f"{name}.safetensors", *files, *words, *option, *classes)
        assert code == DONE, err
        best = max(one["score"] for one in found if not classes or one["category_id"] == 2)
        assert f"note: nothing found: the best score is {best:.3f}, not above {limit}; --score-threshold " in err
        lower = float(err.partition("--score-threshold ")[2].partition(" ")[0])
        assert best - 0.051 < lower < best
    # Of several images it is enough that one has a detection.
    code, _, err = run("detect", tmp_path / "low.safetensors", *files, *words, "--score-threshold", best - 1e-4)
    assert "nothing found" not in err


def test_files_of_one_name_do_not_replace_one_another(run: Run, model: Path, tmp_path: Path) -> None:
    sizes = {"a/x.png": (40, 30), "b/x.jpg": (50, 30), "b/X.png": (60, 30), "c/x_2.png": (70, 30)}
    for name, size in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size).save(tmp_path / name)
    out = tmp_path / "found"
    assert run("detect", model, *[tmp_path / name for name in sizes], "--out", out)[0] == DONE
    drawn = sorted(file for file in out.iterdir() if file.suffix == ".jpg")
    assert len({file.name.lower() for file in drawn}) == 4
    images = json.loads((out / "detections.json").read_text())["images"]
    for image in images:  # which image was drawn of which
        assert (
            Image.open(out / image["image"]).size == sizes[Path(image["file_name"]).relative_to(tmp_path).as_posix()]
        )
    assert sorted(Image.open(file).size for file in drawn) == sorted(sizes.values())


def test_a_folder_is_searched_with_its_subfolders(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ("one.jpg", "deep/two.PNG", "deep/er/three.webp"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)
    for other in ("notes.txt", "deep/one.avif", "deep/two.AVIF", "README", ".hidden"):
        (tmp_path / other).write_text("not named like an image")
    for _ in range(2):  # the second time without the images drawn the first time
        out = tmp_path / "found"
        code, _, err = run("detect", model, tmp_path, "--out", out)
        assert code == DONE, err
        assert err.splitlines()[0] == (
            f"note: {tmp_path}: 4 files skipped, not named like images (.avif, .txt, no suffix)"
        )
        images = json.loads((out / "detections.json").read_text())["images"]
        names = sorted(Path(i["file_name"]).relative_to(tmp_path).as_posix() for i in images)
        assert names == ["deep/er/three.webp", "deep/two.PNG", "one.jpg"]


def test_originals_are_never_drawn_over(run: Run, model: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "one.jpg")
    before = (tmp_path / "one.jpg").read_bytes()
    for what in (tmp_path, tmp_path / "one.jpg", tmp_path / "." / "one.jpg"):
        code, _, err = run("detect", model, what, "--out", tmp_path)
        assert code == USER_ERROR
        assert "--no-images" in err.splitlines()[-1]
    assert run("detect", model, tmp_path, "--out", tmp_path, "--no-images")[0] == DONE
    assert (tmp_path / "one.jpg").read_bytes() == before


def test_an_image_folder_below_the_output_folder_is_read(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "photos" / "one.jpg")
    assert run("detect", model, tmp_path / "photos", "--out", tmp_path)[0] == DONE
    assert len(json.loads((tmp_path / "detections.json").read_text())["images"]) == 1


def test_an_empty_folder_is_a_failure_of_its_own(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run("detect", model, tmp_path / "empty", zoo / "dot.png", "--out", tmp_path / "found")
    assert code == SOME_FAILED
    assert err.splitlines()[0].startswith(f"failed: {tmp_path / 'empty'}: no images in this folder")
    assert len([line for line in err.splitlines() if not line.startswith("note: nothing found: ")]) == 3


def test_without_images_nothing_is_written(run: Run, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    (tmp_path / "empty").mkdir()
    code, _, err = run("detect", model, tmp_path / "empty", str(tmp_path / "*.jpg"), "--out", out)
    assert code == USER_ERROR
    assert [line.partition(":")[0] for line in err.splitlines()] == ["failed", "failed", "gfocal"]
    assert err.splitlines()[-1].endswith("no images were found; nothing was written")
    assert not out.exists()


def test_a_mistyped_path_leaves_what_was_found_before(run: Run, model: Path, zoo: Path, tmp_path: Path) -> None:
    out = tmp_path / "found"
    assert run("detect", model, zoo / "dot.png", "--out", out)[0] == DONE
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    for wrong, expected in (
        (tmp_path / "nowhere", f"{tmp_path / 'nowhere'}: no such file or folder"),
        (zoo / "text.jpg", "none of 1 image could be read; nothing was written"),
    ):
        code, _, err = run("detect", model, wrong, "--out", out)
        assert code == USER_ERROR
        assert err.splitlines()[-1] == f"gfocal: {expected}"
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_images_with_the_maximum_number_of_boxes_are_noted(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((160, 120), 60).convert("RGB").save(file)
    detector = load_model(model)
    detector.decode_settings = replace(detector.decode_settings, max_detections=1)
    save_model(detector, tmp_path / "one.safetensors")
    notes = {}
    for name, score in (("all", 0), ("some", 0.999)):
        words = ("--out", tmp_path / name, "--score-threshold", score, "--no-images")
        code, _, err = run("detect", tmp_path / "one.safetensors", file, *words)
        assert code == DONE
        notes[name] = [line for line in err.splitlines() if line.startswith("note:")]
    (nothing,) = notes["some"]
    assert nothing.startswith("note: nothing found: ")
    assert notes["all"] == [
        "note: 1 image with 1 box, the most that this model gives for an image; there may be more objects: "
        "--max-detections N finds them"
    ]


def test_an_object_with_two_names_is_noted_and_gets_one(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((160, 120), 60).convert("RGB").save(file)
    words = ("detect", model, file, "--out", tmp_path / "found", "--no-images", "--score-threshold", 0)
    found = {}
    for option in ("--no-class-agnostic-nms", "--class-agnostic-nms"):
        code, _, err = run(*words, option)
        assert code == DONE, err
        assert ("one object with two names? --class-agnostic-nms" in err) == (option == "--no-class-agnostic-nms")
        content = json.loads((tmp_path / "found" / "detections.json").read_text())
        assert content["info"]["run"]["class_agnostic_nms"] == (option == "--class-agnostic-nms")
        boxes = torch.tensor([one["bbox"] for one in content["annotations"]])
        boxes[:, 2:] += boxes[:, :2]
        overlap = iou(boxes[:, None], boxes[None]).fill_diagonal_(0)
        found[option] = overlap.max().item()
    assert found["--class-agnostic-nms"] < 0.62 < found["--no-class-agnostic-nms"]  # of 0.6, and rounded boxes


@pytest.mark.parametrize("stop_at", [1, 2])
def test_ctrl_c_keeps_what_was_found(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, file in enumerate(files):
        Image.effect_noise((60, 40 + number), 60).convert("RGB").save(file)
    out = tmp_path / "found"
    assert run("detect", model, *files, "--out", out, "--score-threshold", 0)[0] == DONE
    whole = json.loads((out / "detections.json").read_text())
    real: Any = predict_module.predict_batch
    batches: list[object] = []

    def stopped(*arguments: object) -> object:
        batches.append(arguments)
        if len(batches) == stop_at:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(predict_module, "predict_batch", stopped)
    code, _, err = run("detect", model, *files, "--out", out, "--score-threshold", 0)
    assert code == 130
    left = json.loads((out / "detections.json").read_text())
    if stop_at == 1:
        assert err.splitlines()[-1] == "stopped before an image was done; nothing was written"
        assert left == whole
        return
    assert err.splitlines()[-1] == (
        f"stopped after 1 of 3 images; the results so far are in {out / 'detections.json'}; --resume continues"
    )
    assert left["images"] == whole["images"][:1]
    assert left["annotations"] == [one for one in whole["annotations"] if one["image_id"] == 1]
    assert left["annotations"]

    monkeypatch.setattr(predict_module, "predict_batch", real)
    code, _, err = run("detect", model, *files, "--out", out, "--score-threshold", 0)
    assert code == USER_ERROR
    assert "a run was stopped here after 1 image; continue it (--resume)" in err
    assert run("detect", model, *files, "--out", out, "--score-threshold", 0, "--resume")[0] == DONE
    assert json.loads((out / "detections.json").read_text()) == whole
    assert not (out / "detections.jsonl").exists()


def test_some_classes_under_other_names(run: Run, model: Path, tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.effect_noise((160, 120), 60).convert("RGB").save(file)

    def detections(folder: str, *words: object) -> tuple[list[str], list[dict[str, Any]]]:
        options = ("--score-threshold", 0, "--no-images", "--device", "cpu", "--out", tmp_path / folder)
        code, _, err = run("detect", model, file, *options, *words)
        assert code == DONE, err
        content = json.loads((tmp_path / folder / "detections.json").read_text())
        return [one["name"] for one in content["categories"]], content["annotations"]

    names, everything = detections("all")
    assert names == ["cat", "dog"]
    names, dogs = detections("dogs", "--rename", "dog=wolf", "--classes", "wolf")
    assert names == ["wolf"]
    expected = [one["bbox"] for one in everything if one["category_id"] == 2]
    assert [one["bbox"] for one in dogs] == expected
    assert {one["category_id"] for one in dogs} == {1}
    names, animals = detections("one", "--rename", "dog=animal", "--rename", "cat=animal")
    assert names == ["animal"]
    assert 0 < len(animals) < len(everything)  # of a cat and a dog at one place the better one is left
    assert len(detections("few", "--max-detections", 1)[1]) == 1
    code, _, err = run("detect", model, file, "--classes", "bird", "--out", tmp_path / "none")
    assert code == USER_ERROR
    assert "--classes: no class 'bird'; there are: 'cat', 'dog'" in err


def test_a_drawn_image_is_whole_or_not_there(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    out = tmp_path / "out"
    save = Image.Image.save
    seen: list[set[str]] = []

    def save_half(image: Image.Image, path: Path, *arguments: Any, **named: Any) -> None:
        save(image, path, *arguments, **named)
        seen.append({file.name for file in out.iterdir()})
        if len(seen) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Image.Image, "save", save_half)
    command = ("detect", model, tmp_path / "a.png", "--out", out, "--num-workers", "0")
    assert run(*command)[0] == 130
    assert "a.jpg" not in seen[0]
    assert not list(out.glob("*a.jpg*"))
    assert run(*command, "--resume")[0] == DONE
    assert "a.jpg" not in seen[1]
    assert (out / "a.jpg").is_file()
    assert not list(out.glob(".*"))
