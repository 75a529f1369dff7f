"""The learning rate over a run, and which parameters get which share of it."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from gfocal.config.bundled import config_names
from gfocal.config.config import read_config
from gfocal.models.backbone import TimmBackbone
from gfocal.models.zoo import create
from gfocal.training.optim import (
    OptimizerSettings,
    ScheduleSettings,
    limit_warmup,
    lr_factor,
    make_optimizer,
    scale_learning_rate,
    set_learning_rate,
)

STEP = ScheduleSettings(kind="step", milestones=(8, 11), warmup_steps=0)
COSINE = ScheduleSettings(kind="cosine", final_lr_factor=0.01, warmup_steps=0)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Sequential(nn.Conv2d(4, 4, 3), nn.GroupNorm(2, 4))
        self.backbone[0].bias.requires_grad_(False)


def test_the_defaults_are_the_published_1x_config() -> None:
    """Li et al. 2020: rate 0.01 for 16 images, a tenth after 8 and 11 of 12 epochs, 500 warm-up steps."""
    optimizer, schedule = OptimizerSettings(), ScheduleSettings()
    assert (optimizer.kind, optimizer.lr, optimizer.lr_batch) == ("sgd", 0.01, 16)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert (schedule.kind, schedule.milestones, schedule.warmup_steps) == ("step", (8, 11), 500)
    assert schedule.warmup_from == pytest.approx(1 / 3)

    def rate(epoch: int) -> float:
        return lr_factor(epoch * 7330, 7330, 12, schedule)

    assert [rate(epoch) for epoch in (1, 7, 8, 10, 11)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_warm_up_is_a_straight_line_from_its_start_to_one() -> None:
    settings = ScheduleSettings(warmup_steps=10, warmup_from=0.25)
    factors = [lr_factor(step, 1000, 12, settings) for step in range(12)]
    assert factors[0] == 0.25
    assert factors[10] == factors[11] == 1.0
    rises = [b - a for a, b in pairwise(factors[:11])]
    assert rises == pytest.approx([0.075] * 10)


@pytest.mark.parametrize(("steps", "taken"), [(48, 9), (249, 49), (250, 50), (5000, 50), (3, 0)])
def test_warm_up_takes_a_fifth_of_a_run_at_most(steps: int, taken: int) -> None:
    settings = ScheduleSettings(warmup_steps=50)
    shortened, note = limit_warmup(settings, steps)
    assert shortened == ScheduleSettings(warmup_steps=taken)
    assert (str(steps) in note and (str(taken) in note or not taken)) == (taken < 50)
    assert bool(note) == (taken < 50)


def test_steps_fall_with_the_first_step_of_their_epoch() -> None:
    factors = [lr_factor(step, 5, 12, STEP) for step in range(60)]
    assert factors[39] == 1.0
    assert factors[40] == pytest.approx(0.1)
    assert factors[54] == pytest.approx(0.1)
    assert factors[55:] == pytest.approx([0.01] * 5)


def test_cosine_starts_at_one_ends_at_final_and_never_rises() -> None:
    factors = [lr_factor(step, 10, 10, COSINE) for step in range(100)]
    assert factors[0] == 1.0
    assert factors[50] == pytest.approx((1 + 0.01) / 2)
    assert 0.01 < factors[-1] < 0.0103
    assert lr_factor(100, 10, 10, COSINE) == lr_factor(500, 10, 10, COSINE) == pytest.approx(0.01)
    assert all(a > b for a, b in pairwise(factors))


def test_warm_up_multiplies_the_schedule() -> None:
    settings = ScheduleSettings(kind="cosine", final_lr_factor=0.0, warmup_steps=50, warmup_from=0.0)
    cosine = (1 + math.cos(math.pi * 25 / 100)) / 2
    assert lr_factor(25, 10, 10, settings) == pytest.approx(0.5 * cosine)


def rates(optimizer: torch.optim.Optimizer) -> dict[int, tuple[float, float]]:
    """Id of each parameter -> its learning rate and weight decay."""
    return {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}


@pytest.mark.parametrize("kind", ["sgd", "adamw"])
def test_every_trainable_parameter_is_in_one_group(kind: str) -> None:
    net = Net()
    settings = OptimizerSettings(kind, lr=1.0, lr_batch=8, decay_norms=False, backbone_lr=0.5)  # type: ignore[arg-type]
    optimizer = make_optimizer(net, settings, 8)
    listed = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trainable = [id(p) for p in net.parameters() if p.requires_grad]
    assert len(listed) == len(set(listed)) == len(trainable)
    assert set(listed) == set(trainable)
    assert isinstance(optimizer, torch.optim.SGD if kind == "sgd" else torch.optim.AdamW)


def test_norms_and_biases_need_not_decay() -> None:
    net = Net()
    decaying = rates(make_optimizer(net, OptimizerSettings(weight_decay=0.3, decay_norms=True), 16))
    assert {decay for _, decay in decaying.values()} == {0.3}
    sparing = rates(make_optimizer(net, OptimizerSettings(weight_decay=0.3, decay_norms=False), 16))
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            is_kernel = name.endswith("0.weight")
            assert sparing[id(parameter)][1] == (0.3 if is_kernel else 0.0), name


def test_the_backbone_may_learn_more_slowly() -> None:
    net = Net()
    found = rates(make_optimizer(net, OptimizerSettings(lr=0.01, backbone_lr=0.3), 16))
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            assert found[id(parameter)][0] == pytest.approx(0.003 if name.startswith("backbone") else 0.01), name


@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "tf_efficientnet_lite0.in1k"])
def test_rates_fall_from_the_last_stage_to_the_stem(name: str) -> None:
    net = nn.Module()
    net.backbone, net.head = TimmBackbone(name, pretrained=False), nn.Conv2d(4, 4, 3)
    settings = OptimizerSettings(lr=0.01, backbone_lr=0.5, layer_decay=0.8)
    found = rates(make_optimizer(net, settings, 16))
    assert found[id(net.head.weight)][0] == pytest.approx(0.01)
    parts = net.backbone.parts()
    assert len(parts) == (5 if name.startswith("resnet") else 8)
    for depth, part in enumerate(parts):
        rate = 0.01 * 0.5 * 0.8 ** (len(parts) - 1 - depth)
        of_part = [found[id(p)][0] for module in part for p in module.parameters()]
        assert of_part == pytest.approx([rate] * len(of_part)), depth
    assert len(found) == len(list(net.parameters()))


def test_layer_decay_of_a_resnet_by_names() -> None:
    """As BEiT and ConvNeXt have it, but by stages: the head and the last stage have the rate, the stem decay^4."""
    model = create("gfl_r18_fpn", 2, pretrained=False, channels=32, num_convs=1, body="resnet18.a1_in1k")
    settings = OptimizerSettings("adamw", lr=0.01, layer_decay=0.7, decay_norms=False, weight_decay=0.05)
    found = rates(make_optimizer(model, settings, 16))
    powers = {"conv1": 4, "bn1": 4, "layer1": 3, "layer2": 2, "layer3": 1, "layer4": 0}
    seen = set()
    for name, parameter in model.named_parameters():
        part = name.split(".")[2] if name.startswith("backbone.") else ""
        rate, decay = found[id(parameter)]
        assert rate == pytest.approx(0.01 * 0.7 ** powers.get(part, 0)), name
        is_kernel = parameter.dim() > 1
        assert decay == (0.05 if is_kernel else 0.0), name
        seen.add(part)
    assert seen == {"", *powers}


def test_without_layer_decay_groups_are_those_of_backbone_and_rest() -> None:
    """A state saved before there was one fits."""
    optimizer = make_optimizer(Net(), OptimizerSettings(decay_norms=True), 16)
    assert [len(group["params"]) for group in optimizer.param_groups] == [3, 4]


@pytest.mark.parametrize(("kind", "rates"), [("sgd", (0.0025, 0.01, 0.04)), ("adamw", (0.005, 0.01, 0.02))])
def test_the_rate_scales_with_the_images_of_a_step(kind: Literal["sgd", "adamw"], rates: tuple[float, ...]) -> None:
    settings = OptimizerSettings(kind, lr=0.01, lr_batch=16)
    for images, rate in zip((4, 16, 64), rates, strict=True):
        assert make_optimizer(Net(), settings, images).param_groups[0]["lr"] == pytest.approx(rate)


@given(batch=st.integers(1, 4096), reference=st.integers(1, 4096))
def test_what_an_epoch_does_is_the_same_in_batches_of_any_size(batch: int, reference: int) -> None:
    """Of sgd the sum of the steps along a gradient that stays; of adamw, whose steps are of one size in whatever
    direction, the variance of their sum."""
    sgd, adamw = (OptimizerSettings(kind, lr=0.01, lr_batch=reference) for kind in ("sgd", "adamw"))
    assert scale_learning_rate(sgd, batch) / batch == pytest.approx(0.01 / reference)
    assert scale_learning_rate(adamw, batch) ** 2 / batch == pytest.approx(0.01**2 / reference)


def test_published_configs_keep_their_rates() -> None:
    """0.01 for 16 images, in proportion for others, and no epochs chosen for them."""
    for name in config_names():
        config = read_config(name)
        if name.startswith("coco"):
            assert scale_learning_rate(config.optimizer, 4) == pytest.approx(0.0025), name
            assert (config.run.min_steps, config.run.max_steps) == (0, None), name


def test_the_factor_is_of_the_first_rate_not_of_the_last() -> None:
    optimizer = make_optimizer(Net(), OptimizerSettings(lr=0.01, backbone_lr=0.5), 16)
    first = [group["lr"] for group in optimizer.param_groups]
    for factor in (0.5, 0.1, 1.0):
        set_learning_rate(optimizer, factor)
        assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([factor * lr for lr in first])


def test_momentum_and_unknown_kinds() -> None:
    assert make_optimizer(Net(), OptimizerSettings(momentum=0.8), 16).param_groups[0]["momentum"] == 0.8
    with pytest.raises(ValueError, match="sgd or adamw"):
        make_optimizer(Net(), OptimizerSettings(kind="lamb"), 16)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="step or cosine"):
        lr_factor(0, 1, 1, ScheduleSettings(kind="line"))  # type: ignore[arg-type]
