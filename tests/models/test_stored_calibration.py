"""A calibration in a model file: the same after reading, and no damage of it does anything but one ValueError."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibrations import calibration
from gfocal.data.preprocess import InputSettings
from gfocal.errors import ModelFileError
from gfocal.models.detector import Detector
from gfocal.models.finetuning import for_classes
from gfocal.models.model_file import load_model, read_description, save_model, store_calibration
from gfocal.models.precision import current_calibration, digest_weights
from gfocal.models.stored_calibration import calibration_from_json, calibration_to_json
from gfocal.models.zoo import create
from gfocal.structures import Detections

TABLE: dict[str, Any] = json.loads(json.dumps(calibration_to_json(calibration(count=20))))


def detector() -> Detector:
    torch.manual_seed(0)
    options = {"body": "mobilenetv4_conv_small.e2400_r224_in1k", "channels": 32, "num_convs": 1}
    model = create("gfl_light_fpn", 2, names=("a", "b"), pretrained=False, **options)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    with torch.no_grad():
        model.head.cls_out.bias.fill_(-1.0)
    return model.eval()


def test_all_of_it_is_the_same_after_reading():
    for how in (
        calibration(),
        replace(calibration(), score_threshold=(0.2, 0.4), boxes_of_class={-1: calibration().boxes}),
        replace(calibration(), images=("00ff" * 4, "11ee" * 4)),
    ):
        assert calibration_from_json(json.loads(json.dumps(calibration_to_json(how))), 2) == how


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The place of every value in a table, but of lists the first and last alone."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, one in value.items():
            found += paths_of(one, (*path, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) - 1} & set(range(len(value)))):
            found += paths_of(value[i], (*path, i))
    return found


PATHS = paths_of(TABLE)
WRONG = [
    None,
    True,
    "text",
    "",
    -1e300,
    1e300,
    10**400,
    -(10**400),
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    {"a": 1},
]
WRONG += [-3, 2.5, [1] * 5, ["0"], {"0": []}, {"7": {}}, "x" * 2000]


@given(st.sampled_from(PATHS), st.sampled_from(range(len(WRONG))))
def test_any_other_value_anywhere_is_one_error_or_harmless(path: tuple[Any, ...], which: int):
    table = copy.deepcopy(TABLE)
    place = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = WRONG[which]
    message = ""
    try:
        calibration_from_json(table, 2)
    except ValueError as error:
        message = str(error)
    assert message.startswith("calibration") or not message
    assert len(message) < 300


@pytest.mark.parametrize("key", sorted(TABLE))
def test_nothing_may_be_missing(key: str):
    with pytest.raises(ValueError, match=r"calibration\."):
        calibration_from_json({name: value for name, value in TABLE.items() if name != key}, 2)


def change(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def apply(table: dict[str, Any]) -> None:
        *before, last = path.split(".")
        for key in before:
            table = table[key] if isinstance(table, dict) else table[int(key)]
        table[last if isinstance(table, dict) else int(last)] = value

    return apply


IDENTITY = [[float(i == j) for j in range(4)] for i in range(4)]
NOT_POSITIVE = [[1, -0.9, -0.9, 0], [-0.9, 1, -0.9, 0], [-0.9, -0.9, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize(
    "damage",
    [
        change("spread.weights", [1.0, 2.0]),
        change("spread.weights", [1e9] * 5),
        change("std_factor", -1.0),
        change("images", ["a" * 100]),
        change("images", [7]),
        change("images", "abc"),
        change("correlation", [[1.0, 0.5, 0, 0], *IDENTITY[1:]]),
        change("correlation", NOT_POSITIVE),
        change("correlation", [[0.5, 0, 0, 0], *IDENTITY[1:]]),
        change("correlation", IDENTITY[:3]),
        change("boxes.values", [3.0] * 19 + [2.0]),
        change("boxes.ranks", list(range(20))),
        change("boxes.ranks", [1.0] * 20),
        change("boxes.count", 21),
        change("boxes.count", 10**15),
        change("edges", []),
        change("boxes_of_class.5", TABLE["boxes"]),
        change("iou_curves", {"0": TABLE["iou_curves"]["0"]}),
        change("iou_curves.-1.values", [0.9, 0.5, 0.1]),
        change("iou_curves.-1.scores", []),
        change("precision_curves.-1.values", [0.1, 0.2]),
        change("precision_curves.-1.values", [0.1, 0.2, 1.2]),
        change("score_threshold", [0.3]),
        change("score_threshold", [0.3, 0.4, 0.5]),
        change("score_threshold", 2),
        change("iou_threshold", 0.5 + 0.6),
        change("num_boxes", 0),
        change("is_fitted", 1),
        change("data", "x" * 1001),
        change("weights", None),
    ],
)
def test_damage_that_would_be_a_wrong_promise(damage: Callable[[dict[str, Any]], None]):
    table = copy.deepcopy(TABLE)
    damage(table)
    with pytest.raises(ValueError, match="calibration"):
        calibration_from_json(table, 2)


def test_sizes_are_bounded():
    many = {"count": 200_000, "ranks": list(range(1, 200_001)), "values": [1.0] * 200_000}
    with pytest.raises(ValueError, match="at most"):
        calibration_from_json(TABLE | {"boxes": many}, 2)
    with pytest.raises(ValueError, match="at most"):
        calibration_from_json(TABLE | {"iou_curves": {str(i): None for i in range(100_001)}}, 2)
    for table in (None, [], "text", 3):
        with pytest.raises(ValueError, match="calibration"):
            calibration_from_json(table, 2)


def test_save_load_and_remove(tmp_path: Path):
    model, path = detector(), tmp_path / "model.safetensors"
    save_model(model, path)
    before = path.read_bytes()
    assert "calibration" not in read_description(path)  # as in files of before
    assert load_model(path).calibration is None
    how = calibration(digest_weights(model))
    store_calibration(path, how)
    loaded = load_model(path)
    assert loaded.calibration == how
    assert current_calibration(loaded) == how
    save_model(loaded, tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors").calibration == how
    store_calibration(path, None)
    assert path.read_bytes()[-1000:] == before[-1000:]
    assert load_model(path).calibration is None
    with pytest.raises(ModelFileError, match=r"model\.safetensors: calibration\.boxes_of_class has the label '2'"):
        store_calibration(path, calibration(num_classes=3))


def test_a_file_with_a_damaged_calibration_is_no_model(tmp_path: Path):
    from gfocal.models.model_file import _replace_description

    path = tmp_path / "model.safetensors"
    save_model(detector(), path)
    about = read_description(path)
    with pytest.raises(ModelFileError, match="calibration"):
        _replace_description(path, about | {"calibration": {"boxes": 3}})


def image(seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, 64, 96), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def same(one: Detections, other: Detections) -> None:
    assert len(one) == len(other) > 0
    assert one.calibration is not None
    for a, b in (
        (one.edge_std, other.edge_std),
        (one.edge_interval(), other.edge_interval()),
        (one.calibrated_scores(), other.calibrated_scores()),
        (one.edge_covariance(), other.edge_covariance()),
    ):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-2)


def test_batches_have_the_numbers_of_single_images():
    model = detector()
    model.calibration = calibration(digest_weights(model))
    images = [image(0), image(1), image(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = model.detect(images, score_threshold=0.05, batch_size=3)
        for alone, one in zip(images, together, strict=True):
            same(model.detect(alone, score_threshold=0.05), one)


def test_of_other_weights_it_is_not_used_and_there_is_a_warning():
    model = detector()
    model.calibration = calibration(digest_weights(model))
    assert model.detect(image(0), 0.05).calibration is not None
    with torch.no_grad():
        model.head.cls_out.bias.add_(0.01)
    with pytest.warns(UserWarning, match="calibration of this model is of other weights"):
        found = model.detect(image(0), 0.05)
    assert found.calibration is None
    assert torch.equal(found.edge_std, found.distribution_std)
    model.calibration = None
    model.calibration = calibration(digest_weights(model))  # perhaps where the one before lay in memory
    assert model.detect(image(0), 0.05).calibration is model.calibration


def test_models_with_hooks_have_it_too():
    model = detector()
    model.calibration = calibration(digest_weights(model))
    model.register_forward_hook(lambda *_: None)
    assert model.detect(image(0), 0.05).calibration is model.calibration


def test_further_training_drops_it():
    model = detector()
    model.calibration = calibration(digest_weights(model))
    assert for_classes(model, ("a", "b")).calibration is None
    assert for_classes(model, ("b", "c")).calibration is None
    assert model.calibration is not None
