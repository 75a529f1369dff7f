"""Detection in images of any kind, with results in pixels of the original."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from gfocal.data.preprocess import InputSettings
from gfocal.errors import ImageError
from gfocal.models.detector import Detector
from gfocal.models.predict import (
    DEFAULT_THRESHOLD,
    as_rgb,
    detect,
    is_several,
    predict,
    stack_inputs,
)
from gfocal.models.zoo import gfl_r18_fpn
from gfocal.structures import Detections

HEIGHT, WIDTH = 40, 60
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def model() -> Detector:
    torch.manual_seed(0)
    settings = InputSettings(short_side=64, long_side=128)
    built = gfl_r18_fpn(2, names=("cat", "dog"), pretrained=False, input_settings=settings, channels=64, num_convs=1)
    # Uneven scores, so that detections can be told apart.
    torch.nn.init.normal_(built.head.get_parameter("cls_out.weight"), std=0.3)
    return built.eval()


@pytest.fixture(scope="module")
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def one(found: list[Detections] | Detections) -> Detections:
    assert isinstance(found, Detections)
    return found


def several(found: list[Detections] | Detections) -> list[Detections]:
    assert isinstance(found, list)
    return found


def same(a: Detections, b: Detections) -> bool:
    return torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores) and a.size == b.size


def test_every_kind_of_image_gives_the_same_detections(model: Detector, pixels: Pixels, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    want = one(detect(model, pixels))
    assert len(want) > 0
    for image in (
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
        Image.fromarray(pixels),
        tensor,
        tensor.float() / 255,
    ):
        assert same(one(detect(model, image)), want)
    assert same(one(model.detect(pixels)), want)


def test_several_images_give_a_list_in_their_order(model: Detector, pixels: Pixels) -> None:
    images = [pixels, pixels[::-1].copy(), pixels[:, :30].copy()]
    alone = [one(detect(model, p)) for p in images]
    found = several(detect(model, images))
    assert all(same(a, b) for a, b in zip(found, alone, strict=True))
    stacked = several(detect(model, np.stack(images[:2])))
    assert all(same(a, b) for a, b in zip(stacked, alone, strict=False))
    assert len(several(detect(model, torch.from_numpy(np.stack(images[:2])).permute(0, 3, 1, 2)))) == 2
    assert several(detect(model, [])) == []
    assert len(several(detect(model, (pixels,)))) == 1


def test_images_in_one_batch_give_nearly_what_they_give_alone(model: Detector, pixels: Pixels) -> None:
    """Of one size there is no padding, and the network sees the same numbers."""
    images = [pixels, pixels[::-1].copy(), pixels[:, ::-1].copy()]
    together = several(detect(model, images, batch_size=2))
    for found, image in zip(together, images, strict=True):
        alone = one(detect(model, image))
        assert len(found) == len(alone)
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)


def test_predict_gives_each_batch_with_its_detections(model: Detector, pixels: Pixels) -> None:
    images = [as_rgb(pixels), as_rgb(pixels[::-1].copy())]
    settings = model.input_settings
    batches = [stack_inputs([i], [image], settings) for i, image in enumerate(images)]
    model.train()
    for i, (batch, (found,)) in enumerate(predict(model, iter(batches), score_threshold=0.0)):
        assert model.training  # its copy computes
        assert batch is batches[i]
        assert batch.original_sizes.tolist() == [[HEIGHT, WIDTH]]
        assert same(found, one(detect(model, images[i], score_threshold=0.0)))
    assert model.training
    model.eval()


def test_results_are_in_pixels_of_the_original(model: Detector, pixels: Pixels) -> None:
    """The network sees 64 x 96 of 40 x 60; an image drawn at that size gives boxes 1.6 times as large."""
    found = one(detect(model, pixels, score_threshold=0.0))
    assert found.size == (HEIGHT, WIDTH)
    assert found.boxes[:, 0::2].max().item() <= WIDTH
    assert found.boxes[:, 1::2].max().item() <= HEIGHT
    assert found.boxes.min().item() >= 0
    assert found.boxes[:, 2].max().item() > 0.9 * WIDTH
    large = np.asarray(Image.fromarray(pixels).resize((96, 64), Image.Resampling.BILINEAR))
    network = one(detect(model, large, score_threshold=0.0))
    torch.testing.assert_close(network.points.max(0).values, found.points.max(0).values * 1.6)
    torch.testing.assert_close(network.bin_sizes.max(), found.bin_sizes.max() * 1.6)


def test_a_given_threshold_replaces_that_of_the_model(model: Detector, pixels: Pixels) -> None:
    everything = one(detect(model, pixels, score_threshold=0.0))
    middle = everything.scores.median().item()
    assert one(detect(model, pixels, score_threshold=middle)).scores.min().item() > middle
    each = one(detect(model, pixels, score_threshold=(0.0, 1.0)))
    assert each.class_names == ["cat"] * int((everything.labels == 0).sum())
    with pytest.raises(ValueError, match="3 thresholds for 2 classes"):
        detect(model, pixels, score_threshold=(0.1, 0.2, 0.3))


def test_the_models_own_thresholds_apply_as_in_the_command(model: Detector, pixels: Pixels) -> None:
    model = copy.deepcopy(model)
    model.decode_settings = replace(model.decode_settings, nms_threshold=1.0, max_detections=999)
    torch.nn.init.constant_(model.head.get_parameter("cls_out.bias"), -1.0)
    everything = one(detect(model, pixels, score_threshold=0.0))
    assert same(one(detect(model, pixels)), everything.above(DEFAULT_THRESHOLD))
    assert 0 < len(everything.above(DEFAULT_THRESHOLD)) < len(everything)
    own = (float(everything.scores[everything.labels == 0].median()), 0.9)
    model.class_thresholds = own
    assert same(one(model.detect(pixels)), everything.above(own))
    assert same(one(model.detect(pixels, score_threshold=0.2)), everything.above(0.2))
    image, settings = as_rgb(pixels), model.input_settings
    batch = stack_inputs([0], [image], settings)
    ((_, (for_ap,)),) = predict(model, [batch])
    assert for_ap.scores.min().item() < DEFAULT_THRESHOLD  # AP needs them all


def test_channels_in_the_order_of_opencv(model: Detector, pixels: Pixels) -> None:
    want = one(detect(model, pixels))
    turned = np.ascontiguousarray(pixels[..., ::-1])
    for image in (turned, torch.from_numpy(turned).permute(2, 0, 1)):
        assert same(one(detect(model, image, color="bgr")), want)
        assert not same(one(detect(model, image)), want)
    assert same(
        one(model.detect(Image.fromarray(pixels), color="bgr")), want
    )  # PIL images have an order of their own
    clear = np.dstack((turned, np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)))
    assert torch.equal(as_rgb(clear, color="bgr"), as_rgb(pixels))
    gray = pixels[..., 0]
    assert torch.equal(as_rgb(gray, color="bgr"), as_rgb(gray))
    with pytest.raises(ValueError, match="color is 'rgb' or 'bgr', not 'BGR'"):
        detect(model, pixels, color="BGR")  # type: ignore[arg-type]


def test_detections_know_their_image(model: Detector, pixels: Pixels, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    with Image.open(tmp_path / "photo.png") as opened:
        found = several(detect(model, [tmp_path / "photo.png", pixels, opened], batch_size=2))
        sources = [one.source.get() for one in found if one.source is not None]
    assert sources[0] == str(tmp_path / "photo.png")
    assert sources[1] is pixels
    assert sources[2] is opened


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_of_the_model_is_restored(model: Detector, pixels: Pixels, training: bool) -> None:
    statistics = model.get_buffer("backbone.body.bn1.running_mean")
    before = statistics.clone()
    model.train(training)
    detect(model, pixels)
    assert model.training is training
    assert model.head.training is training
    assert torch.equal(statistics, before)
    model.eval()


def test_gray_and_transparent_images_become_rgb() -> None:
    gray = np.full((3, 4), 7, dtype=np.uint8)
    assert as_rgb(gray).tolist() == torch.full((3, 3, 4), 7).tolist()
    assert as_rgb(torch.full((1, 3, 4), 7, dtype=torch.uint8)).shape == (3, 3, 4)
    clear = np.zeros((3, 4, 4), dtype=np.uint8)  # wholly transparent: white
    assert as_rgb(clear).min().item() == 255
    assert as_rgb(torch.full((3, 2, 2), 0.5)).unique().tolist() == [128]


def test_one_or_several() -> None:
    one: tuple[object, ...] = ("a.jpg", Path("a.jpg"), np.zeros((2, 2, 3)), torch.zeros(3, 2, 2))
    many: tuple[object, ...] = ([], ("a.jpg",), np.zeros((1, 2, 2, 3)), torch.zeros(1, 3, 2, 2))
    assert not any(is_several(x) for x in one)
    assert all(is_several(x) for x in many)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (np.zeros((4, 4, 3), dtype=np.float32), "an array must be uint8"),
        (np.zeros(5, dtype=np.uint8), "an array must be uint8 of shape"),
        (np.zeros((4, 4, 7), dtype=np.uint8), r"not uint8 \(4, 4, 7\)"),
        (np.zeros((3, 4, 4, 3, 1), dtype=np.uint8), "an array must be uint8 of shape"),
        (np.zeros((0, 4, 3), dtype=np.uint8), "an array must be uint8 of shape"),
        (torch.zeros(3, 0, 4), r"a tensor must have shape \(3, H, W\)"),
        (torch.full((3, 4, 4), torch.nan), r"values in 0\.\.1"),
        (torch.zeros(4, 4, 3), r"a tensor must have shape \(3, H, W\)"),
        (torch.full((3, 4, 4), 200.0), r"values in 0\.\.1"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "uint8 or float"),
        (None, "not an image: NoneType"),
        (b"bytes", "not an image|cannot"),
    ],
)
def test_other_objects_than_images_are_refused(model: Detector, image: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        detect(model, image)


def test_files_that_are_no_images_are_refused(model: Detector, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.jpg: no such file"):
        detect(model, tmp_path / "none.jpg")
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        detect(model, ["a.jpg"], batch_size=0)


def test_the_mode_is_restored_when_the_network_fails(
    model: Detector,
    pixels: Pixels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(maps: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.head, "forward", fail)
    model.train()
    with pytest.raises(RuntimeError, match="out of memory"):
        detect(model, pixels)
    assert model.training
    model.eval()
