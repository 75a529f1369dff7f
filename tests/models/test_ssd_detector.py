"""SSD512: its default boxes, the order of its outputs, and that it is built, saved and used as any detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.vgg import VGG16_Weights, cfgs, make_layers

from gfocal.data.preprocess import InputSettings
from gfocal.errors import WeightsError
from gfocal.models.finetuning import freeze
from gfocal.models.model_file import load_model, save_model
from gfocal.models.ssd import (
    CHANNELS,
    COCO_SIDES,
    RATIOS,
    STRIDES,
    VGG16,
    VOC_SIDES,
    SSDHead,
    default_boxes,
    ssd512_vgg16,
)
from gfocal.ops.decoding import DecodeSettings, best_pairs
from gfocal.structures import Detections

# The least input whose last map is not empty; it has a third of the pixels.
SMALL = InputSettings(short_side=288, long_side=288, multiple=288)
MAPS = [(64, 64), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]


def test_the_published_maps_and_default_boxes() -> None:
    with torch.device("meta"):
        model = ssd512_vgg16(80, pretrained=False)
        outputs = model(torch.zeros(1, 3, 512, 512))
    assert outputs.points.shapes == tuple(MAPS)
    assert outputs.points.per_cell == (4, 6, 6, 6, 6, 4, 4)
    assert sum(outputs.points.counts) == 24564
    assert outputs.cls_logits.shape == (1, 24564, 80)
    assert outputs.box_logits.shape == (1, 24564, 4, 1)
    assert model.input_settings.multiple == model.input_settings.long_side == 512


@pytest.mark.parametrize("sides", [COCO_SIDES, VOC_SIDES])
def test_default_boxes_are_those_of_torchvision(sides: tuple[float, ...]) -> None:
    ours = default_boxes(MAPS, STRIDES, SSDHead(1, sides).get_buffer("shapes").split((4, 6, 6, 6, 6, 4, 4)))
    generator = DefaultBoxGenerator(
        [list(r) for r in RATIOS], scales=[s / 512 for s in sides], steps=list(STRIDES), clip=False
    )
    theirs = generator._grid_default_boxes([list(shape) for shape in MAPS], [512, 512]) * 512  # cx, cy, w, h
    assert ours.anchors is not None
    torch.testing.assert_close(ours.xy, theirs[:, :2])
    torch.testing.assert_close(
        ours.anchors, torch.cat((theirs[:, :2] - theirs[:, 2:] / 2, theirs[:, :2] + theirs[:, 2:] / 2), 1)
    )


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(3, 2), (2, 2), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    return [torch.randn(2, c, *shape, generator=generator) for c, shape in zip(CHANNELS, shapes, strict=True)]


def test_each_number_lies_at_its_default_box() -> None:
    """Channel (a, c) of row y, column x of a level becomes [point of (level, y, x, a), c]."""
    torch.manual_seed(0)
    head, images = SSDHead(3), maps()
    outputs = head(images)
    points = outputs.points
    assert points.counts == [24, 24, 12, 6, 6, 4, 4]
    assert points.anchors is not None
    start = 0
    for level, (features, anchors) in enumerate(zip(images, points.per_cell, strict=True)):
        cls, box = head.cls_outs[level](features), head.box_outs[level](features)
        height, width = points.shapes[level]
        for y, x, a in {(0, 0, 1), (height - 1, 0, 0), (0, width - 1, anchors - 1), (height - 1, width - 1, 2)}:
            p = start + (y * width + x) * anchors + a
            assert points.cells[p].tolist() == [x, y]
            assert points.strides[p].item() == STRIDES[level]
            assert points.xy[p].tolist() == [(x + 0.5) * STRIDES[level], (y + 0.5) * STRIDES[level]]
            torch.testing.assert_close(outputs.cls_logits[:, p], cls[:, 3 * a : 3 * a + 3, y, x])
            torch.testing.assert_close(outputs.box_logits[:, p, :, 0], box[:, 4 * a : 4 * a + 4, y, x])
        lying = points.anchors[start + 2]  # the first of ratio 2
        assert ((lying[2] - lying[0]) / (lying[3] - lying[1])).item() == pytest.approx(2)
        start += points.counts[level]


def test_scores_start_even_under_the_softmax_and_at_a_hundredth_under_sigmoids() -> None:
    torch.manual_seed(0)
    small = [m * 0.01 for m in maps()]
    assert SSDHead(3)(small).cls_logits.mean().item() == pytest.approx(0, abs=0.01)
    scores = SSDHead(3, softmax=False)(small).cls_logits.sigmoid()
    torch.testing.assert_close(scores, torch.full_like(scores, 0.01), rtol=0.05, atol=0)


def test_scores_are_of_a_softmax_with_the_background() -> None:
    logits = torch.tensor([[2.0, 1.0], [-3.0, 0.5]])
    points, scores, labels = best_pairs(logits, [1, 1], DecodeSettings(score_threshold=0.2, softmax=True))
    full = torch.cat((torch.zeros(2, 1), logits), 1).softmax(1)[:, 1:]
    assert points.tolist() == [0, 0, 1]
    assert labels.tolist() == [0, 1, 1]
    torch.testing.assert_close(scores, full[points, labels])


def test_it_is_built_saved_and_used(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ssd512_vgg16(2, names=("cat", "dog"), pretrained=False, input_settings=SMALL, sides=VOC_SIDES)
    assert model.decode_settings == DecodeSettings(0.02, 1000, 0.45, 200, softmax=True)
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(2))
    found = model.detect(image, score_threshold=0.02)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 200
    assert found.edges.shape[1:] == (4, 0)
    assert found.boxes[:, 2].max().item() <= 50

    freeze(model, "backbone")
    save_model(model, tmp_path / "ssd.safetensors")
    again = load_model(tmp_path / "ssd.safetensors")
    assert not any(parameter.requires_grad for parameter in again.backbone.parameters())  # type: ignore[attr-defined]
    assert again.built_from == model.built_from
    assert again.decode_settings == model.decode_settings
    same = again.detect(image, score_threshold=0.02)
    assert isinstance(same, Detections)
    assert torch.equal(same.boxes, found.boxes)
    assert torch.equal(same.scores, found.scores)


def test_conv4_3_is_normalized_to_twenty() -> None:
    first = VGG16(pretrained=False)(torch.randn(1, 3, 288, 288))[0]
    length = first.norm(dim=1)
    torch.testing.assert_close(length, torch.full_like(length, 20.0))


def test_imagenet_weights_from_a_file_or_an_error_that_names_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = {f"features.{name}": value for name, value in make_layers(cfgs["D"]).state_dict().items()}
    published["classifier.0.weight"] = torch.zeros(3, 3)
    torch.save(published, tmp_path / "vgg16.pth")
    backbone = VGG16(weights=tmp_path / "vgg16.pth")
    assert torch.equal(backbone.body.features[0].weight, published["features.0.weight"])
    assert torch.equal(backbone.body.extra[0][5].weight, published["features.28.weight"])
    assert all(p.requires_grad for p in backbone.parameters())

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", lambda self, **_: published)
    assert torch.equal(VGG16().body.features[0].weight, published["features.0.weight"])

    def fails(self: VGG16_Weights, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", fails)
    with pytest.raises(WeightsError, match=r"could not be fetched \(OSError\).*pretrained=False.*weights=PATH"):
        VGG16()


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        SSDHead(0)
    with pytest.raises(ValueError, match="sides are 8 numbers above 0"):
        SSDHead(1, sides=(10, 20))
