"""Images whose objects are masks of a color each, so that the ground truth can be read off the pixels again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gfocal.data.augmentation.labeled_image import LabeledImage
from gfocal.data.augmentation.pipeline import Augmentation, AugmentSettings

BLACK = (0.0, 0.0, 0.0)
NONE = AugmentSettings(flip=0.0)
GEOMETRIC = {
    "nothing": NONE,
    "flip": replace(NONE, flip=1.0),
    "vertical_flip": replace(NONE, vertical_flip=1.0),
    "crop": replace(NONE, crop=1.0),
    "zoom_out": replace(NONE, zoom_out=1.0),
    "quarter_turns": replace(NONE, quarter_turns=1.0),
    "short_sides": replace(NONE, short_sides=(60, 130)),
    "scale": replace(NONE, scale=0.4),
    "erase": replace(NONE, erase=1.0),
    "everything": AugmentSettings(0.5, 0.5, 0.0, 0.7, 0.7, 0.7, (60, 130), scale=0.3),
}


def scene(height: int, width: int, boxes: Sequence[Sequence[float]], shape: str = "rectangle") -> LabeledImage:
    """A black image; object k, of label k, is a filled rectangle or ellipse that is 255 in channel k alone."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    y = torch.arange(height).view(-1, 1) + 0.5
    x = torch.arange(width).view(1, -1) + 0.5
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        if shape == "rectangle":
            inside = (x > x1) & (x < x2) & (y > y1) & (y < y2)
        else:
            across, down = (2 * x - x1 - x2) / (x2 - x1), (2 * y - y1 - y2) / (y2 - y1)
            inside = across**2 + down**2 <= 1
        image[k][inside] = 255
    count = len(boxes)
    xyxy = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
    return LabeledImage(image, xyxy, torch.arange(count), torch.zeros(count, dtype=torch.bool))


def extent(mask: Tensor) -> Tensor:
    """The tight box of a mask (H, W), xyxy."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]).float()


def augmented(
    settings: AugmentSettings, sample: LabeledImage, seed: int, short: int = 96, long: int = 160
) -> LabeledImage:
    torch.manual_seed(seed)
    return Augmentation(settings, short, long, fill=BLACK)(*sample)


def boxes_are_those_of_masks(image: LabeledImage, tolerance: float = 1.5, threshold: int = 127) -> int:
    """Every ground-truth box is the tight box of its color; colors without one are ignored, clipped thin or gone.

    Returns the number of ground-truth boxes.
    """
    told = image.labels[~image.crowd].tolist()
    assert len(told) == len(set(told)), "an object came twice"
    for box, label in zip(image.boxes[~image.crowd], told, strict=True):
        mask = image.image[label] > threshold
        assert mask.any(), f"ground-truth box {box.tolist()} of label {label}, but nothing of it is to be seen"
        torch.testing.assert_close(box, extent(mask), atol=tolerance, rtol=0)
    ignored = set(image.labels[image.crowd].tolist())
    for label in set(range(3)) - set(told) - ignored:
        mask = image.image[label] > threshold
        if mask.any():
            x1, y1, x2, y2 = extent(mask).tolist()
            assert min(x2 - x1, y2 - y1) <= tolerance, f"label {label} is to be seen, and no box says so"
    return len(told)


def is_sound(image: LabeledImage) -> None:
    """uint8, boxes inside and not thin, one label and flag for each."""
    height, width = image.size
    assert image.image.dtype == torch.uint8
    assert image.image.shape == (3, height, width)
    assert image.boxes.shape == (len(image.labels), 4)
    assert image.boxes.dtype == torch.float32
    assert image.labels.dtype == torch.int64
    assert image.crowd.shape == image.labels.shape
    assert image.crowd.dtype == torch.bool
    assert (image.boxes >= 0).all()
    assert (image.boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
