"""From an image to the network's input."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings
from gfocal.data.preprocess import InputSettings, normalize_batch, resize, resized_shape


def test_without_antialias_half_size_is_the_mean_of_four_pixels_as_in_opencv() -> None:
    image = torch.randint(0, 256, (3, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean = image.float().view(3, 6, 2, 10, 2).mean((2, 4))
    plain = resize(image, (6, 10), antialias=False).float()
    assert (plain - mean).abs().max().item() <= 1  # each of two passes rounds
    smooth = resize(image, (6, 10)).float()
    assert (smooth - mean).abs().max().item() > 5


def test_augmentation_resizes_with_the_antialias_setting() -> None:
    image = torch.randint(0, 256, (3, 12, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)
    for antialias in (True, False):
        changed = Augmentation(AugmentSettings(flip=0.0), 6, 10, antialias)(image, *nothing)[0]
        assert torch.equal(changed, resize(image, (6, 10), antialias))


def test_shapes_are_rounded_half_up() -> None:
    assert resized_shape(480, 640, 800, 1333) == (800, 1067)
    assert resized_shape(100, 1000, 800, 1333) == (133, 1333)
    assert resized_shape(1, 5000, 800, 1333) == (1, 1333)


def test_single_pixel_images_are_resized() -> None:
    for old in ((2, 1), (7, 5), (1, 9)):
        image = torch.full((3, *old), 90, dtype=torch.uint8)
        for new in ((1, 1), (1, 4), (3, 1)):
            small = resize(image, new)
            assert small.dtype == torch.uint8
            assert tuple(small.shape) == (3, *new)
            assert (small == 90).all()


def noise(height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def by_pixels(image: Tensor) -> Tensor:
    """The same image, stored as decoders give it: the channels of a pixel side by side."""
    return image.permute(1, 2, 0).contiguous().permute(2, 0, 1)


def test_a_batch_is_normalized_and_padded_with_the_mean_color() -> None:
    settings = InputSettings(mean=(0.0, 127.5, 255.0), std=(1.0, 127.5, 3.0))
    images = [torch.arange(256).repeat(3).view(3, 16, 16).to(torch.uint8), noise(40, 33)]
    batch = normalize_batch(images, settings)
    assert batch.shape == (2, 3, 64, 64)
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(batch, normalize_batch([by_pixels(image) for image in images], settings))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (settings.mean, settings.std))
    for one, image in zip(batch, images, strict=True):
        height, width = image.shape[1:]
        assert torch.equal(one[:, :height, :width], (image.float() - mean) / std)
        assert (one[:, height:] == 0).all()
        assert (one[:, :, width:] == 0).all()


def test_how_an_image_is_stored_changes_nothing() -> None:
    image = noise(50, 70)
    for shape in ((30, 44), (90, 81), (1, 1), (50, 70)):
        for antialias in (True, False):
            assert torch.equal(resize(image, shape, antialias), resize(by_pixels(image), shape, antialias))
        assert torch.equal(resize(image, shape, stretch=True), resize(by_pixels(image), shape, stretch=True))


def test_resizing_is_that_of_torchvision() -> None:
    for shape in ((30, 44), (90, 81), (13, 140)):
        for antialias in (True, False):
            expected = functional.resize(noise(50, 70), list(shape), antialias=antialias)
            assert torch.equal(resize(noise(50, 70), shape, antialias), expected)
