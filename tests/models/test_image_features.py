"""Features of images: of the same pass, without the padding, the same in any batch."""

from __future__ import annotations

import pytest
import torch

from conftest import OPTIONS
from gfocal.data.preprocess import InputSettings
from gfocal.models.detector import Detector
from gfocal.models.image_features import MAX_FEATURES, mean_maps, predict_with_features
from gfocal.models.predict import predict, stack_inputs
from gfocal.models.zoo import create


def tiny(preset: str = "gfl_light_fpn") -> Detector:
    torch.manual_seed(0)
    model = create(preset, 2, names=("a", "b"), pretrained=False, **OPTIONS)
    model.input_settings = InputSettings(short_side=64, long_side=96)
    return model.eval()


def images(*sizes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator) for size in sizes]


def test_detections_are_those_of_predict_and_features_of_each_image() -> None:
    model = tiny()
    batch = stack_inputs("xyz", images((64, 96), (64, 90), (60, 96)), model.input_settings)
    ((_, found, features),) = predict_with_features(model, [batch], 0.0)
    ((_, wanted),) = predict(model, [batch], 0.0)
    assert features.shape == (3, 5 * OPTIONS["channels"])
    assert features.dtype == torch.float32
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.boxes, other.boxes)
        assert torch.equal(one.scores, other.scores)


def test_the_mode_of_the_model_stays_and_hooks_are_run() -> None:
    model = tiny()
    batch = stack_inputs("x", images((64, 96)), model.input_settings)
    ((_, _, fast),) = predict_with_features(model, [batch])
    calls = []
    hook = model.neck.register_forward_hook(lambda *_: calls.append(1))  # then there is no inference copy
    model.train()
    ((_, _, plain),) = predict_with_features(model, [batch])
    hook.remove()
    assert calls
    assert model.training
    assert torch.allclose(fast, plain, atol=1e-4 * float(plain.abs().max()))


def test_padding_does_not_count() -> None:
    level = torch.randn(2, 8, 4, 6)
    level[1, :, 2:] = 1e6
    level[1, :, :, 3:] = 1e6
    found = mean_maps([level], torch.tensor([[128, 192], [64, 96]]), (128, 192))
    assert torch.allclose(found[0], level[0].mean((1, 2)), atol=1e-5)
    assert torch.allclose(found[1], level[1, :, :2, :3].mean((1, 2)), atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (33, 70)])
def test_small_images_have_a_cell_in_every_level(size: tuple[int, int]) -> None:
    levels = [torch.ones(1, 3, n, n) for n in (16, 4, 1)]
    assert torch.equal(mean_maps(levels, torch.tensor([size]), (128, 128)), torch.ones(1, 9))


def test_many_channels_are_projected_and_distances_nearly_kept() -> None:
    levels = [torch.randn(20, 1000, 1, 1, generator=torch.Generator().manual_seed(0))]
    sizes = torch.full((20, 2), 32)
    found = mean_maps(levels, sizes, (32, 32))
    assert found.shape == (20, MAX_FEATURES)
    assert torch.equal(found, mean_maps(levels, sizes, (32, 32)))
    ratio = torch.pdist(found) / torch.pdist(levels[0].flatten(1))
    assert float(ratio.min()) > 0.75
    assert float(ratio.max()) < 1.25
