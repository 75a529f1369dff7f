"""Changes of one image where torchvision's are not enough: a crop that is always found, tight boxes of turns."""

# FOLDED data.photometric: Changes of colors and sharpness: uint8 (3, H, W) in, the same out; boxes stay where they are.
from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from gfocal.data.augmentation.labelled import Labelled, covered, cut, window


def cropped(labelled: Labelled) -> Labelled:
    """A random part of an image, 0.4 to 1 of its width and height, that holds the center of some object.

    It has the image's own ratio, so that upright images stay upright, and batches of them need no padding.
    (torchvision's RandomIoUCrop is not used: it searches without end in long narrow images, and where all objects
    are small.) The image must hold an object that is not to be ignored.
    """
    boxes = labelled.boxes[~labelled.crowd]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # (G, 2)
    chosen = centers[int(torch.randint(len(centers), ()))].tolist()
    starts, lengths = [], []
    share = 0.4 + 0.6 * float(torch.rand(()))
    for center, whole in zip(chosen, labelled.image.shape[:0:-1], strict=True):  # x, then y
        length = max(int(whole * share), 1)
        center = min(max(center, 0.0), float(whole))
        least, most = max(math.ceil(center - length), 0), min(math.floor(center), whole - length)
        starts.append(int(torch.randint(least, most + 1, ())))
        lengths.append(length)
    return window(labelled, starts[0], starts[1], lengths[0], lengths[1])


def turned(labelled: Labelled, rotate: float, shear: float, fill: tuple[float, float, float]) -> Labelled:
    """Turned by up to ``rotate`` degrees and sheared by up to ``shear``, about the middle, onto a canvas of its size.

    The box of a ground truth object is that of the ellipse that its old box holds: exact for round objects. The box of the
    turned rectangle, which is exact for objects that fill their corners, would be too large for nearly all others,
    and what is too large is taught to every edge. An ignored region gets the box of the turned rectangle, which
    holds all of it.
    """
    angle, sx, sy = ((2 * torch.rand(3) - 1) * torch.tensor([rotate, shear, shear])).tolist()
    height, width = labelled.size
    # Around zero, so that at the border an image blends into ``fill`` and not into black.
    surface = torch.tensor(fill).view(3, 1, 1)
    image = TF.affine(
        labelled.image - surface,
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[sx, sy],
        interpolation=InterpolationMode.BILINEAR,
    )
    image = (image + surface).round().clamp(0, 255).to(torch.uint8)
    matrix = turning(angle, sx, sy)
    middle = torch.tensor([width / 2, height / 2])
    centers = (labelled.boxes[:, :2] + labelled.boxes[:, 2:]) / 2 - middle
    halves = (labelled.boxes[:, 2:] - labelled.boxes[:, :2]) / 2
    centers = centers @ matrix.T + middle
    of_ellipse = (halves**2 @ (matrix**2).T).sqrt()
    of_rectangle = halves @ matrix.abs().T
    halves = torch.where(labelled.crowd.unsqueeze(-1), of_rectangle, of_ellipse)
    return cut(labelled._replace(image=image, boxes=torch.cat([centers - halves, centers + halves], -1)))


def turning(angle: float, shear_x: float, shear_y: float) -> Tensor:
    """The matrix (2, 2) of torchvision's ``affine``, in degrees, for columns (x, y) with y downwards."""
    turn, tan_x, y = math.radians(angle), math.tan(math.radians(shear_x)), math.radians(shear_y)
    cos, sin = math.cos(turn - y) / math.cos(y), math.sin(turn - y) / math.cos(y)
    return torch.tensor([[cos, -cos * tan_x - math.sin(turn)], [sin, -sin * tan_x + math.cos(turn)]])


def erased(labelled: Labelled, fill: tuple[float, float, float]) -> Labelled:
    """One to three rectangles, each side 0.1 to 0.3 of the image's, are filled; ground truth is what they leave."""
    height, width = labelled.size
    image, cover = labelled.image.clone(), torch.zeros(height, width, dtype=torch.bool)
    for _ in range(int(torch.randint(1, 4, ()))):
        place = []
        for whole in (height, width):
            length = max(int(whole * (0.1 + 0.2 * float(torch.rand(())))), 1)
            start = int(torch.randint(whole - length + 1, ()))
            place.append(slice(start, start + length))
        rows, columns = place
        image[:, rows, columns] = torch.tensor(fill).round().to(torch.uint8).view(3, 1, 1)
        cover[rows, columns] = True
    return covered(labelled._replace(image=image), cover)


def distorted(image: Tensor) -> Tensor:
    """SSD's: brightness, contrast, saturation, hue, order of the channels, each changed with probability 0.5."""
    changed: Tensor = v2.RandomPhotometricDistort()(image)
    return changed


def gray(image: Tensor) -> Tensor:
    """Without color."""
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
