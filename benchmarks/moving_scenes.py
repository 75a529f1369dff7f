"""Synthetic scenes whose objects move and pass over one another, with the identity of each: for benchmarks/video.py.

The objects, fills and backgrounds are those of ``gfocal.SyntheticScenes``, on which ``gfocal demo`` trains. Of each
object that is visible to 30 % at least, the ground truth is the tight box of what is visible; one with ambiguous
sides lies on top, and its box is one sample of their laws, the same in all frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gfocal.data.synthetic.edge_laws import sample_edges
from gfocal.data.synthetic.objects import SceneObject, make_object
from gfocal.data.synthetic.scenes import MIN_VISIBLE
from gfocal.data.synthetic.shapes import paint, tight_box

SIZE = 192  # height and width
AMBIGUOUS_SHARE = 0.3
SPEED, TURN = 2.5, 0.25  # pixels a frame, and its change: standard deviations of x and y
GRAIN = 4.0  # standard deviation of the noise of each frame, gray levels

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MovedFrame:
    """One frame."""

    image: Tensor  # (3, SIZE, SIZE) uint8 RGB
    ids: list[int]  # of the objects that are visible
    boxes: Floats  # (N, 4) xyxy, theirs


def moving_scene(seed: int, num_frames: int, num_objects: int) -> Iterator[MovedFrame]:
    """The frames of one video. They depend on nothing but the arguments."""
    rng = np.random.default_rng((seed, num_objects))
    are_ambiguous = np.sort(
        rng.random(num_objects) < AMBIGUOUS_SHARE
    )  # in the order of painting: ambiguous ones last
    objects = [make_object(rng, SIZE / 192, bool(ambiguous)) for ambiguous in are_ambiguous]
    own_boxes = [_own_box(rng, one) for one in objects]
    half = np.array([(one.layer.mask.shape[1] / 2, one.layer.mask.shape[0] / 2) for one in objects])
    center = rng.uniform(0.2 * SIZE, 0.8 * SIZE, (num_objects, 2))
    speed = rng.normal(0, SPEED, (num_objects, 2))
    for _ in range(num_frames):
        for one, place in zip(objects, np.round(center - half).astype(int).tolist(), strict=True):
            one.layer.corner = (place[0], place[1])
        ids, boxes = _visible(objects, own_boxes)
        paints = np.random.default_rng((seed, num_objects, 1))  # the same background and fills in every frame
        image = paint([one.layer for one in objects], SIZE, (seed, num_objects, 2), paints)
        noisy = np.clip(image + rng.normal(0, GRAIN, image.shape), 0, 255).astype(np.uint8)
        yield MovedFrame(torch.from_numpy(np.ascontiguousarray(noisy.transpose(2, 0, 1))), ids, boxes)
        speed += rng.normal(0, TURN, speed.shape) - 0.02 * speed
        center += speed
        outward = (center < 0.15 * SIZE) | (center > 0.85 * SIZE)
        speed = np.where(outward, np.sign(SIZE / 2 - center) * np.abs(speed), speed)


def _own_box(rng: np.random.Generator, one: SceneObject) -> Floats:
    """The box of an object that nothing hides, relative to the corner of its patch. (4,)"""
    laws = torch.from_numpy(one.laws)
    return sample_edges(laws, torch.from_numpy(rng.random(4, dtype=np.float32))).double().numpy()


def _visible(objects: list[SceneObject], own_boxes: list[Floats]) -> tuple[list[int], Floats]:
    """The numbers and boxes of objects of which enough is in sight."""
    owner = np.full((SIZE, SIZE), -1)
    windows = [one.layer.window(SIZE) for one in objects]
    for number, (one, (there, here)) in enumerate(zip(objects, windows, strict=True)):
        owner[there][one.layer.mask[here]] = number
    ids, boxes = [], []
    for number, (one, (there, _)) in enumerate(zip(objects, windows, strict=True)):
        seen = owner[there] == number
        box = tight_box(seen)
        if box is None or seen.sum() < MIN_VISIBLE * one.layer.mask.sum():
            continue
        if one.layer.sharp:
            boxes.append(np.array(box) + (there[1].start, there[0].start) * 2)
        else:
            boxes.append(own_boxes[number] + np.array(one.layer.corner * 2))
        ids.append(number)
    return ids, np.array(boxes, dtype=np.float64).reshape(-1, 4)
