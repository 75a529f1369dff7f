"""Operations that combine several images: mosaic, mixup, copy-paste.

Images are first resized to about the size of the network's input, so that the cost does not depend on the size of the
files. All random numbers come from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gfocal.data.augmentation.labeled_image import LabeledImage, crop_window, occlude, resize_with_boxes
from gfocal.data.preprocess import resized_shape
from gfocal.ops.boxes import area

MOSAIC_CENTER = (0.3, 0.7)  # range of the point where the four tiles meet, as fractions of width and height
MIN_TILE_SCALE = 0.5  # of an image in a tile, as a fraction of its size in evaluation
MIXUP_WEIGHTS = (0.4, 0.6)  # of the second image: the objects of both stay visible
MAX_PASTED = 3  # objects
PASTED_SCALE = (0.7, 1.4)  # of a pasted object
PASTED_MARGIN = 0.15  # around it, as a fraction of its width and height, over which it fades into the image
MIN_PASTED_SIDE = 4.0  # pixels; smaller objects are not pasted
MAX_SHARED = 0.2  # overlap of a copied crop with another object of its image, as a fraction of the smaller area
MAX_HIDDEN = 0.3  # fraction of an object's area that a pasted crop may hide
TRIES = 10  # to find a place for a crop

Color = tuple[float, float, float]


def mosaic(
    images: Sequence[LabeledImage],
    sides: tuple[int, int],
    fill: Color,
    antialias: bool = True,
    stretch: bool = False,
) -> LabeledImage:
    """Four images around a random center, on a canvas with the aspect ratio of the first one and the input's size.

    With ``stretch`` the canvas has exactly the input's size, and tiles are stretched as the whole image would be.

    ``sides`` are the input's short and long side. Each tile is a random window of its image at a scale of 0.5 to 1
    times that in evaluation, but large enough to fill the tile if possible. Boxes are clipped as by a crop. Pixels
    outside of all images have the color ``fill``.
    """
    height, width = resized_shape(*images[0].size, *sides, stretch)
    x, y = (_random_between(*MOSAIC_CENTER, whole) for whole in (width, height))
    image = torch.tensor(fill).round().to(torch.uint8).view(3, 1, 1).repeat(1, height, width)
    tiles = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    placed = []
    for item, (x1, y1, x2, y2) in zip(images, tiles, strict=True):
        if x1 == x2 or y1 == y2:  # the canvas is one pixel wide
            continue
        tile = _random_tile(item, (y2 - y1, x2 - x1), sides, antialias, stretch)
        h, w = tile.size
        left, top = (x2 - w if x1 == 0 else x1), (y2 - h if y1 == 0 else y1)  # the tile touches the center
        image[:, top : top + h, left : left + w] = tile.image
        placed.append(tile._replace(boxes=tile.boxes + torch.tensor([left, top, left, top])))
    return _combine(image, placed)


def _random_between(low: float, high: float, whole: int) -> int:
    """A random integer between two fractions of a length."""
    return int(whole * (low + (high - low) * float(torch.rand(()))) + 0.5)


def _random_tile(
    item: LabeledImage, most: tuple[int, int], sides: tuple[int, int], antialias: bool, stretch: bool
) -> LabeledImage:
    """A random window of an image at a random scale, no larger than ``most`` (height, width)."""
    whole = resized_shape(*item.size, *sides, stretch)
    filling = max(most[0] / whole[0], most[1] / whole[1])
    least = min(max(filling, MIN_TILE_SCALE), 1.0)
    scale = least + (1 - least) * float(torch.rand(()))
    # Cropped at the size of the file, then resized: pixels outside the window cost nothing.
    starts, lengths, shape = [], [], []
    for side, size, limit in zip(item.size, whole, most, strict=True):
        shown = min(max(int(size * scale + 0.5), 1), limit)
        length = min(max(round(shown / (size * scale) * side), 1), side)
        starts.append(int(torch.randint(side - length + 1, ())))
        lengths.append(length)
        shape.append(shown)
    window = crop_window(item, starts[1], starts[0], lengths[1], lengths[0])
    return resize_with_boxes(window, (shape[0], shape[1]), antialias, stretch)


def mixup(first: LabeledImage, second: LabeledImage, antialias: bool = True) -> LabeledImage:
    """Blend the second image, downscaled to fit if it is larger, into the first one at a random place.

    The objects of both are ground truth with full weight: QFL's target is the IoU of a box, and the objects are still
    visible. Outside of the second image, the first one is unchanged.
    """
    height, width = first.size
    factor = min(height / second.size[0], width / second.size[1], 1.0)
    h, w = (max(int(side * factor), 1) for side in second.size)
    second = resize_with_boxes(second, (h, w), antialias)
    x, y = int(torch.randint(width - w + 1, ())), int(torch.randint(height - h + 1, ()))
    low, high = MIXUP_WEIGHTS
    weight = low + (high - low) * float(torch.rand(()))
    image = first.image.clone()
    image[:, y : y + h, x : x + w] = _blend(second.image, image[:, y : y + h, x : x + w], weight)
    return _combine(image, [first, second._replace(boxes=second.boxes + torch.tensor([x, y, x, y]))])


def copy_paste(item: LabeledImage, source: LabeledImage, antialias: bool = True) -> LabeledImage:
    """Paste up to three objects of another image, with a margin around them.

    A crop is the box of an object and a margin; it is opaque inside the box and fades over the margin, so that the
    seam is not at an edge of the object. Objects are copied if they overlap little with others of their image, and
    pasted where they hide no more than 0.3 of any object, and not over each other. The boxes of objects that they
    hide are updated by ``occlude``.
    """
    height, width = item.size
    image, cover = item.image.clone(), torch.zeros(height, width, dtype=torch.bool)
    pasted_boxes, pasted_labels, taken = [], [], item.boxes[:0]
    choices = find_copyable(source)
    order = torch.randperm(len(choices))[: int(torch.randint(1, MAX_PASTED + 1, ()))]
    for index in (choices[i] for i in order.tolist()):
        crop = _random_object_crop(source, index, antialias)
        h, w = crop.size
        place = _free_place(item, taken, h, w) if h <= height and w <= width else None
        if place is None:
            continue
        x, y = place
        (box,) = crop.boxes
        opacity = _opacity(box, h, w)
        image[:, y : y + h, x : x + w] = _blend(crop.image, image[:, y : y + h, x : x + w], opacity)
        cover[y : y + h, x : x + w] |= opacity > 0.5
        taken = torch.cat([taken, torch.tensor([[x, y, x + w, y + h]], dtype=torch.float32)])
        pasted_boxes.append(box + torch.tensor([x, y, x, y]))
        pasted_labels.append(source.labels[index])
    if not pasted_boxes:
        return item
    boxes, labels = torch.stack(pasted_boxes), torch.stack(pasted_labels)
    pasted = LabeledImage(image, boxes, labels, torch.zeros(len(boxes), dtype=torch.bool))
    return _combine(image, [occlude(item._replace(image=image), cover), pasted])


def find_copyable(source: LabeledImage) -> list[int]:
    """Indices of the objects whose crops, margin included, overlap little with any other box."""
    height, width = source.size
    found = []
    for i, box in enumerate(source.boxes):
        if source.crowd[i] or (box[2:] - box[:2]).min() < MIN_PASTED_SIDE:
            continue
        crop = torch.tensor(_with_margin(box, height, width), dtype=torch.float32)
        others = source.boxes[torch.arange(len(source.boxes)) != i]
        overlap = intersection_areas(crop, others)
        smaller = area(others).minimum(area(crop))
        if (overlap <= MAX_SHARED * smaller).all():
            found.append(i)
    return found


def _with_margin(box: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Integer xyxy of a box with its margin, clipped to the image."""
    x1, y1, x2, y2 = box.tolist()
    dx, dy = PASTED_MARGIN * (x2 - x1), PASTED_MARGIN * (y2 - y1)
    left, top = max(math.floor(x1 - dx), 0), max(math.floor(y1 - dy), 0)
    return left, top, min(math.ceil(x2 + dx), width), min(math.ceil(y2 + dy), height)


