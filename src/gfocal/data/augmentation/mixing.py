"""Augmentations that make one image of several: mosaic, mixup, copy-paste.

Every image is first brought to about the size of the network's input, so that their cost does not grow with that of
the files. All randomness comes from torch's global generator.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gfocal.data.augmentation.labelled import Labelled, covered, resized, window
from gfocal.data.preprocess import resized_shape
from gfocal.ops.boxes import area

MOSAIC_CENTER = (0.3, 0.7)  # where the four tiles meet, in shares of width and height
LEAST_TILE_SCALE = 0.5  # images in tiles are no smaller than this share of the size at which they are tested
MIXUP_WEIGHTS = (0.4, 0.6)  # of the second image: both stay to be seen, so that both are ground truth
MOST_PASTED = 3
PASTED_SCALE = (0.7, 1.4)  # of a pasted object
PASTED_MARGIN = 0.15  # of its width and height, to either side, over which it fades into the image
LEAST_PASTED = 4.0  # pixels; smaller objects are not worth pasting
MOST_SHARED = 0.2  # what a copied crop may share with another object of its image, of the smaller one's area
MOST_HIDDEN = 0.3  # what a pasted crop may hide of an object, of that object's area
TRIES = 10

Color = tuple[float, float, float]


def mosaic(images: Sequence[Labelled], sides: tuple[int, int], fill: Color, antialias: bool = True) -> Labelled:
    """Four images around a random center, on a canvas of the first one's ratio and of the size of the input.

    ``sides`` are the input's short and long side. Each tile shows a random window of its image, at 0.5 to 1 times
    the size at which the image would be tested, but large enough to fill the tile if it can. Windows cut objects
    as crops do. What no image reaches has the color ``fill``.
    """
    height, width = resized_shape(*images[0].size, *sides)
    x, y = (_between(*MOSAIC_CENTER, whole) for whole in (width, height))
    image = torch.tensor(fill).round().to(torch.uint8).view(3, 1, 1).repeat(1, height, width)
    tiles = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    placed = []
    for labelled, (x1, y1, x2, y2) in zip(images, tiles, strict=True):
        if x1 == x2 or y1 == y2:  # of a canvas one pixel wide
            continue
        tile = _fitted_window(labelled, (y2 - y1, x2 - x1), sides, antialias)
        h, w = tile.size
        left, top = (x2 - w if x1 == 0 else x1), (y2 - h if y1 == 0 else y1)  # they touch the center
        image[:, top : top + h, left : left + w] = tile.image
        placed.append(tile._replace(boxes=tile.boxes + torch.tensor([left, top, left, top])))
    return _all_boxes(image, placed)


def _between(low: float, high: float, whole: int) -> int:
    """A whole number, uniform between two shares of a length."""
    return int(whole * (low + (high - low) * float(torch.rand(()))) + 0.5)


def _fitted_window(labelled: Labelled, room: tuple[int, int], sides: tuple[int, int], antialias: bool) -> Labelled:
    """A random window of an image at a random scale, no larger than ``room`` (height, width)."""
    whole = resized_shape(*labelled.size, *sides)
    filling = max(room[0] / whole[0], room[1] / whole[1])
    least = min(max(filling, LEAST_TILE_SCALE), 1.0)
    scale = least + (1 - least) * float(torch.rand(()))
    # Cut in the pixels of the file, then resized: what is cut off costs nothing.
    starts, lengths, shape = [], [], []
    for side, size, most in zip(labelled.size, whole, room, strict=True):
        shown = min(max(int(size * scale + 0.5), 1), most)
        length = min(max(round(shown / (size * scale) * side), 1), side)
        starts.append(int(torch.randint(side - length + 1, ())))
        lengths.append(length)
        shape.append(shown)
    return resized(window(labelled, starts[1], starts[0], lengths[1], lengths[0]), (shape[0], shape[1]), antialias)


def mixup(first: Labelled, second: Labelled, antialias: bool = True) -> Labelled:
    """The second image, shrunk to fit where it is larger, shines through the first at a random place.

    The objects of both are ground truth with full weight: QFL's target is the IoU of a box, and both edges and classes are
    still to be seen. Where the second image does not reach, the first stays as it is.
    """
    height, width = first.size
    factor = min(height / second.size[0], width / second.size[1], 1.0)
    h, w = (max(int(side * factor), 1) for side in second.size)
    second = resized(second, (h, w), antialias)
    x, y = int(torch.randint(width - w + 1, ())), int(torch.randint(height - h + 1, ()))
    low, high = MIXUP_WEIGHTS
    weight = low + (high - low) * float(torch.rand(()))
    image = first.image.clone()
    image[:, y : y + h, x : x + w] = _blend(second.image, image[:, y : y + h, x : x + w], weight)
    return _all_boxes(image, [first, second._replace(boxes=second.boxes + torch.tensor([x, y, x, y]))])


def copy_paste(labelled: Labelled, source: Labelled, antialias: bool = True) -> Labelled:
    """Up to three objects of another image, pasted with what surrounds them.

    A crop is the box of an object and a margin; inside the box it is opaque, over the margin it fades, so that the
    seam is no edge of the object. Copied are objects that share little with others of their image; they are pasted
    where they hide no more than 0.3 of any object that is there, and never over each other. What they hide is no
    ground truth any more, as ``covered`` says.
    """
    height, width = labelled.size
    image, cover = labelled.image.clone(), torch.zeros(height, width, dtype=torch.bool)
    pasted_boxes, pasted_labels, taken = [], [], labelled.boxes[:0]
    choices = copyable(source)
    order = torch.randperm(len(choices))[: int(torch.randint(1, MOST_PASTED + 1, ()))]
    for index in (choices[i] for i in order.tolist()):
        crop = _pasted_crop(source, index, antialias)
        h, w = crop.size
        place = _free_place(labelled, taken, h, w) if h <= height and w <= width else None
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
        return labelled
    boxes, labels = torch.stack(pasted_boxes), torch.stack(pasted_labels)
    pasted = Labelled(image, boxes, labels, torch.zeros(len(boxes), dtype=torch.bool))
    return _all_boxes(image, [covered(labelled._replace(image=image), cover), pasted])


def copyable(source: Labelled) -> list[int]:
    """Numbers of the ground truth objects whose crops, margin included, share little with any other box."""
    height, width = source.size
    found = []
    for i, box in enumerate(source.boxes):
        if source.crowd[i] or (box[2:] - box[:2]).min() < LEAST_PASTED:
            continue
        crop = torch.tensor(_with_margin(box, height, width), dtype=torch.float32)
        others = source.boxes[torch.arange(len(source.boxes)) != i]
        shared = shared_areas(crop, others)
        smaller = area(others).minimum(area(crop))
        if (shared <= MOST_SHARED * smaller).all():
            found.append(i)
    return found


def _with_margin(box: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Whole pixels of a box and the margin about it, inside its image; xyxy."""
    x1, y1, x2, y2 = box.tolist()
    dx, dy = PASTED_MARGIN * (x2 - x1), PASTED_MARGIN * (y2 - y1)
    left, top = max(math.floor(x1 - dx), 0), max(math.floor(y1 - dy), 0)
    return left, top, min(math.ceil(x2 + dx), width), min(math.ceil(y2 + dy), height)


