"""The inference copy: equal numbers for every preset, and never the numbers of weights that are no longer there."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import gfocal
from gfocal.models import fused_layers, inference_copy
from gfocal.models.detector import Detector
from gfocal.models.fused_layers import StripedMaxPool, is_striped
from gfocal.models.inference_copy import forget_copy, inference_network
from gfocal.models.model_file import load_model, save_model
from gfocal.models.zoo import PRESETS, create
from gfocal.ops.boxes import clip_boxes
from gfocal.structures import Detections, HeadOutputs
from gfocal.training.ema import WeightAverage

SMALL: dict[str, dict[str, Any]] = {
    "gfl_r101_fpn": {},
    "gfl_r101_dcn_fpn": {"deformable_stages": (4,)},
    "gfl_x101_32x4d_dcn_fpn": {"modulated": False},
}


def make_up(model: nn.Module, seed: int = 0) -> None:
    """Weights and statistics under which numbers keep their size, and none of which is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=generator)

    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(0.1 * normal(module.running_mean))
                module.running_var.copy_((0.2 * normal(module.running_var)).exp())
                module.weight.copy_((0.3 if name.endswith("bn3") else 1) * (1 + 0.1 * normal(module.weight)))
                module.bias.copy_(0.1 * normal(module.bias))
            elif isinstance(module, nn.Conv2d):
                scale = (2 / module.weight[0].numel()) ** 0.5 * (0.2 if name.endswith("conv_offset") else 1)
                module.weight.copy_(scale * normal(module.weight))
                if module.bias is not None:
                    module.bias.copy_(0.05 * normal(module.bias))


def tame(model: Detector, images: Tensor) -> None:
    """Scale the convolutions that predict, so that logits are as large as a trained detector's."""
    with torch.no_grad():
        outputs = model.eval()(images)
        for name, parameter in model.named_parameters():
            for part, values in (("cls_out", outputs.cls_logits), ("box_out", outputs.box_logits)):
                if part in name:
                    parameter /= max(1.0, float(values.std()) / 2)


def logits(network: Callable[[Tensor], HeadOutputs], images: Tensor) -> tuple[Tensor, Tensor]:
    with torch.inference_mode():
        outputs = network(images)
    return outputs.cls_logits, outputs.box_logits


@pytest.fixture
def model() -> Detector:
    torch.manual_seed(0)
    built = create("gfl_r18_fpn", 3, pretrained=False, channels=32, num_convs=1)
    make_up(built)
    return built.eval()