def _random_object_crop(source: LabeledImage, index: int, antialias: bool) -> LabeledImage:
    """The crop of one object at a random scale, with only its own box."""
    x1, y1, x2, y2 = _with_margin(source.boxes[index], *source.size)
    low, high = (math.log(scale) for scale in PASTED_SCALE)
    scale = math.exp(low + (high - low) * float(torch.rand(())))
    shape = max(round((y2 - y1) * scale), 1), max(round((x2 - x1) * scale), 1)
    alone = LabeledImage(
        source.image[:, y1:y2, x1:x2],
        source.boxes[index : index + 1] - torch.tensor([x1, y1, x1, y1]),
        source.labels[index : index + 1],
        source.crowd[index : index + 1],
    )
    return resize_with_boxes(alone, shape, antialias)


def _free_place(item: LabeledImage, taken: Tensor, height: int, width: int) -> tuple[int, int] | None:
    """A random place for a crop, x and y; None if none is found in a few tries."""
    areas = area(item.boxes)
    for _ in range(TRIES):
        x = int(torch.randint(item.size[1] - width + 1, ()))
        y = int(torch.randint(item.size[0] - height + 1, ()))
        place = torch.tensor([x, y, x + width, y + height], dtype=torch.float32)
        hides_little = (intersection_areas(place, item.boxes) <= MAX_HIDDEN * areas).all()
        if hides_little and not intersection_areas(place, taken).any():
            return x, y
    return None


def _opacity(box: Tensor, height: int, width: int) -> Tensor:
    """1 inside the box, falling to 0 at the border of the crop. (height, width)"""

    def along(low: float, high: float, whole: int) -> Tensor:
        middles = torch.arange(whole) + 0.5
        before = middles / max(math.floor(low), 1e-6)  # a pixel that the box touches is opaque
        after = (whole - middles) / max(whole - math.ceil(high), 1e-6)
        inside = (middles > math.floor(low)) & (middles < math.ceil(high))
        return torch.where(inside, 1.0, before.minimum(after).clamp(max=1.0))

    x1, y1, x2, y2 = box.tolist()
    return along(y1, y2, height).unsqueeze(1) * along(x1, x2, width)


def _blend(over: Tensor, under: Tensor, opacity: Tensor | float) -> Tensor:
    """Weighted mean of two uint8 images."""
    return (over * opacity + under * (1 - opacity)).round().to(torch.uint8)


def intersection_areas(box: Tensor, boxes: Tensor) -> Tensor:
    """Intersection areas of one box (4,) with others (G, 4), in square pixels. (G,)"""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(min=0)
    return sides.prod(-1)


def _combine(image: Tensor, parts: Sequence[LabeledImage]) -> LabeledImage:
    """An image with the boxes of several parts."""
    return LabeledImage(
        image,
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.crowd for part in parts]),
    )
