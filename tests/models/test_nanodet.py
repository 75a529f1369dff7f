"""NanoDet-Plus: sizes, the auxiliary part and when it is detached; built, saved and used as any other."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import ShuffleNet_V2_X1_0_Weights, shufflenet_v2_x1_0

from gfocal.data.preprocess import InputSettings
from gfocal.errors import WeightsError
from gfocal.models.detector import Detector
from gfocal.models.finetuning import for_classes, freeze
from gfocal.models.gfl import gfl_r18_fpn
from gfocal.models.ghost_pan import GhostPAN
from gfocal.models.model_file import load_model, save_model
from gfocal.models.nanodet import (
    NanoDetNeck,
    nanodet_plus_m,
    set_auxiliary_detached,
    without_auxiliary,
)
from gfocal.models.shufflenet import ShuffleNet
from gfocal.models.zoo import create
from gfocal.structures import Detections

SMALL = InputSettings(short_side=128, long_side=128, stretch=True)


def small(**options: Any) -> Detector:
    torch.manual_seed(0)
    return nanodet_plus_m(2, names=("cat", "dog"), pretrained=False, input_settings=SMALL, channels=16, **options)


def images(seed: int = 1) -> Tensor:
    return torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("preset", "in_training", "in_inference"),
    [("nanodet_plus_m", 4_330_904, 1_197_924), ("nanodet_plus_m_1_5x", 7_962_196, 2_477_792)],
)
def test_the_published_numbers_of_parameters(preset: str, in_training: int, in_inference: int) -> None:
    with torch.device("meta"):
        whole, part = (create(preset, 80, pretrained=False, auxiliary=auxiliary) for auxiliary in (True, False))
    assert sum(p.numel() for p in whole.parameters()) == in_training
    assert sum(p.numel() for p in part.parameters()) == in_inference
    assert not [name for name in part.state_dict() if "auxiliary" in name]
    outputs = whole.eval()(torch.zeros(1, 3, 416, 416, device="meta"))
    assert outputs.points.shapes == ((52, 52), (26, 26), (13, 13), (7, 7))
    assert outputs.cls_logits.shape == (1, 3598, 80)
    assert outputs.box_logits.shape == (1, 3598, 4, 8)


def test_the_auxiliary_head_speaks_in_training_mode_only() -> None:
    model = small()
    outputs = model.train()(images())
    assert outputs.auxiliary is not None
    assert outputs.auxiliary.cls_logits.shape == outputs.cls_logits.shape
    assert outputs.auxiliary.box_logits.shape == outputs.box_logits.shape
    assert torch.equal(outputs.auxiliary.points.xy, outputs.points.xy)
    assert not torch.equal(outputs.auxiliary.cls_logits, outputs.cls_logits)
    assert model.eval()(images()).auxiliary is None
    assert small(auxiliary=False).train()(images()).auxiliary is None


def test_in_evaluation_mode_the_auxiliary_part_does_not_run() -> None:
    model, used = small().eval(), []
    for module in model.modules():
        module.register_forward_hook(lambda module, *_: used.append(module))
    model(images())
    assert isinstance(model.neck, NanoDetNeck)
    assert model.neck.auxiliary is not None
    assert not set(used) & {*model.neck.auxiliary.modules(), *model.head.get_submodule("auxiliary").modules()}


def test_every_score_starts_at_a_hundredth() -> None:
    outputs = small().train()(images())
    assert outputs.auxiliary is not None
    for scores in (outputs.cls_logits.sigmoid(), outputs.auxiliary.cls_logits.sigmoid()):
        torch.testing.assert_close(scores, torch.full_like(scores, 0.01), rtol=1.0, atol=0)


def test_the_second_neck_starts_as_a_copy_and_is_trained_apart() -> None:
    neck = small().neck
    assert isinstance(neck, NanoDetNeck)
    assert neck.auxiliary is not None
    for one, other in zip(neck.main.parameters(), neck.auxiliary.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other


def gradients(model: Detector, of_auxiliary: bool) -> dict[str, float]:
    """Part of the network -> largest gradient of the sum of one head's logits."""
    model.zero_grad()
    outputs = model(images())
    assert outputs.auxiliary is not None
    one = outputs.auxiliary if of_auxiliary else outputs
    (one.cls_logits.sum() + one.box_logits.square().sum()).backward()
    parts = ("backbone", "neck.main", "neck.auxiliary", "head.auxiliary", "head.towers")
    return {
        part: max(
            0.0 if p.grad is None else float(p.grad.abs().max())
            for name, p in model.named_parameters()
            if name.startswith(f"{part}.")
        )
        for part in parts
    }


