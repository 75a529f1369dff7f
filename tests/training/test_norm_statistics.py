"""BatchNorm statistics for weights that come without."""

from __future__ import annotations

import torch
from torch import nn

from gfocal.data.synthetic.scenes import SyntheticScenes
from gfocal.models.zoo import create
from gfocal.training.norm_statistics import measure_statistics, restore_statistics


def folded() -> nn.Module:
    """A network with BatchNorm layers as the importer of folded weights leaves them."""
    torch.manual_seed(0)
    model = create("nanodet_plus_m", 3, pretrained=False, auxiliary=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.fill_((1 + module.eps) ** 0.5)
            module.bias.data.normal_(0, 0.5)
    return model.eval()


@torch.no_grad()
def test_the_network_computes_what_it_did_before() -> None:
    model = folded()
    images = torch.randn(4, 3, 96, 128)
    before = model(images)
    measure_statistics(model, images.split(2))
    after = model(images)
    torch.testing.assert_close(after.cls_logits, before.cls_logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(after.box_logits, before.box_logits, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_the_statistics_are_those_of_the_images() -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).train()
    images = torch.randn(6, 3, 20, 20) * 3 + 5
    measure_statistics(model, images.split(2))
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    inputs = model[0](images)
    torch.testing.assert_close(norm.running_mean, inputs.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, inputs.var((0, 2, 3), unbiased=False))
    assert model.training, "the mode is as before"
    by_batch = model(images)
    torch.testing.assert_close(by_batch, model.eval()(images), rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_a_channel_that_is_constant_on_all_images_stays_finite() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    model[0].weight[0] = 0.0
    images = torch.randn(2, 3, 8, 8)
    before = model(images)
    measure_statistics(model, [images])
    torch.testing.assert_close(model(images), before, rtol=1e-4, atol=1e-4)


def test_only_folded_weights_are_measured_and_once() -> None:
    model = create("nanodet_plus_m", 6, pretrained=False, auxiliary=False)
    scenes = SyntheticScenes(10, 96)
    assert restore_statistics(model, scenes) == 0
    model.has_folded_statistics = True
    assert restore_statistics(model, scenes) == 10
    assert restore_statistics(model, scenes) == 0
