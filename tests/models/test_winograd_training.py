"""Winograd's convolution trains as the direct one does, and so do towers that run layer by layer."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from gfocal.models import winograd_training
from gfocal.models.heads import tower
from gfocal.models.winograd_training import _Winograd, convolve, is_gained, run_tower


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 13), st.integers(1, 13)), min_size=1, max_size=4),
    tiles=st.integers(1, 9),
    has_bias=st.booleans(),
)
def test_outputs_and_gradients_are_those_of_a_convolution(
    sizes: list[tuple[int, int, int]], tiles: int, has_bias: bool
) -> None:
    weight, bias = random(7, 5, 3, 3).requires_grad_(), random(7).requires_grad_() if has_bias else None
    maps = [random(b, 5, h, w, seed=i).requires_grad_() for i, (b, h, w) in enumerate(sizes)]
    given_gradients = [random(b, 7, h, w, seed=-i - 1) for i, (b, h, w) in enumerate(sizes)]
    leaves = [weight, *([bias] if bias is not None else []), *maps]
    before = winograd_training.TILES
    winograd_training.TILES = tiles  # so that tiles are computed in several parts
    try:
        found = _Winograd.apply(weight, bias, *maps)
        gradients = torch.autograd.grad(found, leaves, given_gradients)
    finally:
        winograd_training.TILES = before
    wanted = [F.conv2d(one, weight, bias, padding=1) for one in maps]
    torch.testing.assert_close(list(found), wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(gradients, torch.autograd.grad(wanted, leaves, given_gradients), rtol=0, atol=1e-10)
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in found)


def test_gradients_that_are_not_needed_are_none() -> None:
    weight, maps = random(6, 5, 3, 3).requires_grad_(), random(1, 5, 6, 6)
    _Winograd.apply(weight, None, maps)[0].sum().backward()
    wanted = torch.autograd.grad(F.conv2d(maps, weight, padding=1).sum(), weight)[0]
    torch.testing.assert_close(weight.grad, wanted, rtol=0, atol=1e-10)


def test_it_is_taken_in_float32_training_on_a_cpu_alone() -> None:
    conv, maps = nn.Conv2d(128, 128, 3, padding=1), [random(2, 128, 20, 20, dtype=torch.float32)]
    assert is_gained(conv, maps)
    assert not is_gained(conv, [maps[0][:, :, :8, :8]])
    assert not is_gained(conv, [maps[0].double()])
    assert not is_gained(nn.Conv2d(64, 64, 3, padding=1), maps)
    with torch.no_grad():
        assert not is_gained(conv, maps)
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_gained(conv, maps)
    with conv.register_forward_hook(lambda *_: None):
        assert not is_gained(conv, maps)
    assert is_gained(conv, maps)
    torch.testing.assert_close(convolve(conv, maps)[0], conv(maps[0]), rtol=0, atol=1e-4)
    conv.requires_grad_(False)
    assert not is_gained(conv, maps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tower_run_over_all_levels_trains_as_level_by_level(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    own = tower(128, 128, 2, 32).to(memory_format=torch.channels_last)
    other = copy.deepcopy(own)
    results = []
    for layers, run in ((own, run_tower), (other, lambda layers, maps: [layers(one) for one in maps])):
        maps = [
            random(2, 128, side, side, seed=side, dtype=torch.float32)
            .contiguous(memory_format=torch.channels_last)
            .requires_grad_()
            for side in (16, 8, 3)
        ]
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            found = run(layers, maps)
        sum((one.float() * random(*one.shape, dtype=torch.float32)).sum() for one in found).backward()
        results.append([*found, *(one.grad for one in maps), *(p.grad for p in layers.parameters())])
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    for mine, wanted in zip(*results, strict=True):
        assert mine.dtype == wanted.dtype
        assert (mine - wanted).norm() <= tolerance * wanted.norm()


def test_hooks_of_layers_run() -> None:
    layers, seen = tower(16, 16, 1, 4).to(memory_format=torch.channels_last), []
    for layer in layers:
        layer.register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    maps = random(1, 16, 4, 4, dtype=torch.float32).contiguous(memory_format=torch.channels_last).requires_grad_()
    run_tower(layers, [maps])
    assert seen == ["Conv2d", "GroupNorm", "ReLU"]
