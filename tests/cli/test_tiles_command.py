"""gfocal detect --tile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gfocal.cli import DONE, SOME_FAILED, USER_ERROR
from gfocal.data.preprocess import InputSettings
from gfocal.inference import stages
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.structures import Detections

OPTIONS = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = create("gfl_light_fpn", 2, names=("cat", "dog"), pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    with torch.no_grad():  # small boxes, and scores that differ
        model.head.cls_out.weight.mul_(30)
        model.head.box_out.bias.copy_((-2.0 * (torch.arange(model.head.num_bins) - 1).abs()).repeat(4))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(model.eval(), path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(0)
    small = Image.fromarray(numbers.integers(0, 256, (25, 35, 3)).astype(np.uint8))
    path = tmp_path / "large.tif"
    small.resize((350, 250)).save(path, compression="tiff_lzw")
    return path


def test_tiles_are_detected_in_recorded_and_drawn(
    run: Run, model: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "OVERVIEW_SIDE", 200)
    out = tmp_path / "out"
    common = ("detect", model, image, "--tile", 96, "--overlap", 0.3, "--score-threshold", 0.005, "--out", out)
    code, _, err = run(*common, "--edges", "std", "--max-detections", 7)
    assert code == DONE
    assert "tiles with 7 detections, the maximum, may have more" in err
    content = json.loads((out / "detections.json").read_text())
    assert content["info"]["run"]["tiles"] == {"size": 96, "overlap": 0.3, "levels": None}
    (about,) = content["images"]
    assert (about["width"], about["height"]) == (350, 250)
    with Image.open(out / "large.jpg") as drawn:
        assert drawn.size == (175, 125)
    found = load_model(model)
    found.decode_settings = type(found.decode_settings)(max_detections=7)
    expected = found.detect(image, 0.005, tile=96, overlap=0.3)
    assert isinstance(expected, Detections)
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in content["annotations"])]
    torch.testing.assert_close(torch.tensor(boxes), expected.boxes, atol=0.05, rtol=0)
    stds = torch.tensor([one["edge_std"] for one in content["annotations"]])
    torch.testing.assert_close(stds, expected.edge_std, atol=0.05, rtol=0)
    code, _, err = run(*common, "--edges", "std", "--max-detections", 7, "--resume")
    assert code == DONE
    assert "done already" in err


def test_a_file_that_cannot_be_read_does_not_end_the_run(run: Run, model: Path, image: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
    out = tmp_path / "out"
    code, _, err = run("detect", model, broken, image, "--tile", 128, "--tile-levels", 1, "--out", out, "--no-images")
    assert code == SOME_FAILED
    assert "broken.tif" in err
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 1
    code, _, err = run("detect", model, broken, image, "--tile", 96, "--out", out, "--no-images", "--resume")
    assert code == USER_ERROR  # a run with other tiles is another run
    assert "tiles" in err


def test_pixels_that_are_refused_as_a_whole_are_read_by_tiles(
    run: Run, model: Path, image: Path, tmp_path: Path
) -> None:
    common = ("detect", model, image, "--out", tmp_path / "out", "--no-images", "--max-megapixels", 0.05)
    code, _, err = run(*common)
    assert code == USER_ERROR
    assert "more pixels than the limit" in err or "more than the limit" in err
    assert run(*common, "--tile", 96)[0] == DONE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--tile", 96, "--overlap", 0.9), "tiles overlap by 0 to 0.75"),
        (("--tile", 5), "tiles have 32 to"),
        (("--overlap", 0.2), "name their size"),
        (("--tile-levels", 2), "name their size"),
        (("--tile", 96, "--submission", "info.json"), "no --tile"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, model: Path, image: Path, tmp_path: Path, options: tuple[object, ...], message: str
) -> None:
    code, _, err = run("detect", model, image, "--out", tmp_path / "out", *options)
    assert code == USER_ERROR
    assert message in err
