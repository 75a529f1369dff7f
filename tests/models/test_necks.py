"""The feature pyramid: sizes, the way from coarse to fine, and what P6 and P7 are made of."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from gfocal.models.necks import FPN


def neck() -> FPN:
    torch.manual_seed(0)
    return FPN([4, 8, 16], channels=6, num_levels=5)


@pytest.mark.parametrize(("height", "width"), [(64, 96), (32, 32), (160, 32)])
def test_each_level_has_the_size_of_its_stride(height: int, width: int) -> None:
    maps = [torch.randn(2, c, height // s, width // s) for c, s in ((4, 8), (8, 16), (16, 32))]
    shapes = [tuple(m.shape) for m in neck()(maps)]
    assert shapes == [(2, 6, -(-height // s), -(-width // s)) for s in (8, 16, 32, 64, 128)]


def test_equals_the_pyramid_written_out() -> None:
    fpn = neck()
    c3, c4, c5 = torch.randn(1, 4, 7, 9), torch.randn(1, 8, 4, 5), torch.randn(1, 16, 2, 3)  # odd sizes
    m5 = fpn.laterals[2](c5)
    m4 = fpn.laterals[1](c4) + F.interpolate(m5, size=(4, 5), mode="nearest")
    m3 = fpn.laterals[0](c3) + F.interpolate(m4, size=(7, 9), mode="nearest")
    p5 = fpn.outputs[2](m5)
    p6 = fpn.extra[0](p5)
    want = [fpn.outputs[0](m3), fpn.outputs[1](m4), p5, p6, fpn.extra[1](p6)]
    for got, expected in zip(fpn([c3, c4, c5]), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_coarse_maps_reach_every_level_and_fine_ones_only_their_own() -> None:
    fpn = neck()
    maps = [torch.randn(1, c, 16 // s, 16 // s) for c, s in ((4, 1), (8, 2), (16, 4))]
    before = fpn(maps)
    for changed, reached in ((0, [0]), (1, [0, 1]), (2, [0, 1, 2, 3, 4])):
        other = [m + 1 if i == changed else m for i, m in enumerate(maps)]
        after = fpn(other)
        assert [i for i in range(5) if not torch.equal(before[i], after[i])] == reached


@pytest.mark.parametrize("from_input", [False, True])
def test_torchvisions_pyramid_is_the_same(from_input: bool) -> None:
    """Its P6 is made of C5 where that has another width, and it has FCOS's ReLU before P7."""
    width = 16 if not from_input else 6
    torch.manual_seed(0)
    ours = FPN([4, 8, 16], width, 5, extra_from_input=from_input, relu_between_extra=True)
    theirs = FeaturePyramidNetwork([4, 8, 16], width, LastLevelP6P7(16, width))
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    maps = [torch.randn(2, c, 64 // s, 96 // s) for c, s in ((4, 8), (8, 16), (16, 32))]
    want = theirs({str(i): m for i, m in enumerate(maps)}).values()
    for got, expected in zip(ours(maps), want, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_relu_stands_between_p6_and_p7_where_it_is_asked_for() -> None:
    plain, with_relu = neck(), FPN([4, 8, 16], 6, relu_between_extra=True)
    with_relu.load_state_dict(plain.state_dict())
    maps = [torch.randn(1, c, 16 // s, 16 // s) for c, s in ((4, 1), (8, 2), (16, 4))]
    *before, p7 = plain(maps)
    *same, other = with_relu(maps)
    for a, b in zip(before, same, strict=True):
        assert torch.equal(a, b)
    assert (before[-1] < 0).any()
    torch.testing.assert_close(other, plain.extra[1](before[-1].relu()))
    assert not torch.equal(other, p7)


def test_p6_is_made_of_c5_where_it_is_asked_for() -> None:
    fpn = FPN([4, 8, 16], 6, extra_from_input=True)
    maps = [torch.randn(1, c, 16 // s, 16 // s) for c, s in ((4, 1), (8, 2), (16, 4))]
    pyramid = fpn(maps)
    torch.testing.assert_close(pyramid[3], fpn.extra[0](maps[2]))
    torch.testing.assert_close(pyramid[4], fpn.extra[1](pyramid[3]))


def test_biases_start_at_zero() -> None:
    for name, parameter in neck().named_parameters():
        if name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert parameter.abs().sum().item() > 0, name


def test_fewer_levels_than_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="3 maps need at least as many levels, not 2"):
        FPN([4, 8, 16], num_levels=2)


def test_a_map_of_one_cell_leaves_bfloat16_out_on_a_processor() -> None:
    """Torch's bfloat16 gradient of it is not finite where the memory that it takes held NaN before."""
    fpn = FPN([32, 32, 32], channels=32)
    for _ in range(20):
        fpn.zero_grad()
        junk = [torch.full((size,), torch.nan, dtype=torch.bfloat16) for size in (100, 1000, 10_000, 100_000)]
        del junk
        with torch.autocast("cpu", torch.bfloat16):
            pyramid = fpn([torch.randn(1, 32, side, side) for side in (8, 4, 2)])
        sum(level.float().sum() for level in pyramid).backward()  # type: ignore[union-attr]
        assert all(torch.isfinite(p.grad).all() for p in fpn.parameters() if p.grad is not None)
    assert [level.dtype for level in pyramid] == [torch.bfloat16] * 4 + [torch.float32]
