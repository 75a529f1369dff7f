"""The head of the baselines: the order of its outputs, its initialization, and the parts in which they differ."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gfocal.models.dense_head import DenseHead, QualityBranch
from gfocal.models.heads import GFLHead
from gfocal.ops.points import ATSS_ANCHORS, RETINANET_ANCHORS, AnchorShapes, Origin, make_pyramid_points

SHAPES = ((4, 6), (2, 3), (1, 2))
STRIDES = (8, 16, 32)
THREE = AnchorShapes(4.0, 3)


def head(
    num_bins: int = 1,
    point_layout: Origin | AnchorShapes = "center",
    num_groups: int | None = 16,
    quality: QualityBranch = "none",
    scale_levels: bool = True,
) -> DenseHead:
    torch.manual_seed(0)
    return DenseHead(3, 16, 32, 2, num_bins, STRIDES, point_layout, num_groups, quality, scale_levels)


def maps(num_images: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(num_images, 16, h, w, generator=generator) for h, w in SHAPES]


@pytest.mark.parametrize("quality", ["none", "cls", "box"])
@pytest.mark.parametrize("point_layout", ["corner", "center", ATSS_ANCHORS, RETINANET_ANCHORS])
@pytest.mark.parametrize("num_bins", [1, 2, 9])
def test_shapes_and_points(num_bins: int, point_layout: Origin | AnchorShapes, quality: QualityBranch) -> None:
    outputs = head(num_bins, point_layout, quality=quality)(maps())
    points = make_pyramid_points(SHAPES, STRIDES, point_layout)
    num_points = len(points.xy)
    assert num_points == 32 * (point_layout.per_cell if isinstance(point_layout, AnchorShapes) else 1)
    assert outputs.cls_logits.shape == (2, num_points, 3)
    assert outputs.box_logits.shape == (2, num_points, 4, num_bins)
    assert torch.equal(outputs.points.xy, points.xy)
    assert (outputs.points.anchors is None) == (points.anchors is None)
    assert (outputs.points.shapes, outputs.points.per_cell) == (SHAPES, points.per_cell)
    if quality == "none":
        assert outputs.quality_logits is None
    else:
        assert outputs.quality_logits is not None
        assert outputs.quality_logits.shape == (2, num_points)


def test_each_number_lies_at_its_anchor_side_and_bin() -> None:
    """Channel A-major, then side, then bin: (a * 4 + side) * K + bin of row y, column x."""
    dense, images = head(5, THREE, quality="box"), maps()
    for scale, value in zip(dense.scales, (0.5, 1.0, 2.0), strict=True):
        scale.scale.data.fill_(value)
    outputs = dense(images)
    assert outputs.quality_logits is not None
    assert dense.quality_out is not None
    start = 0
    for level, (features, scale) in enumerate(zip(images, (0.5, 1.0, 2.0), strict=True)):
        cls = dense.cls_out(dense.cls_tower(features))
        box = scale * dense.box_out(dense.box_tower(features))
        quality = dense.quality_out(dense.box_tower(features))
        height, width = SHAPES[level]
        for y, x in ((0, 0), (height - 1, 0), (0, width - 1), (height - 1, width - 1)):
            for a in range(3):
                p = start + (y * width + x) * 3 + a
                assert outputs.points.cells[p].tolist() == [x, y]
                torch.testing.assert_close(outputs.cls_logits[:, p], cls[:, 3 * a : 3 * a + 3, y, x])
                torch.testing.assert_close(outputs.quality_logits[:, p], quality[:, a, y, x])
                for side in range(4):
                    first = (a * 4 + side) * 5
                    torch.testing.assert_close(outputs.box_logits[:, p, side], box[:, first : first + 5, y, x])
        start += height * width * 3


@pytest.mark.parametrize("tower", ["cls", "box"])
def test_the_quality_branch_stands_on_its_tower(tower: QualityBranch) -> None:
    dense = head(quality=tower)
    before = dense(maps())
    for parameter in dense.get_submodule(f"{'box' if tower == 'cls' else 'cls'}_tower").parameters():
        parameter.data += 0.1
    after = dense(maps())
    assert before.quality_logits is not None
    assert after.quality_logits is not None
    assert torch.equal(before.quality_logits, after.quality_logits)
    for parameter in dense.get_submodule(f"{tower}_tower").parameters():
        parameter.data += 0.1
    assert not torch.equal(before.quality_logits, dense(maps()).quality_logits)


@pytest.mark.parametrize("num_groups", [None, 8])
@pytest.mark.parametrize("quality", ["none", "cls", "box"])
def test_how_it_starts(num_groups: int | None, quality: QualityBranch) -> None:
    dense = head(num_groups=num_groups, quality=quality)
    outputs = dense(maps())
    assert outputs.cls_logits.mean().sigmoid().item() == pytest.approx(0.01, rel=0.05)
    for name, module in dense.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.std().item() == pytest.approx(0.01, rel=0.2), name
            assert (module.bias is None) == ("tower" in name and num_groups is not None), name
            if module.bias is not None and name != "cls_out":
                assert (module.bias == 0).all(), name
    assert any(isinstance(module, nn.GroupNorm) for module in dense.modules()) == (num_groups is not None)


def test_levels_have_a_factor_each_or_none() -> None:
    same = torch.randn(1, 16, 2, 2)
    scaled = head()
    scaled.get_parameter("scales.1.scale").data.fill_(2.0)
    first, second, third = scaled([same] * 3).box_logits.split(4, 1)
    torch.testing.assert_close(second, 2 * first)
    torch.testing.assert_close(third, first)
    bare = head(scale_levels=False)
    assert not [name for name in bare.state_dict() if name.startswith("scales")]
    bare.load_state_dict({k: v for k, v in scaled.state_dict().items() if not k.startswith("scales")})
    torch.testing.assert_close(bare([same] * 3).box_logits, first.repeat(1, 3, 1, 1))


@pytest.mark.parametrize("num_groups", [None, 8])
def test_every_parameter_has_a_gradient(num_groups: int | None) -> None:
    dense = head(2, THREE, num_groups, "cls")
    outputs = dense(maps())
    assert outputs.quality_logits is not None
    parts = (outputs.cls_logits, outputs.box_logits, outputs.quality_logits)
    torch.stack([part.square().sum() for part in parts]).sum().backward()
    for name, parameter in dense.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum().item() > 0, name


def test_under_autocast_edges_are_computed_in_float32() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        outputs = head(quality="cls")(maps())
    assert outputs.cls_logits.dtype == torch.bfloat16
    assert outputs.box_logits.dtype == torch.float32


def test_with_the_choices_of_gfl_it_is_the_head_of_gfl() -> None:
    gfl = GFLHead(3, 16, 32, 2, 5, STRIDES, "corner", 16)
    dense = head(5, "corner")
    dense.load_state_dict(gfl.state_dict())
    ours, theirs = dense(maps()), gfl(maps())
    assert torch.equal(ours.cls_logits, theirs.cls_logits)
    assert torch.equal(ours.box_logits, theirs.box_logits)
    assert torch.equal(ours.points.xy, theirs.points.xy)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one class, not 0"):
        DenseHead(0)
    with pytest.raises(ValueError, match="quality branch, cls or box, or none; not 'both'"):
        head(quality="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        head()(maps()[:2])