def test_detached_the_auxiliary_part_trains_itself_alone() -> None:
    model = small().train()
    attached = gradients(model, of_auxiliary=True)
    assert {part for part, size in attached.items() if size > 0} == {
        "backbone",
        "neck.main",
        "neck.auxiliary",
        "head.auxiliary",
    }
    before = model(images()).auxiliary
    set_auxiliary_detached(model, True)
    after = model(images()).auxiliary
    assert before is not None
    assert after is not None
    torch.testing.assert_close(before.cls_logits, after.cls_logits)
    detached = gradients(model, of_auxiliary=True)
    assert {part for part, size in detached.items() if size > 0} == {"neck.auxiliary", "head.auxiliary"}
    assert gradients(model, of_auxiliary=False)["backbone"] > 0
    set_auxiliary_detached(model, False)
    assert gradients(model, of_auxiliary=True)["backbone"] > 0
    set_auxiliary_detached(gfl_r18_fpn(1, pretrained=False, channels=32), True)  # has none; nothing to do


def test_it_is_built_saved_and_used(tmp_path: Path) -> None:
    model = small(n=9)
    image = torch.rand(3, 60, 90, generator=torch.Generator().manual_seed(2))
    model.train()(images())  # statistics that are not those of a new network
    found = model.detect(image, score_threshold=0.0)
    assert isinstance(found, Detections)
    assert 0 < len(found) <= 100
    assert found.edges.shape[1:] == (4, 10)
    freeze(model, 1)
    model.has_folded_statistics = True
    save_model(model, tmp_path / "nano.safetensors")
    again = load_model(tmp_path / "nano.safetensors")
    assert again.built_from == model.built_from
    assert (again.input_settings, again.decode_settings) == (model.input_settings, model.decode_settings)
    assert again.backbone.freeze_settings() == model.backbone.freeze_settings()
    assert again.has_folded_statistics
    same = again.detect(image, score_threshold=0.0)
    assert isinstance(same, Detections)
    assert torch.equal(same.boxes, found.boxes)
    assert for_classes(again, ("dog", "owl")).has_folded_statistics


def test_other_classes_keep_known_rows_of_both_heads() -> None:
    model = small().train()
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    other = for_classes(model, ("owl", "dog"))
    before, after = copy.deepcopy(model)(images()), other(images())
    assert before.auxiliary is not None
    assert after.auxiliary is not None
    torch.testing.assert_close(after.cls_logits[..., 1], before.cls_logits[..., 1])
    torch.testing.assert_close(after.auxiliary.cls_logits[..., 1], before.auxiliary.cls_logits[..., 1])
    torch.testing.assert_close(after.box_logits, before.box_logits)
    assert not torch.allclose(after.auxiliary.cls_logits[..., 0], before.auxiliary.cls_logits[..., 0])


def test_inference_needs_no_auxiliary_part() -> None:
    whole = small().eval()
    bare = without_auxiliary(whole)
    assert torch.equal(bare(images()).cls_logits, whole(images()).cls_logits)
    assert bare.train()(images()).auxiliary is None
    assert bare.state_dict().keys() == small(auxiliary=False).state_dict().keys()
    assert not bare.built_from["options"]["auxiliary"]
    assert whole.built_from["options"]["auxiliary"]
    assert without_auxiliary(bare) is bare


