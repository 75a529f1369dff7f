"""Stages that are not trained run as their copy for inference: the same maps and gradients, always of the weights."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from gfocal.models import frozen_stages
from gfocal.models.backbone import TimmBackbone
from gfocal.models.frozen_stages import frozen_prefix

IMAGES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def backbone(frozen: int = 1, finest: int = 8) -> TimmBackbone:
    torch.manual_seed(0)
    made = TimmBackbone("resnet18.tv_in1k", pretrained=False, frozen_stages=frozen, norm_eval=True, finest=finest)
    for norm in made.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.normal_(norm.running_mean, std=0.1)
            nn.init.uniform_(norm.running_var, 0.5, 1.5)
            nn.init.uniform_(norm.weight, 0.5, 1.0)
    return made.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]


def plain(network: TimmBackbone, images: Tensor) -> list[Tensor]:
    return network.body(images)


@pytest.mark.parametrize(("frozen", "finest", "children"), [(1, 8, 5), (1, 4, 5), (2, 8, 6), (3, 8, 6)])
def test_maps_and_gradients_are_the_same(frozen: int, finest: int, children: int) -> None:
    network = backbone(frozen, finest)
    assert len(frozen_prefix(network.body, IMAGES)) == children
    keys = list(network.state_dict())
    results = []
    for run in (network, lambda images: plain(network, images)):
        network.zero_grad()
        maps = run(IMAGES)
        sum((m * m).mean() for m in maps).backward()
        results.append([*maps, *(p.grad.clone() for p in network.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1])
    for mine, wanted in zip(*results, strict=True):
        assert mine.dtype == torch.float32
        assert (mine - wanted).norm() <= 1e-5 * wanted.norm()
    assert list(network.state_dict()) == keys
    assert frozen_stages._copies[network.body][torch.float32].network is not None


def test_bf16_gives_bf16() -> None:
    network = backbone()
    with torch.autocast("cpu", torch.bfloat16):
        found, wanted = network(IMAGES), plain(network, IMAGES)
    assert frozen_stages._copies[network.body][torch.bfloat16].network is not None
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == theirs.dtype == torch.bfloat16
        assert (mine.float() - theirs.float()).norm() <= 0.03 * theirs.float().norm()


def test_changed_weights_are_noticed() -> None:
    network = backbone()
    network(IMAGES)
    with torch.no_grad():
        network.body.conv1.weight.data[0, 0] += 1  # past autograd's versions
    torch.testing.assert_close(network(IMAGES), plain(network, IMAGES), rtol=1e-4, atol=1e-4)
    state = {key: value * 0.9 for key, value in network.state_dict().items() if value.is_floating_point()}
    network.load_state_dict(state, strict=False)
    torch.testing.assert_close(network(IMAGES), plain(network, IMAGES), rtol=1e-4, atol=1e-4)
    other = copy.deepcopy(network)
    assert other.body not in frozen_stages._copies


def test_what_is_trained_or_watched_runs_as_it_is() -> None:
    network, seen = backbone(), []
    network.body.layer1.register_forward_hook(lambda *_: seen.append(1))
    network(IMAGES)
    assert seen == [1]
    assert not frozen_prefix(backbone(0).body, IMAGES)
    assert not frozen_prefix(backbone().body, IMAGES.clone().requires_grad_())
    network.freeze(1, True, norms=False)
    network.body.bn1.train()
    assert frozen_prefix(network.body, IMAGES) == [network.body.conv1]
    mobile = TimmBackbone("mobilenetv3_small_050.lamb_in1k", pretrained=False, frozen_stages=1).train()
    assert len(mobile(IMAGES)) == 3