IMAGES = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("preset", PRESETS)
def test_float32_gives_the_boxes_and_scores_of_the_detector(preset: str) -> None:
    torch.manual_seed(0)
    detector = create(preset, 4, pretrained=False, **SMALL.get(preset, {}))
    make_up(detector)
    sides = (512, 512) if preset.startswith("ssd") else (128, 160)
    images = torch.randn(1, 3, *sides)
    tame(detector, images)
    network = inference_network(detector, "float32")
    assert network is not None
    assert not isinstance(network.trunk, inference_copy._Unfused)
    with torch.inference_mode():
        plain, fast = detector(images), network(images)
    assert fast.cls_logits.dtype == fast.box_logits.dtype == torch.float32
    scores = [
        out.cls_logits.softmax(-1) if detector.decode_settings.softmax else out.cls_logits.sigmoid()
        for out in (plain, fast)
    ]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=2e-5)  # sums in other orders: up to 1.1e-5 seen
    # Clipped as in detections: exp(x) of made-up numbers leaves any image.
    boxes = [clip_boxes(detector.box_coder.boxes(out.box_logits, out.points), *sides) for out in (plain, fast)]
    torch.testing.assert_close(boxes[1], boxes[0], rtol=0, atol=1e-2)
    if plain.quality_logits is not None:
        torch.testing.assert_close(fast.quality_logits, plain.quality_logits, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", ["gfl_light_fpn", "gfl_r50_fpn", "nanodet_plus_m", "atss_r50_fpn"])
def test_bf16_is_near_and_gives_float32(preset: str) -> None:
    detector = create(preset, 4, pretrained=False)
    make_up(detector)
    images = torch.randn(1, 3, 96, 128)
    network = inference_network(detector, "bf16")
    assert network is not None
    assert not isinstance(network.trunk, inference_copy._Unfused)
    with torch.inference_mode():
        plain, fast = detector.eval()(images), network(images)
    assert fast.cls_logits.dtype == fast.box_logits.dtype == torch.float32
    difference = (fast.box_logits - plain.box_logits).norm() / plain.box_logits.norm()
    assert 0 < difference < 0.05


def change_by_optimizer(model: Detector) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    model.train()
    model(IMAGES).cls_logits.sum().backward()
    optimizer.step()
    model.eval()


def change_by_adam(model: Detector) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    model(IMAGES).cls_logits.sum().backward()
    optimizer.step()


def change_by_training_forward(model: Detector) -> None:
    """The statistics of BatchNorm alone."""
    model.train()
    with torch.no_grad():
        model(IMAGES)
    model.eval()


def change_by_state_dict(model: Detector) -> None:
    model.load_state_dict({k: v * 1.1 if v.is_floating_point() else v for k, v in model.state_dict().items()})


def change_by_assigned_state_dict(model: Detector) -> None:
    state = {k: v * 1.1 if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state, assign=True)


def change_behind_autograd(model: Detector) -> None:
    for parameter in model.parameters():
        parameter.data.mul_(1.1)


def change_one_bias_behind_autograd(model: Detector) -> None:
    model.head.get_parameter("cls_out.bias").data[1] = 3.0


def change_through_numpy(model: Detector) -> None:
    model.head.get_parameter("box_out.weight").detach().numpy()[...] *= 1.1


def change_data_of_a_parameter(model: Detector) -> None:
    weight = model.head.get_parameter("cls_out.weight")
    weight.data = weight.data * 1.1


def change_one_weight(model: Detector) -> None:
    with torch.no_grad():
        model.head.get_parameter("cls_out.weight")[0, 3, 1, 1] += 1.0


def change_a_layer(model: Detector) -> None:
    layer = nn.Conv2d(32, 3, 3, padding=1)
    model.head.cls_out = layer


def change_an_activation(model: Detector) -> None:
    tower = model.head.get_submodule("cls_tower")
    assert isinstance(tower, nn.Sequential)
    tower[2] = nn.Sigmoid()


def change_by_averaging(model: Detector) -> None:
    other = copy.deepcopy(model)
    make_up(other, seed=5)
    average = WeightAverage(model, 0.5, warmup=1)
    average.model = model  # its own weights are the ones that are averaged
    average.update(other)


@pytest.mark.parametrize("change", [value for name, value in sorted(globals().items()) if name.startswith("change_")])
def test_no_copy_of_weights_that_have_changed(model: Detector, change: Callable[[Detector], None]) -> None:
    before = inference_network(model, "float32")
    assert before is not None
    assert inference_network(model, "float32") is before
    old = logits(before, IMAGES)
    change(model)
    after = inference_network(model, "float32")
    assert after is not None
    assert after is not before
    found, wanted = logits(after, IMAGES), logits(model.eval(), IMAGES)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    assert any(not torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, old, strict=True))
    assert inference_network(model, "float32") is after


def test_the_copy_does_not_change_the_detector(model: Detector) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    layouts = {key: value.stride() for key, value in model.state_dict().items()}
    names = [name for name, _ in model.named_modules()]
    model.train()
    modes = {name: module.training for name, module in model.named_modules()}
    for precision in ("float32", "bf16"):
        network = inference_network(model, precision)  # type: ignore[arg-type]
        assert network is not None
        logits(network, IMAGES)
    assert {name: module.training for name, module in model.named_modules()} == modes
    assert [name for name, _ in model.named_modules()] == names
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])
        assert value.stride() == layouts[key]
    assert all(p.requires_grad and p.dtype == torch.float32 for p in model.head.parameters())


def test_copies_and_files_of_the_detector_are_without_it(model: Detector, tmp_path: Any) -> None:
    save_model(model, tmp_path / "before.safetensors")
    pickled = len(pickle.dumps(model))
    assert inference_network(model, "float32") is not None
    assert len(pickle.dumps(model)) == pickled
    save_model(model, tmp_path / "after.safetensors")
    assert (tmp_path / "after.safetensors").read_bytes() == (tmp_path / "before.safetensors").read_bytes()
    twin = copy.deepcopy(model)
    assert twin not in inference_copy._kept
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    network = inference_network(twin, "float32")
    assert network is not None
    wanted = logits(load_model(tmp_path / "after.safetensors"), IMAGES)
    torch.testing.assert_close(logits(network, IMAGES), wanted, rtol=1e-3, atol=1e-4)