@pytest.mark.parametrize(
    ("upto", "frozen"),
    [
        ("none", set[str]()),
        ("stem", {"conv1"}),
        (2, {"conv1", "stage2", "stage3"}),
        ("backbone", {"conv1", "stage2", "stage3", "stage4"}),
        ("neck", {"conv1", "stage2", "stage3", "stage4", "neck"}),
    ],
)
def test_frozen_parts_keep_weights_and_statistics(upto: Any, frozen: set[str]) -> None:
    model = small()
    freeze(model, upto)
    before = copy.deepcopy(model.state_dict())

    def part(name: str) -> str:
        first, second = name.split(".")[:2]
        return second if first == "backbone" else first

    assert {part(name) for name, p in model.named_parameters() if not p.requires_grad} == frozen
    outputs = model.train()(images())
    assert outputs.auxiliary is not None
    moved = {part(key) for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert moved == {"conv1", "stage2", "stage3", "stage4", "neck", "head"} - frozen


def test_stages_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="3 stages to freeze, not 4"):
        freeze(small(), 4)


def test_recomputed_activations_give_the_same_gradients() -> None:
    plain = small().train()
    lean = copy.deepcopy(plain)
    lean.backbone.recompute = True
    for model in (plain, lean):
        model(images()).cls_logits.square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), lean.parameters(), strict=True):
        if one.grad is not None:
            assert other.grad is not None
            torch.testing.assert_close(other.grad, one.grad, msg=name)
    for mine, theirs in zip(plain.buffers(), lean.buffers(), strict=True):
        torch.testing.assert_close(theirs, mine)


@pytest.mark.slow
def test_the_forward_pass_is_one_graph_for_a_compiler() -> None:
    model = small().train()
    set_auxiliary_detached(model, True)
    other = copy.deepcopy(model)

    def logits(model: Detector, images: Tensor) -> list[Tensor]:
        outputs = model(images)
        heads = [outputs] if outputs.auxiliary is None else [outputs, outputs.auxiliary]
        return [tensor for head in heads for tensor in (head.cls_logits, head.box_logits)]

    torch._dynamo.reset()
    found = torch.compile(logits, fullgraph=True, backend="eager")(other, images())
    assert len(found) == 4
    for one, two in zip(logits(model, images()), found, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_imagenet_weights_are_those_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = shufflenet_v2_x1_0().eval()
    torch.save(published.state_dict(), tmp_path / "shufflenet.pth")
    backbone = ShuffleNet("1.0x", weights=tmp_path / "shufflenet.pth", slope=0.0).eval()
    with torch.no_grad():
        maps = backbone(images())
        expected = published.stage4(published.stage3(published.stage2(published.maxpool(published.conv1(images())))))
    assert [m.shape[1:] for m in maps] == [(116, 16, 20), (232, 8, 10), (464, 4, 5)]
    torch.testing.assert_close(maps[2], expected)
    leaky = [m.negative_slope for m in ShuffleNet(pretrained=False).modules() if isinstance(m, nn.LeakyReLU)]
    assert set(leaky) == {0.1}
    assert not [m for m in backbone.modules() if isinstance(m, nn.ReLU)]

    monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights, "get_state_dict", lambda self, **_: published.state_dict())
    assert torch.equal(ShuffleNet().stage4[0].branch2[0].weight, published.stage4[0].branch2[0].weight)

    def fails(self: ShuffleNet_V2_X1_0_Weights, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights, "get_state_dict", fails)
    with pytest.raises(WeightsError, match=r"ShuffleNetV2 1.0x could not be fetched.*pretrained=False.*weights=PATH"):
        ShuffleNet()
    with pytest.raises(WeightsError, match=r"not of ShuffleNetV2 1.5x"):
        ShuffleNet("1.5x", weights=tmp_path / "shufflenet.pth")


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        nanodet_plus_m(0, pretrained=False)
    with pytest.raises(ValueError, match="must be even, not 15"):
        GhostPAN((116, 232, 464), 15)
