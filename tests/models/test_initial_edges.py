"""Where new heads predict edges before they have learned anything."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gfocal.build import build_model
from gfocal.config.config import Config, ConfigError, ModelSettings
from gfocal.models.detector import Detector
from gfocal.models.initial_edges import begin_edges_at, fall_of_mean, mean_of_fall
from gfocal.models.zoo import create
from gfocal.ops.distributions import GeneralDistribution

TINY = {"body": "mobilenetv4_conv_small_035", "channels": 32, "num_convs": 1}
HEADS: dict[str, dict[str, Any]] = {
    "gfl_light_fpn": TINY,
    "atss_r50_fpn": TINY | {"box": "general", "n": 12, "delta": 0.5},
    "nanodet_plus_m": {},  # also of the auxiliary head
}


def tiny(preset: str) -> Detector:
    torch.manual_seed(0)
    return create(preset, 2, pretrained=False, **HEADS[preset])


def first_distances(model: Detector) -> torch.Tensor:
    """Distances of all edges in an image of noise, in strides."""
    assert isinstance(model.box_coder, GeneralDistribution)
    with torch.no_grad():
        logits = model.train()(torch.randn(1, 3, 64, 96)).box_logits
    return model.box_coder.expectation(model.box_coder.probabilities(logits))


@pytest.mark.parametrize("preset", HEADS)
@pytest.mark.parametrize("distance", [0.7, 2.5])
def test_edges_begin_at_the_distance(preset: str, distance: float) -> None:
    model = tiny(preset)
    begin_edges_at(model, distance)
    assert first_distances(model).mean().item() == pytest.approx(distance, rel=0.1)


def test_as_published_they_begin_in_the_middle_of_the_range() -> None:
    assert first_distances(tiny("gfl_light_fpn")).mean().item() == pytest.approx(8, rel=0.05)


def test_a_short_regression_range_begins_in_its_middle() -> None:
    model = create("gfl_light_fpn", 2, pretrained=False, **TINY, n=2)
    begin_edges_at(model, 3.0)
    assert first_distances(model).mean().item() == pytest.approx(1, rel=0.05)


def test_nothing_but_the_biases_of_edges_changes() -> None:
    before, after = tiny("nanodet_plus_m"), tiny("nanodet_plus_m")
    begin_edges_at(after, 2)
    changed = {
        name for name, value in after.state_dict().items() if not torch.equal(value, before.state_dict()[name])
    }
    assert changed == {*(f"head.box_outs.{level}.bias" for level in range(4)), "head.auxiliary.box_out.bias"}


@given(st.integers(1, 64), st.floats(0.01, 0.99))
def test_the_fall_gives_the_mean(n: int, share: float) -> None:
    fall = fall_of_mean(n, share * n)
    assert math.isclose(mean_of_fall(n, fall), share * n, rel_tol=1e-9)
    assert math.isclose(mean_of_fall(n, -fall), (1 - share) * n, rel_tol=1e-6), "mirrored"


def test_the_config_sets_it() -> None:
    settings = ModelSettings(pretrained=False, options=TINY, initial_distance=3.0)
    model = build_model(Config(model=settings), ("a",))
    assert first_distances(model).mean().item() == pytest.approx(3, rel=0.1)


@pytest.mark.parametrize(
    ("preset", "distance", "message"),
    [
        ("gfl_light_fpn", 0.0, "must be more than 0 strides, not 0"),
        ("gfl_light_fpn", math.nan, "must be more than 0 strides, not nan"),
        ("atss_r50_fpn", 3.0, "mean of edge distributions, which it does not have"),
    ],
)
def test_distances_that_do_not_fit(preset: str, distance: float, message: str) -> None:
    settings = ModelSettings(preset=preset, pretrained=False, options=TINY, initial_distance=distance)
    with pytest.raises(ConfigError, match=message):
        build_model(Config(model=settings), ("a",))