def test_the_copy_goes_with_the_detector_and_on_demand(model: Detector) -> None:
    other = copy.deepcopy(model)
    network = inference_network(other, "float32")
    assert network is not None
    alive = weakref.ref(network)
    del network, other
    gc.collect()
    assert alive() is None
    kept = inference_network(model, "float32")
    assert kept is not None
    forget_copy(model)
    assert inference_network(model, "float32") is not kept


def test_training_drops_the_copy(model: Detector) -> None:
    """It would only take memory: the next weights are others."""
    assert inference_network(model, "float32") is not None
    model.train()
    assert model not in inference_copy._kept


def test_hooks_and_other_forwards_get_the_detector_itself(model: Detector) -> None:
    assert inference_network(model, "float32") is not None
    seen: list[Any] = []
    handle = model.neck.register_forward_hook(lambda *_: seen.append(1))
    assert inference_network(model, "float32") is None
    model.detect(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert seen
    handle.remove()
    assert inference_network(model, "float32") is not None
    model.neck.forward = lambda maps: type(model.neck).forward(model.neck, maps)  # type: ignore[method-assign]
    assert inference_network(model, "float32") is None


def test_other_number_formats_get_the_detector_itself(model: Detector) -> None:
    assert inference_network(model.double(), "float32") is None
    with torch.device("meta"):
        assert inference_network(create("gfl_r18_fpn", 3, pretrained=False, channels=32), "float32") is None


def test_a_detector_made_in_inference_mode() -> None:
    with torch.inference_mode():
        detector = create("gfl_r18_fpn", 3, pretrained=False, channels=32, num_convs=1)
        found = detector.detect(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert isinstance(found, Detections)


def test_a_copy_made_in_inference_mode_serves_outside_of_it(model: Detector) -> None:
    with torch.inference_mode():
        first = inference_network(model, "float32")
        assert first is not None
        logits(first, IMAGES)
    assert inference_network(model, "float32") is first
    model.train()
    model(IMAGES).cls_logits.sum().backward()  # its tensors are no inference tensors


def test_autocast_around_it_changes_nothing(model: Detector) -> None:
    network = inference_network(model, "float32")
    assert network is not None
    alone = logits(network, IMAGES)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(logits(network, IMAGES), alone, strict=True))


def test_threads_share_one_copy(model: Detector) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(inference_network(model, "float32"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one is found[0] for one in found)


def test_a_network_that_fx_cannot_record_is_used_as_it_is() -> None:
    detector = gfocal.create("gfl_light_fpn", 2, pretrained=False, body="tf_efficientnet_lite0.in1k", channels=32)
    body = detector.get_submodule("backbone.body")
    plain = type(body).forward

    class Branching(type(body)):  # type: ignore[misc]
        def forward(self, x: Tensor) -> Any:
            return plain(self, x * 2 if x.mean() > 100 else x)

    body.__class__ = Branching
    for precision in ("float32", "bf16"):
        network = inference_network(detector, precision)  # type: ignore[arg-type]
        assert network is not None
        assert isinstance(network.trunk, inference_copy._Unfused)
        tolerance = 1e-4 if precision == "float32" else 0.1
        wanted = logits(detector.eval(), IMAGES)
        torch.testing.assert_close(logits(network, IMAGES), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("size", [(64, 128), (66, 34), (33, 65), (512, 514)])
@pytest.mark.parametrize("batch", [1, 2])
def test_pooling_in_stripes_is_pooling(batch: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_layers, "POOLED", 5_000)
    images = torch.randn(batch, 8, *size).contiguous(memory_format=torch.channels_last)
    pooled = StripedMaxPool()(images)
    assert torch.equal(pooled, nn.functional.max_pool2d(images, 3, 2, 1))
    assert pooled.is_contiguous(memory_format=torch.channels_last)


def test_only_the_pooling_of_a_resnet_is_done_in_stripes() -> None:
    assert is_striped(nn.MaxPool2d(3, 2, 1))
    for other in (nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.MaxPool2d(3, 1, 1), nn.AvgPool2d(3)):
        assert not is_striped(other)
