"""Presets: the published sizes, and that each builds a detector that detects."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from gfocal.data.preprocess import InputSettings
from gfocal.errors import PresetError
from gfocal.models.backbone import TimmBackbone
from gfocal.models.description import describe
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import PRESETS, Preset, create, get_preset, gfl_light_fpn, gfl_r18_fpn, gfl_r50_fpn
from gfocal.ops.distributions import GeneralDistribution
from gfocal.structures import Detections


def test_resnet_50_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        model = gfl_r50_fpn(80, pretrained=False)
    assert sum(p.numel() for p in model.parameters()) == 32_440_537


@pytest.mark.parametrize(
    ("preset", "millions", "options"),
    [
        ("gfl_r101_fpn", 51.43, {}),
        ("gfl_x101_32x4d_fpn", 51.06, {}),
        ("gfl_r101_dcn_fpn", 52.72, {"modulated": False}),
        ("gfl_x101_32x4d_dcn_fpn", 53.47, {"modulated": False}),
    ],
)
def test_large_presets_have_the_published_sizes(preset: str, millions: float, options: dict[str, bool]) -> None:
    with torch.device("meta"):
        model = create(preset, 80, pretrained=False, **options)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 2) == millions


@pytest.mark.parametrize("preset", [gfl_light_fpn, gfl_r18_fpn])
def test_a_preset_builds_and_detects(preset: Preset) -> None:
    torch.manual_seed(0)
    settings = InputSettings(short_side=64, long_side=96)
    model = preset(2, names=("cat", "dog"), pretrained=False, input_settings=settings, channels=64, num_convs=1)
    assert model.built_from["preset"] == preset.__name__
    assert (model.num_classes, model.names) == (2, ("cat", "dog"))
    found = model.detect(torch.rand(3, 40, 50), score_threshold=0.0)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100
    assert found.size == (40, 50)
    assert found.boxes.amin().item() >= 0
    assert set(found.class_names) <= {"cat", "dog"}
    logits = model.eval()(torch.zeros(1, 3, 64, 64))
    assert logits.box_logits.shape == (1, 64 + 16 + 4 + 1 + 1, 4, 17)


def test_options_reach_the_network() -> None:
    options = {
        "n": 8,
        "delta": 0.5,
        "origin": "center",
        "finest": 8,
        "dgqp": True,
        "channels": 64,
        "num_convs": 3,
        "body": "resnet18.a1_in1k",
    }
    model = create("gfl_r18_fpn", 5, pretrained=False, **options)
    assert model.box_coder == GeneralDistribution(8, 0.5)
    outputs = model.eval()(torch.zeros(1, 3, 32, 32))
    assert outputs.box_logits.shape[2:] == (4, 9)
    assert outputs.points.xy[0].tolist() == [4, 4]
    assert model.built_from["options"] == options
    assert len(list(model.head.get_submodule("cls_tower").children())) == 9
    assert model.names == ("class0", "class1", "class2", "class3", "class4")


@pytest.mark.parametrize("preset", ["gfl_light_fpn", "gfl_r18_fpn"])
def test_a_finer_level(preset: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create(preset, 2, pretrained=False, finest=4, channels=32, num_convs=1).eval()
    images = torch.rand(1, 3, 64, 96)
    outputs = model(images)
    assert model.head.level_strides == (4, 8, 16, 32, 64, 128)
    assert outputs.box_logits.shape[1] == 16 * 24 + 8 * 12 + 4 * 6 + 2 * 3 + 2 + 1
    assert outputs.points.strides.unique().tolist() == [4, 8, 16, 32, 64, 128]
    save_model(model, tmp_path / "fine.safetensors")
    again = load_model(tmp_path / "fine.safetensors").eval()
    assert torch.equal(again(images).box_logits, outputs.box_logits)
    # The backbone has the same weights: those of ImageNet fit.
    usual = create(preset, 2, pretrained=False, channels=32, num_convs=1)
    assert usual.backbone.state_dict().keys() == model.backbone.state_dict().keys()
    with pytest.raises(ValueError, match="4 or 8, not 2"):
        create(preset, 2, pretrained=False, finest=2)


def test_weights_from_scratch_leave_nothing_frozen() -> None:
    assert all(p.requires_grad for p in gfl_r18_fpn(1, pretrained=False, channels=32).parameters())


def test_with_imagenet_weights_the_first_stage_is_frozen(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("weights") / "r18.pth"
    torch.save(TimmBackbone("resnet18.tv_in1k", pretrained=False).body.state_dict(), path)
    model = gfl_r18_fpn(1, weights=path, channels=32)
    frozen = {name.split(".")[2] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1", "bn1", "layer1"}
    assert model.backbone.freezing.norm_eval


@pytest.mark.parametrize(
    ("preset", "body", "mean"),
    [
        ("gfl_r18_fpn", "resnet18.a1_in1k", 123.675),
        ("gfl_r34_fpn", "resnet34.ra4_e3600_r224_in1k", 127.5),
        ("gfl_r50_fpn", "resnet50.a1_in1k", 123.675),
        ("gfl_r101_fpn", "resnet101.a1h_in1k", 123.675),
    ],
)
def test_a_body_with_other_weights_is_normalized_as_they_were_trained(preset: str, body: str, mean: float) -> None:
    with torch.device("meta"):
        model = create(preset, 2, pretrained=False, body=body)
    config = timm.get_pretrained_cfg(body)
    assert config is not None
    assert model.input_settings.mean == pytest.approx([255 * value for value in config.mean], abs=1e-3)
    assert model.input_settings.std == pytest.approx([255 * value for value in config.std], abs=1e-3)
    assert model.input_settings.mean[0] == pytest.approx(mean)
    assert describe(model)["options"]["body"] == body


def test_better_weights_of_a_resnet_have_the_names_of_the_first_ones(tmp_path: Path) -> None:
    """A classifier's file of timm, whose last layer is left out, fits the preset of either tag."""
    classifier = timm.create_model("resnet18.a1_in1k", pretrained=False)
    torch.save(classifier.state_dict(), tmp_path / "a1.pth")
    model = gfl_r18_fpn(1, weights=tmp_path / "a1.pth", channels=32, body="resnet18.a1_in1k")
    assert isinstance(model.backbone, TimmBackbone)
    loaded = model.backbone.body.state_dict()
    assert set(classifier.state_dict()) - set(loaded) == {"fc.weight", "fc.bias"}
    for key, value in loaded.items():
        assert torch.equal(value, classifier.state_dict()[key]), key


def test_unknown_presets_and_wrong_names_are_refused() -> None:
    with pytest.raises(
        PresetError, match=r"no preset 'gfl_r19'; did you mean gfl_r18_fpn\? There are: gfl_light_fpn, gfl_r18_fpn"
    ):
        get_preset("gfl_r19")
    with pytest.raises(ValueError, match="2 names were given for 3 classes"):
        create("gfl_r18_fpn", 3, names=("a", "b"), pretrained=False, channels=32)
    assert all(PRESETS[name].__name__ == name for name in PRESETS)
