"""Operations on a single image: crop, rotation and shear, filled rectangles, and changes of color and sharpness."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as TF

from gfocal.data.augmentation.labeled_image import LabeledImage, clip_boxes, crop_window, occlude


def random_crop(item: LabeledImage) -> LabeledImage:
    """A random crop, 0.4 to 1 times as wide and high as the image, that contains the center of some object.

    It has the aspect ratio of the image, so that portrait images stay portrait, and batches of them need no padding.
    (torchvision's RandomIoUCrop is not used: it does not terminate for long narrow images, nor if all objects are
    small.) The image must have an object that is not ignored.
    """
    boxes = item.boxes[~item.crowd]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2  # (G, 2)
    chosen = centers[int(torch.randint(len(centers), ()))].tolist()
    starts, lengths = [], []
    share = 0.4 + 0.6 * float(torch.rand(()))
    for center, whole in zip(chosen, item.image.shape[:0:-1], strict=True):  # x, then y
        length = max(int(whole * share), 1)
        center = min(max(center, 0.0), float(whole))
        least, most = max(math.ceil(center - length), 0), min(math.floor(center), whole - length)
        starts.append(int(torch.randint(least, most + 1, ())))
        lengths.append(length)
    return crop_window(item, starts[0], starts[1], lengths[0], lengths[1])


def random_affine(item: LabeledImage, rotate: float, shear: float, fill: tuple[float, float, float]) -> LabeledImage:
    """Rotate by up to ``rotate`` degrees and shear by up to ``shear`` about the center; the size stays the same.

    The new box of a ground-truth object is that of the transformed ellipse inscribed in its box: exact for elliptical
    objects. The box of the transformed rectangle, which is exact for objects that fill their corners, would be too
    large for nearly all others, and every edge would learn this. An ignored region gets the box of the transformed
    rectangle, which contains all of it.
    """
    angle, sx, sy = ((2 * torch.rand(3) - 1) * torch.tensor([rotate, shear, shear])).tolist()
    height, width = item.size
    # Shifted so that ``fill`` is zero: at the border the image blends into ``fill`` and not into black.
    surface = torch.tensor(fill).view(3, 1, 1)
    image = TF.affine(
        item.image - surface,
        angle=angle,
        translate=[0, 0],
        scale=1.0,
        shear=[sx, sy],
        interpolation=InterpolationMode.BILINEAR,
    )
    image = (image + surface).round().clamp(0, 255).to(torch.uint8)
    matrix = affine_matrix(angle, sx, sy)
    middle = torch.tensor([width / 2, height / 2])
    centers = (item.boxes[:, :2] + item.boxes[:, 2:]) / 2 - middle
    halves = (item.boxes[:, 2:] - item.boxes[:, :2]) / 2
    centers = centers @ matrix.T + middle
    of_ellipse = (halves**2 @ (matrix**2).T).sqrt()
    of_rectangle = halves @ matrix.abs().T
    halves = torch.where(item.crowd.unsqueeze(-1), of_rectangle, of_ellipse)
    return clip_boxes(item._replace(image=image, boxes=torch.cat([centers - halves, centers + halves], -1)))


def affine_matrix(angle: float, shear_x: float, shear_y: float) -> Tensor:
    """The matrix (2, 2) of torchvision's ``affine`` for columns (x, y) with y downwards; angles in degrees."""
    turn, tan_x, y = math.radians(angle), math.tan(math.radians(shear_x)), math.radians(shear_y)
    cos, sin = math.cos(turn - y) / math.cos(y), math.sin(turn - y) / math.cos(y)
    return torch.tensor([[cos, -cos * tan_x - math.sin(turn)], [sin, -sin * tan_x + math.cos(turn)]])


def random_erase(item: LabeledImage, fill: tuple[float, float, float]) -> LabeledImage:
    """Fill one to three rectangles, each side 0.1 to 0.3 of the image's; boxes shrink to what they leave visible."""
    height, width = item.size
    image, cover = item.image.clone(), torch.zeros(height, width, dtype=torch.bool)
    for _ in range(int(torch.randint(1, 4, ()))):
        place = []
        for whole in (height, width):
            length = max(int(whole * (0.1 + 0.2 * float(torch.rand(())))), 1)
            start = int(torch.randint(whole - length + 1, ()))
            place.append(slice(start, start + length))
        rows, columns = place
        image[:, rows, columns] = torch.tensor(fill).round().to(torch.uint8).view(3, 1, 1)
        cover[rows, columns] = True
    return occlude(item._replace(image=image), cover)


def distort_colors(image: Tensor) -> Tensor:
    """SSD's distortion: brightness, contrast, saturation, hue, channel order, each with probability 0.5."""
    distorted: Tensor = v2.RandomPhotometricDistort()(image)
    return distorted


def to_grayscale(image: Tensor) -> Tensor:
    """Remove the color."""
    return TF.rgb_to_grayscale(image, num_output_channels=3)


def random_blur(image: Tensor) -> Tensor:
    """Gaussian blur with a standard deviation of 0.3 to 1.5 pixels."""
    deviation, least = 0.3 + 1.2 * float(torch.rand(())), min(image.shape[-2:])
    if least < 4:  # the mirrored border needs some pixels
        return image
    return TF.gaussian_blur(image, [7 if least > 7 else 3] * 2, [deviation] * 2)


def add_noise(image: Tensor) -> Tensor:
    """Gaussian noise with a standard deviation of 2 to 15 of 255."""
    deviation = 2 + 13 * float(torch.rand(()))
    return (image + deviation * torch.randn(image.shape)).round().clamp(0, 255).to(torch.uint8)


def compress_jpeg(image: Tensor) -> Tensor:
    """JPEG compression with a quality of 30 to 90."""
    return TF.jpeg(image, int(torch.randint(30, 91, ())))