def _pasted_crop(source: Labelled, index: int, antialias: bool) -> Labelled:
    """The crop of one object at a random scale, with its box alone."""
    x1, y1, x2, y2 = _with_margin(source.boxes[index], *source.size)
    low, high = (math.log(scale) for scale in PASTED_SCALE)
    scale = math.exp(low + (high - low) * float(torch.rand(())))
    shape = max(round((y2 - y1) * scale), 1), max(round((x2 - x1) * scale), 1)
    alone = Labelled(
        source.image[:, y1:y2, x1:x2],
        source.boxes[index : index + 1] - torch.tensor([x1, y1, x1, y1]),
        source.labels[index : index + 1],
        source.crowd[index : index + 1],
    )
    return resized(alone, shape, antialias)


def _free_place(labelled: Labelled, taken: Tensor, height: int, width: int) -> tuple[int, int] | None:
    """Where a crop may lie, x and y; None when some tries have found no place."""
    areas = area(labelled.boxes)
    for _ in range(TRIES):
        x = int(torch.randint(labelled.size[1] - width + 1, ()))
        y = int(torch.randint(labelled.size[0] - height + 1, ()))
        place = torch.tensor([x, y, x + width, y + height], dtype=torch.float32)
        hides_little = (shared_areas(place, labelled.boxes) <= MOST_HIDDEN * areas).all()
        if hides_little and not shared_areas(place, taken).any():
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
    """uint8 pixels of two images, weighted."""
    return (over * opacity + under * (1 - opacity)).round().to(torch.uint8)


def shared_areas(box: Tensor, boxes: Tensor) -> Tensor:
    """Square pixels that one box (4,) shares with each of others (G, 4). (G,)"""
    sides = (torch.minimum(box[2:], boxes[:, 2:]) - torch.maximum(box[:2], boxes[:, :2])).clamp(min=0)
    return sides.prod(-1)


def _all_boxes(image: Tensor, parts: Sequence[Labelled]) -> Labelled:
    """One image with the boxes of several."""
    return Labelled(
        image,
        torch.cat([part.boxes for part in parts]),
        torch.cat([part.labels for part in parts]),
        torch.cat([part.crowd for part in parts]),
    )
