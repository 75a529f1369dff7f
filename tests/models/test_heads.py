"""The GFL head: the order of its outputs, its initialization, and that all levels share it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gfocal.models.heads import GFLHead, GroupNorm, Scale, norm_groups, tower

SHAPES = ((4, 6), (2, 3), (1, 2))


def head(num_classes: int = 3) -> GFLHead:
    torch.manual_seed(0)
    return GFLHead(num_classes, 16, 32, 2, num_bins=5, level_strides=(8, 16, 32))


def maps(num_images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(num_images, 16, h, w, generator=generator) for h, w in SHAPES]


def test_shapes_and_points() -> None:
    outputs = head()(maps())
    assert outputs.cls_logits.shape == (2, 32, 3)
    assert outputs.box_logits.shape == (2, 32, 4, 5)
    assert outputs.quality_logits is None
    assert outputs.points.shapes == SHAPES
    assert outputs.points.counts == [24, 6, 2]
    assert outputs.points.level_strides == (8, 16, 32)


def test_each_number_lies_at_its_point_side_and_bin() -> None:
    """Channel 5 side + bin of row y, column x of level l becomes [point of (l, y, x), side, bin]."""
    gfl, images = head(), maps()
    outputs = gfl(images)
    start = 0
    for level, (features, scale) in enumerate(zip(images, gfl.scales.children(), strict=True)):
        cls = gfl.cls_out(gfl.cls_tower(features))
        box = scale(gfl.box_out(gfl.box_tower(features)))
        height, width = SHAPES[level]
        for y, x in ((0, 0), (height - 1, 0), (0, width - 1), (height - 1, width - 1)):
            p = start + y * width + x
            assert outputs.points.cells[p].tolist() == [x, y]
            torch.testing.assert_close(outputs.cls_logits[:, p], cls[:, :, y, x])
            for side in range(4):
                want = box[:, 5 * side : 5 * side + 5, y, x]
                torch.testing.assert_close(outputs.box_logits[:, p, side], want)
        start += height * width


def test_scores_start_at_a_hundredth_and_edges_in_the_middle() -> None:
    outputs = head()(maps())
    assert outputs.cls_logits.mean().sigmoid().item() == pytest.approx(0.01, rel=0.05)
    assert outputs.cls_logits.sigmoid().max().item() < 0.02
    middle = outputs.box_logits.softmax(-1) @ torch.arange(5.0)
    torch.testing.assert_close(middle, torch.full_like(middle, 2.0), rtol=0.1, atol=0)


def test_levels_share_the_towers_and_each_has_its_own_scale() -> None:
    gfl = head()
    same = torch.randn(1, 16, 2, 2)
    gfl.get_parameter("scales.1.scale").data.fill_(2.0)
    outputs = gfl([same, same, same])
    first, second, third = outputs.box_logits.split(4, 1)
    torch.testing.assert_close(second, 2 * first)
    torch.testing.assert_close(third, first)
    torch.testing.assert_close(outputs.cls_logits[:, :4], outputs.cls_logits[:, 4:8])


def test_every_parameter_has_a_gradient() -> None:
    gfl = head()
    outputs = gfl(maps())
    (outputs.cls_logits.square().sum() + outputs.box_logits.square().sum()).backward()
    for name, parameter in gfl.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum().item() > 0, name


def test_under_autocast_edges_are_computed_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head()(maps())
    assert outputs.cls_logits.dtype == torch.bfloat16
    assert outputs.box_logits.dtype == torch.float32


def test_the_tower_is_convolution_norm_relu() -> None:
    layers = tower(16, 32, 2, 32)
    assert [type(layer) for layer in layers] == [nn.Conv2d, GroupNorm, nn.ReLU] * 2
    assert [layer.in_channels for layer in layers if isinstance(layer, nn.Conv2d)] == [16, 32]
    assert all(layer.bias is None for layer in layers if isinstance(layer, nn.Conv2d))
    assert all(layer.eps == 1e-5 for layer in layers if isinstance(layer, nn.GroupNorm))


def test_group_norm_trains_to_the_same_gradients_in_either_memory_layout() -> None:
    norm = GroupNorm(4, 8)
    plain = torch.randn(2, 8, 5, 6, requires_grad=True)
    last = plain.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    factors = torch.randn(2, 8, 5, 6)
    want, got = norm(plain), norm(last)
    assert got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got, want)
    for one, other in zip(
        torch.autograd.grad((got * factors).sum(), (last, norm.weight, norm.bias)),
        torch.autograd.grad((want * factors).sum(), (plain, norm.weight, norm.bias)),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_without_groups_the_tower_has_biases_and_no_norm() -> None:
    layers = tower(16, 33, 2, None)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.ReLU] * 2
    assert all(layer.bias is not None for layer in layers if isinstance(layer, nn.Conv2d))


def test_a_narrow_tower_has_fewer_groups() -> None:
    assert [norm_groups(channels) for channels in (256, 96, 64, 32, 16)] == [32, 32, 32, 16, 8]


def test_scale_starts_at_one() -> None:
    x = torch.randn(3)
    assert torch.equal(Scale()(x), x)


def test_no_classes_and_a_wrong_number_of_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one class, not 0"):
        GFLHead(0)
    with pytest.raises(ValueError):
        head()(maps()[:2])
