"""RetinaNet, FCOS, FoveaBox and ATSS as presets: they build, learn, detect, and come back from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from gfocal.data.preprocess import InputSettings, normalize_batch
from gfocal.models import caffe
from gfocal.models.backbone import TimmBackbone
from gfocal.models.baselines import atss_r50_fpn, fcos_r50_fpn, foveabox_r50_fpn, retinanet_r50_fpn
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import create
from gfocal.ops.box_coders import AnchorDeltas, BoxCoder, DiracDistances, GaussianDistances, LogDistances
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Detections

SMALL = {"body": "resnet18.tv_in1k", "channels": 32, "num_convs": 1}
CELLS = 64 + 16 + 4 + 1 + 1  # of an input of 64 pixels
ATSS_STDS = (0.1, 0.1, 0.2, 0.2)

# Preset, its options, its box_coder, points per cell, origin of the first point, has a quality branch
VARIANTS: list[tuple[str, dict[str, object], BoxCoder, int, float, bool]] = [
    ("retinanet_r50_fpn", {}, AnchorDeltas(), 9, 0.0, False),
    ("foveabox_r50_fpn", {}, LogDistances(2.0), 1, 4.0, False),
    ("fcos_r50_fpn", {}, DiracDistances(in_pixels=True), 1, 4.0, True),
    ("fcos_r50_fpn", {"box": "gaussian", "n": 8}, GaussianDistances(8), 1, 4.0, True),
    ("fcos_r50_fpn", {"box": "general", "delta": 0.5}, GeneralDistribution(16, 0.5), 1, 4.0, True),
    ("fcos_r50_fpn", {"quality_branch": False}, DiracDistances(in_pixels=True), 1, 4.0, False),
    ("atss_r50_fpn", {}, AnchorDeltas(ATSS_STDS), 1, 0.0, True),
    ("atss_r50_fpn", {"box": "dirac"}, DiracDistances(), 1, 0.0, True),
    ("atss_r50_fpn", {"box": "gaussian"}, GaussianDistances(16), 1, 0.0, True),
    ("atss_r50_fpn", {"box": "general", "n": 8}, GeneralDistribution(8), 1, 0.0, True),
    ("atss_r50_fpn", {"box": "general", "quality_branch": False}, GeneralDistribution(16), 1, 0.0, False),
]
IDS = [f"{preset.partition('_')[0]}-{'-'.join(map(str, options.values()))}" for preset, options, *_ in VARIANTS]


@pytest.mark.parametrize(("preset", "options", "box_coder", "per_cell", "first", "has_branch"), VARIANTS, ids=IDS)
def test_a_variant_builds_learns_detects_and_comes_back(
    preset: str,
    options: dict[str, object],
    box_coder: BoxCoder,
    per_cell: int,
    first: float,
    has_branch: bool,
    tmp_path: Path,
) -> None:
    torch.manual_seed(0)
    settings = InputSettings(short_side=64, long_side=64)
    names = ("cat", "dog")
    model = create(preset, 2, names=names, pretrained=False, input_settings=settings, **SMALL, **options)
    assert model.box_coder == box_coder
    assert model.built_from["preset"] == preset
    assert model.built_from["options"].items() >= {**SMALL, **options}.items()

    outputs = model.train()(torch.randn(2, 3, 64, 64))
    assert outputs.cls_logits.shape == (2, CELLS * per_cell, 2)
    assert outputs.box_logits.shape == (2, CELLS * per_cell, 4, box_coder.num_bins)
    assert outputs.points.xy[0].tolist() == [first, first]
    assert (outputs.quality_logits is not None) == has_branch
    boxes = model.box_coder.boxes(outputs.box_logits, outputs.points)
    assert boxes.shape == (2, CELLS * per_cell, 4)
    total = outputs.cls_logits.sum() + boxes.mean() + outputs.box_logits.square().sum()
    if outputs.quality_logits is not None:
        total = total + outputs.quality_logits.sum()
    total.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name

    model.eval()
    image = torch.randint(256, (3, 50, 60), dtype=torch.uint8)
    found = model.detect(image, score_threshold=0.0)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100
    says_something = not isinstance(box_coder, AnchorDeltas | DiracDistances | LogDistances)
    assert found.edges.shape[-1] == (getattr(box_coder, "n", 0) + 1 if says_something else 0)
    assert torch.isnan(found.edge_std).all() != says_something

    save_model(model, tmp_path / "model.safetensors")
    again = load_model(tmp_path / "model.safetensors")
    for name in ("names", "box_coder", "input_settings", "decode_settings", "built_from"):
        assert getattr(again, name) == getattr(model, name), name
    same = again.detect(image, score_threshold=0.0)
    assert isinstance(same, Detections)
    assert torch.equal(found.boxes, same.boxes)
    assert torch.equal(found.scores, same.scores)


@pytest.mark.parametrize(
    ("build", "millions", "nms_threshold"),
    [
        (retinanet_r50_fpn, 37.97, 0.5),
        (foveabox_r50_fpn, 36.42, 0.5),
        (fcos_r50_fpn, 32.30, 0.5),
        (atss_r50_fpn, 32.30, 0.6),
    ],
)
def test_as_published(build: type[Detector], millions: float, nms_threshold: float) -> None:
    with torch.device("meta"):
        model = build(80, pretrained=False)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions
    assert f"{millions:.2f} M" in (build.__doc__ or "")
    assert model.decode_settings.nms_threshold == nms_threshold
    assert model.decode_settings.score_threshold == 0.05
    assert model.input_settings == InputSettings()


def test_which_pyramid_each_has() -> None:
    necks = {
        preset: create(preset, 1, pretrained=False, **SMALL).neck
        for preset in ("retinanet_r50_fpn", "foveabox_r50_fpn", "fcos_r50_fpn", "atss_r50_fpn")
    }
    from_input = {preset: neck.extra[0].in_channels == 512 for preset, neck in necks.items()}
    assert from_input == {
        "retinanet_r50_fpn": True,
        "foveabox_r50_fpn": True,
        "fcos_r50_fpn": False,
        "atss_r50_fpn": False,
    }
    assert [preset for preset, neck in necks.items() if neck.relu_between_extra] == ["fcos_r50_fpn"]


def test_quality_stands_on_the_tower_of_scores_in_fcos_and_of_boxes_in_atss() -> None:
    for build, tower in ((fcos_r50_fpn, "cls"), (atss_r50_fpn, "box")):
        assert build(1, pretrained=False, **SMALL).head.quality == tower
        assert build(1, pretrained=False, quality_branch=False, **SMALL).head.quality == "none"


@pytest.mark.parametrize(("build", "box"), [(atss_r50_fpn, "bins"), (fcos_r50_fpn, "deltas")])
def test_an_unknown_box_is_refused(build: type[Detector], box: str) -> None:
    with pytest.raises(ValueError, match=f"representation of an edge.*not '{box}'"):
        build(1, pretrained=False, box=box, **SMALL)


def test_a_caffe_network_shrinks_in_the_first_convolution() -> None:
    model = fcos_r50_fpn(1, pretrained=False, channels=32, num_convs=1, caffe=True)
    for stage in (2, 3, 4):
        block = model.backbone.body.get_submodule(f"layer{stage}.0")
        assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
        assert block.downsample[0].stride == (2, 2)
        second = model.backbone.body.get_submodule(f"layer{stage}.1")
        assert (second.conv1.stride, second.conv2.stride) == ((1, 1), (1, 1))
    assert (model.input_settings.mean, model.input_settings.std) == (caffe.MEAN, caffe.STD)
    for name, parameter in model.backbone.body.named_parameters():
        if name.endswith("bn3.weight"):  # starts at zero, so that a block begins as its shortcut
            parameter.data.fill_(1.0)
    plain = fcos_r50_fpn(1, pretrained=False, channels=32, num_convs=1)
    plain.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        one, two = model.eval()(images), plain.eval()(images)
    assert one.cls_logits.shape == two.cls_logits.shape
    assert not torch.allclose(one.box_logits, two.box_logits)


def test_a_bgr_convolution_on_bgr_pixels_is_the_turned_one_on_ours() -> None:
    image = torch.randint(256, (3, 16, 16), dtype=torch.uint8)
    published = nn.Conv2d(3, 4, 7, bias=False)
    mean_bgr = torch.tensor([102.9801, 115.9465, 122.7717]).view(3, 1, 1)
    want = published(image.flip(0).float() - mean_bgr)
    ours = normalize_batch([image], InputSettings(caffe.MEAN, caffe.STD))[0, :, :16, :16]
    got = nn.functional.conv2d(ours, caffe.bgr_to_rgb(published.weight))
    torch.testing.assert_close(got, want, atol=1e-3, rtol=1e-4)


def test_caffe_weights_come_from_a_file_and_are_turned(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no ImageNet weights of the Caffe kind"):
        fcos_r50_fpn(1, caffe=True)
    with pytest.raises(ValueError, match="only ResNets with bottlenecks"):
        fcos_r50_fpn(1, pretrained=False, caffe=True, **SMALL)
    body = TimmBackbone("resnet50.tv_in1k", pretrained=False).body
    torch.save(body.state_dict(), tmp_path / "r50.pth")
    model = fcos_r50_fpn(1, weights=tmp_path / "r50.pth", caffe=True, channels=32, num_convs=1)
    own, given = model.backbone.body.get_parameter("conv1.weight"), body.get_parameter("conv1.weight")
    assert torch.equal(own, given.flip(1))
    trained = {name for name, p in model.backbone.body.named_parameters() if p.requires_grad}
    assert trained
    assert all("bn" not in name and not name.startswith("layer1") for name in trained)
    assert not [name for name in trained if ".downsample.1" in name]
