"""Changes of colours and sharpness: uint8 (3, H, W) in, the same out; boxes stay where they are."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as TF


def distorted(image: Tensor) -> Tensor:
    """SSD's: brightness, contrast, saturation, hue, order of the channels, each changed with probability 0.5."""
    changed: Tensor = v2.RandomPhotometricDistort()(image)
    return changed


def grey(image: Tensor) -> Tensor:
    """Without colour."""
    return TF.rgb_to_grayscale(image, num_output_channels=3)


def blurred(image: Tensor) -> Tensor:
    """Out of focus: Gaussian blur of a standard deviation of 0.3 to 1.5 pixels."""
    deviation, least = 0.3 + 1.2 * float(torch.rand(())), min(image.shape[-2:])
    if least < 4:  # the border is mirrored, which takes some pixels
        return image
    return TF.gaussian_blur(image, [7 if least > 7 else 3] * 2, [deviation] * 2)


def noisy(image: Tensor) -> Tensor:
    """Noise of the sensor: Gaussian, of a standard deviation of 2 to 15 of 255."""
    deviation = 2 + 13 * float(torch.rand(()))
    return (image + deviation * torch.randn(image.shape)).round().clamp(0, 255).to(torch.uint8)


def compressed(image: Tensor) -> Tensor:
    """Through JPEG of quality 30 to 90."""
    return TF.jpeg(image, int(torch.randint(30, 91, ())))
