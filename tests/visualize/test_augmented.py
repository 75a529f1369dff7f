"""The sheets show what training sees: the very items, with ground truth in color and ignored boxes dashed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.cli.main import build_parser
from gfocal.cli.training_config import build_config
from gfocal.config.config import ConfigError, write_config
from gfocal.data.augmentation.pipeline import AUGMENT_PRESETS, Augmentation, AugmentSettings
from gfocal.data.loading import Item, TrainingItems
from gfocal.data.preprocess import InputSettings
from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.run_folder import RunFolder
from gfocal.visualize.augmented import PAPER, draw_item, save_augmented_sheets, sheet
from gfocal.visualize.drawing import class_color

Run = Callable[..., tuple[int, str, str]]
INPUT = InputSettings(short_side=96, long_side=128)


def gray_item(boxes: list[list[float]], ignored: list[bool], size: tuple[int, int] = (330, 330)) -> Item:
    image = torch.full((3, *size), 128, dtype=torch.uint8)
    labels = torch.arange(len(boxes))
    return Item(image, torch.tensor(boxes).view(-1, 4), labels, torch.tensor(ignored, dtype=torch.bool), size, 7)


def test_ground_truth_is_framed_in_its_color_and_ignored_boxes_are_dashed() -> None:
    item = gray_item([[40, 60, 140, 160], [180, 200, 300, 320]], [False, True])
    pixels = np.asarray(draw_item(item, ("first", "second")))
    assert tuple(pixels[110, 40]) == class_color(0)
    assert (pixels[110, 60] == 128).all()  # inside the ground truth nothing is drawn
    frame = pixels[200, 185:296].astype(int)
    assert len({tuple(v) for v in frame}) == 2  # two grays in turn
    assert (frame.max(1) == frame.min(1)).all()
    assert (pixels[230:290, 200:280] == 245).any()  # hatched
    colors = {tuple(v) for v in pixels.reshape(-1, 3)}
    assert class_color(1) not in colors


def test_small_images_are_enlarged_and_boxes_with_them() -> None:
    item = gray_item([[20, 10, 60, 40]], [False], (50, 80))
    canvas = draw_item(item, ("a",))
    assert canvas.size == (320, 200)
    assert tuple(np.asarray(canvas)[100, 80]) == class_color(0)


def test_images_without_boxes_and_of_a_pixel() -> None:
    for size in ((1, 1), (1, 90), (90, 1)):
        canvas = draw_item(gray_item([], [], size), ())
        assert min(canvas.size) >= 1


def test_a_sheet_has_every_image_at_its_own_size() -> None:
    tiles = [(Image.new("RGB", (170 + 10 * k, 100), (k * 40, 0, 0)), f"image {k}") for k in range(5)]
    pixels = np.asarray(sheet(tiles, 3)).reshape(-1, 3)
    for k in range(1, 5):
        assert (pixels == (k * 40, 0, 0)).all(1).sum() == (170 + 10 * k) * 100
    assert (pixels[0] == PAPER).all()


def test_sheets_show_the_items_of_the_run(tmp_path: Path) -> None:
    data = SyntheticScenes(5, size=96)
    paths = save_augmented_sheets(data, AUGMENT_PRESETS["strong"], INPUT, tmp_path / "new", count=14, seed=3)
    assert [path.name for path in paths] == ["augmented_1.png", "augmented_2.png"]
    augmentation = Augmentation(AUGMENT_PRESETS["strong"], 96, 128)
    item = TrainingItems(data, augmentation, INPUT, 3)[0, 0]
    first = Image.open(paths[0]).crop((8, 8, 8 + 320, 8 + 320))
    canvas = draw_item(item, data.names)
    assert np.array_equal(np.asarray(first)[: canvas.height, : canvas.width], np.asarray(canvas))
    assert item.image.dtype == torch.uint8
    again = save_augmented_sheets(data, AUGMENT_PRESETS["strong"], INPUT, tmp_path / "again", count=14, seed=3)
    assert [path.read_bytes() for path in paths] == [path.read_bytes() for path in again]


def test_closed_epochs_are_shown_closed(tmp_path: Path) -> None:
    data, mixing = SyntheticScenes(3, size=96), AugmentSettings(flip=0.0, mosaic=1.0, close_epochs=1)
    one, two, three = (
        save_augmented_sheets(data, settings, INPUT, tmp_path / name, count=3, epochs=1)[0].read_bytes()
        for name, settings in (
            ("closed", mixing),
            ("plain", AugmentSettings(flip=0.0)),
            ("open", AugmentSettings(flip=0.0, mosaic=1.0)),
        )
    )
    assert one == two
    assert one != three


def test_check_draws_what_the_config_says(run: Run, tmp_path: Path) -> None:
    scenes = SyntheticScenes(3, size=96)
    ground_truth: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
    for i in range(3):
        image, sample = scenes.read(i)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
        ground_truth["images"].append({"id": i, "file_name": f"{i}.png", "height": 96, "width": 96})
        for (x1, y1, x2, y2), label in zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True):
            box = {"id": len(ground_truth["annotations"]) + 1, "image_id": i, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            ground_truth["annotations"].append(box | {"category_id": label + 1})
    ground_truth["categories"] = [{"id": i + 1, "name": name} for i, name in enumerate(scenes.names)]
    (tmp_path / "drawn.json").write_text(json.dumps(ground_truth), encoding="utf-8")
    sheets = []
    for name, keys in (
        ("plain", ["flip=0"]),
        ("closed", ["flip=0", "mosaic=1", "close_epochs=24"]),  # of the config's 24
        ("open", ["flip=0", "mosaic=1"]),
    ):
        changes = [part for key in keys for part in ("--set", f"augment.{key}")]
        command = ("check", tmp_path / "drawn.json", "--fast", "--config", "bccd_r18", "--augmented", tmp_path / name)
        code, _, told = run(*command, *changes)
        assert code in (0, 1)
        assert str(tmp_path / name / "augmented_2.png") in told
        sheets.append((tmp_path / name / "augmented_1.png").read_bytes())
    assert sheets[0] == sheets[1]
    assert sheets[0] != sheets[2]


def test_train_takes_an_augmentation_by_name(run: Run, tmp_path: Path) -> None:
    options = ("train", "synthetic", "--config", "demo", "--out", tmp_path)
    code, _, told = run(*options, "--augment", "heavy")
    assert code == 2
    assert "augment.preset is one of light, medium, strong, not 'heavy'" in told


def test_a_run_resumes_with_its_own_augmentation(tmp_path: Path) -> None:
    """The same options again are no change, though one of them changes what the other says."""
    begun = ["--augment", "strong", "--set", "augment.crop=0.125"]
    config = build_config(build_parser().parse_args(["train", "synthetic", *begun]))
    assert config.augment == replace(AUGMENT_PRESETS["strong"], crop=0.125)
    RunFolder(tmp_path).config.write_text(write_config(config), encoding="utf-8")
    RunFolder(tmp_path).state.touch()
    resume = ["train", "synthetic", "--resume", "--out", str(tmp_path)]
    assert build_config(build_parser().parse_args([*resume, *begun])) == config
    with pytest.raises(ConfigError, match=r"differs in augment.preset"):
        build_config(build_parser().parse_args([*resume, "--augment", "strong"]))
