"""The average of the weights follows the model, slowly at last and fast at first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
