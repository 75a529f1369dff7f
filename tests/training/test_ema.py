"""The average of the weights follows the model, slowly at last and fast at first."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gfocal.config.config import Config, with_changes
from gfocal.errors import ConfigError
from gfocal.training.ema import WeightAverage


def net(value: float) -> nn.Module:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def test_one_update_by_hand() -> None:
    average = WeightAverage(net(1.0), decay=0.9, warmup=0)
    average.update(net(2.0))
    assert average.updates == 1
    for key, value in average.model.state_dict().items():
        expected = 2.0 if key.endswith("num_batches_tracked") else 1.1  # counters are copied
        torch.testing.assert_close(value.double(), torch.full_like(value, expected, dtype=torch.float64))


def test_the_decay_rises_to_its_value() -> None:
    average = WeightAverage(net(0.0), decay=0.5, warmup=3)
    value, reached = 0.0, []
    for update in range(1, 8):
        average.update(net(1.0))
        decay = min(0.5, update / (update + 3))
        value += (1 - value) * (1 - decay)
        reached.append(decay)
        weight = average.model.state_dict()["0.weight"]
        torch.testing.assert_close(weight, torch.full_like(weight, value))
    assert reached[0] == 0.25
    assert reached[-1] == 0.5


def test_a_decay_of_zero_is_the_model_itself() -> None:
    average = WeightAverage(net(1.0), decay=0.0)
    average.update(net(7.0))
    assert all((value == 7).all() for value in average.model.state_dict().values())


def test_the_average_is_a_model_of_its_own_that_is_not_trained() -> None:
    model = net(1.0).train()
    average = WeightAverage(model, decay=0.9)
    assert not average.model.training
    assert model.training
    assert not any(p.requires_grad for p in average.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    average.update(net(5.0))
    assert all((value == 1).all() for value in model.state_dict().values())


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_decays_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match="0 <= decay < 1"):
        WeightAverage(net(0.0), decay)


def weights_of(average: WeightAverage, updates: int) -> list[float]:
    """The weight in the average of the initial weights, and of those after each update."""
    weights = [1.0]
    for update in range(1, updates + 1):
        decay = average.decay_at(update)
        weights = [decay * weight for weight in weights] + [1 - decay]
    return weights


@given(share=st.floats(0.001, 0.5), updates=st.integers(1, 300))
def test_the_mean_age_is_the_same_share_of_any_run(share: float, updates: int) -> None:
    weights = weights_of(WeightAverage(net(0.0), 0.0, share=share), updates)
    assert math.fsum(weights) == pytest.approx(1)
    assert weights[0] == 0  # the initial weights are forgotten at once
    age = math.fsum(weight * (updates - update) for update, weight in enumerate(weights))
    assert age == pytest.approx(share * (updates - 1))


@given(updates=st.integers(1, 100))
def test_a_share_of_a_half_is_the_mean_of_all_weights(updates: int) -> None:
    assert weights_of(WeightAverage(net(0.0), 0.0, share=0.5), updates)[1:] == pytest.approx([1 / updates] * updates)


@given(decay=st.floats(0, 0.9999), share=st.floats(0.001, 0.5), update=st.integers(1, 10**6))
def test_a_share_takes_the_place_of_a_decay_and_only_rises(decay: float, share: float, update: int) -> None:
    average, alone = WeightAverage(net(0.0), decay, share=share), WeightAverage(net(0.0), 0.0, share=share)
    assert average.decay_at(update) == alone.decay_at(update) < average.decay_at(update + 1) < 1


def test_a_share_averages_the_weights_of_a_model() -> None:
    average, value = WeightAverage(net(100.0), 0.0, share=0.2), 100.0
    for update in range(1, 6):
        average.update(net(float(update)))
        value += (update - value) * (1 - average.decay_at(update))
        weight = average.model.state_dict()["0.weight"]
        torch.testing.assert_close(weight, torch.full_like(weight, value))
    assert value == pytest.approx(5 - 0.2 * 4)  # the mean of 1..5 by age


@pytest.mark.parametrize("share", [-0.1, 0.51, 1.0])
def test_shares_out_of_range(share: float) -> None:
    with pytest.raises(ValueError, match="share lies in"):
        WeightAverage(net(0.0), 0.0, share=share)
    with pytest.raises(ConfigError, match="ema_share lies in"):
        with_changes(Config(), {"run.ema_share": share})
