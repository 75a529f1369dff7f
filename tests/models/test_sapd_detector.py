"""SAPD: what its selector sees and says, and that it is built, saved and used as any detector."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gfocal.data.preprocess import InputSettings
from gfocal.models.baselines import foveabox_r50_fpn
from gfocal.models.detector import Detector
from gfocal.models.model_file import load_model, save_model
from gfocal.models.sapd import LevelSelector, level_weights, sapd_r50_fpn
from gfocal.structures import Detections


def tiny(num_classes: int = 2) -> Detector:
    torch.manual_seed(0)
    return sapd_r50_fpn(num_classes, pretrained=False, channels=16, num_convs=1, body="resnet18")


def test_it_is_the_detector_of_foveabox_and_a_selector() -> None:
    """Both have RetinaNet's neck and towers, and one point per cell."""
    with torch.device("meta"):
        model, fovea = sapd_r50_fpn(80, pretrained=False), foveabox_r50_fpn(80, pretrained=False)
    selector = sum(p.numel() for p in model.head.get_submodule("selector").parameters())
    assert selector == 5 * 256 * 256 * 9 + 256 + 2 * (256 * 256 * 9 + 256) + 256 * 5 + 5
    rest = {k: v.shape for k, v in model.state_dict().items() if "selector" not in k}
    assert {k.replace("head.dense.", "head."): v for k, v in rest.items()} == {
        k: v.shape for k, v in fovea.state_dict().items()
    }


def test_the_pyramid_travels_in_training_only() -> None:
    model = tiny()
    images = torch.randn(2, 3, 64, 96)
    outputs = model.train()(images)
    assert outputs.pyramid is not None
    assert [tuple(level.shape[-2:]) for level in outputs.pyramid] == list(outputs.points.shapes)
    assert outputs.points.xy[0].tolist() == [4, 4]
    assert outputs.box_logits.shape == (2, sum(outputs.points.counts), 4, 1)
    assert model.eval()(images).pyramid is None


def test_the_selector_reads_the_features_under_each_box_on_every_level() -> None:
    """A map that rises by 1 per pixel of the input is pooled to the middle of each of 7 x 7 parts of the box."""
    selector = LevelSelector(1, 4, level_strides=(8, 16))
    seen: list[torch.Tensor] = []
    selector.convs.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    columns = [((torch.arange(128 // s) + 0.5) * s).expand(1, 1, 128 // s, -1) for s in (8, 16)]
    pyramid = [torch.cat((c, -c)) for c in columns]  # two images
    boxes = torch.tensor([[[20.0, 30, 90, 86], [32, 32, 60, 60], [0, 0, 0, 0]]]).expand(2, -1, -1)
    assert selector(pyramid, boxes).shape == (2, 3, 2)
    pooled = seen[0].view(2, 3, 2, 7, 7)
    for image, sign in enumerate((1, -1)):
        for level in (0, 1):
            torch.testing.assert_close(pooled[image, 0, level, 3], sign * (25 + 10 * torch.arange(7.0)))
            torch.testing.assert_close(pooled[image, 1, level, 3], sign * (34 + 4 * torch.arange(7.0)))


def test_the_best_levels_keep_their_share_and_the_others_have_none() -> None:
    logits = torch.tensor([[[0.0, 1.0, 3.0, 2.0, -1.0], [5.0, 0.0, 0.0, 4.0, 0.1]]], requires_grad=True)
    weights = level_weights(logits)
    full = logits.detach().softmax(-1)
    assert (weights > 0).tolist() == [[[False, True, True, True, False], [True, False, False, True, True]]]
    torch.testing.assert_close(weights[weights > 0], full[weights > 0])
    assert not weights.requires_grad
    torch.testing.assert_close(level_weights(logits, 9), full)  # never more than there are


def test_it_is_built_saved_and_used(tmp_path: Path) -> None:
    model = tiny()
    assert model.decode_settings.nms_threshold == 0.5
    assert model.built_from["options"] == {"channels": 16, "num_convs": 1, "body": "resnet18"}
    model.input_settings = InputSettings(short_side=64, long_side=96)
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(2))
    found = model.detect(image, score_threshold=0.0)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100

    save_model(model, tmp_path / "sapd.safetensors")
    again = load_model(tmp_path / "sapd.safetensors")
    same = again.detect(image, score_threshold=0.0)
    assert isinstance(same, Detections)
    assert torch.equal(same.boxes, found.boxes)
    for (name, mine), other in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(mine, other), name


def test_a_detector_without_classes_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        tiny(0)
