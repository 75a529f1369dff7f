"""Colors, blur, noise, JPEG: bytes in, bytes out, as far from the image as is said and no further."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gfocal.data.augmentation.single import add_noise, compress_jpeg, distort_colors, random_blur, to_grayscale


def even(value: int, size: tuple[int, int] = (40, 60)) -> Tensor:
    return torch.full((3, *size), value, dtype=torch.uint8)


@pytest.mark.parametrize("value", [0, 255])
def test_noise_ends_at_black_and_white(value: int) -> None:
    for seed in range(10):
        torch.manual_seed(seed)
        far = (add_noise(even(value)).int() - value).abs()
        assert 2 < far.max() < 80


def test_noise_has_the_documented_strength() -> None:
    torch.manual_seed(0)
    deviations = [float(add_noise(even(128)).float().std()) for _ in range(40)]
    assert 1.9 < min(deviations) < 4
    assert 13 < max(deviations) < 15.5


def test_blur_keeps_uniform_images_and_softens_edges() -> None:
    assert (random_blur(even(77)) == 77).all()
    half = even(0)
    half[:, :, 30:] = 200
    for seed in range(5):
        torch.manual_seed(seed)
        steps = random_blur(half)[0, 20].int().diff()
        assert steps.max() < 200
        assert steps.sum() == 200
        assert (steps[:25] == 0).all()


def test_gray_has_no_color_and_keeps_brightness() -> None:
    image = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    out = to_grayscale(image)
    assert torch.equal(out[0], out[1])
    assert torch.equal(out[0], out[2])
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert ((image * weights).sum(0) - out[0]).abs().max() <= 1.5


def test_jpeg_changes_pixels_little() -> None:
    smooth = torch.linspace(0, 255, 60).expand(3, 40, 60).to(torch.uint8)
    for seed in range(5):
        torch.manual_seed(seed)
        assert (compress_jpeg(smooth).int() - smooth.int()).abs().max() < 25


@pytest.mark.parametrize("change", [distort_colors, to_grayscale, random_blur, add_noise, compress_jpeg])
@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (3, 7), (8, 8)])
def test_images_of_any_size(change: object, size: tuple[int, int]) -> None:
    assert callable(change)
    image = even(120, size)
    out = change(image)
    assert out.dtype == torch.uint8
    assert out.shape == image.shape
    assert (image == 120).all()
