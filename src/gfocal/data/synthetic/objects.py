"""One object of a synthetic image: its shape, and its ambiguous sides with their laws.

A ramp fades a side out linearly between the inner and the outer position of its law. A strip is attached at the inner
position and ends at the outer one. All other sides stay where they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gfocal.data.synthetic.shapes import SHAPES, Box, Floats, Layer, draw_opacity, tight_box

PLAIN_STRIP_PROBABILITY, BARRED_STRIP_PROBABILITY = 0.3, 0.7  # probability that a label includes such a strip
SHORTEST_STRIP, LONGEST_STRIP = 8.0, 0.3  # pixels in images of size 192; fraction of the object's extent


@dataclass
class SceneObject:
    """An object, in a patch of its own until it is placed in the image."""

    label: int
    layer: Layer
    laws: Floats  # (4, 3), in pixels of the patch before the object is placed, of the image afterwards
    outer_box: Box = (0, 0, 0, 0)  # every side at its outermost position, in the image
    zones: tuple[Box, ...] = ()  # possible positions of its ambiguous sides, in the image


def make_object(rng: Generator, scale: float, ambiguous: bool) -> SceneObject:
    """Draw an object of random class, size, aspect ratio and rotation into a patch.

    Args:
        rng: source of all random choices.
        scale: size of the image over 192; the longer side of the object's box is 24..110 pixels at scale 1.
        ambiguous: whether one or two of its sides are ambiguous.
    """
    label = int(rng.integers(len(SHAPES)))
    shape = SHAPES[label]
    smallest = 34 if ambiguous else 24
    extent = smallest * (110 / smallest) ** rng.random() * scale  # log-uniform
    stretch = np.exp(rng.uniform(-1, 1) * {"box": 0.4, "ring": 0.15}.get(shape, 0.25))
    # Rotated flat sides have no ramp along an axis, so ambiguous objects are rotated only slightly.
    angle = np.deg2rad(rng.uniform(-1, 1) * (2 if ambiguous else 22))
    opacity = draw_opacity(shape, extent, float(stretch), float(angle))
    if ambiguous:
        opacity = np.pad(opacity, int(np.ceil(LONGEST_STRIP * extent + SHORTEST_STRIP * scale)))
    mask = opacity >= 0.5
    box = tight_box(mask)
    assert box is not None, "the smallest shape covers some pixels"
    layer = Layer(mask, opacity, np.zeros_like(opacity), (0, 0), sharp=True)
    obj = SceneObject(label, layer, sharp_laws(box))
    if ambiguous:
        sides = rng.permutation(4)[: 1 if rng.random() < 0.7 else 2]
        for side in sides.tolist():
            if not (rng.random() < 0.6 and _add_ramp(rng, obj, side, scale)):
                _add_strip(rng, obj, side, scale)
        _crop_patch(obj)
    return obj


def sharp_laws(box: Box) -> Floats:
    """Laws of a box with four sharp sides. (4, 3)."""
    laws = np.ones((4, 3), np.float32)
    laws[:, :2] = np.array(box, np.float32)[:, None]
    return laws


def _facing_right(patch: NDArray[Any], side: int) -> NDArray[Any]:
    """A view of a patch in which a side (0 left, 1 top, 2 right, 3 bottom) is the right one."""
    view = patch if side in (0, 2) else patch.T
    return view if side in (2, 3) else view[:, ::-1]


def _add_ramp(rng: Generator, obj: SceneObject, side: int, scale: float) -> bool:
    """Fade a side out; False if the shape is too narrow or too pointed for a visible ramp."""
    mask = _facing_right(obj.layer.mask, side)
    box = tight_box(mask)
    assert box is not None, "an object covers some pixels"
    left, top, right, bottom = box
    width = min(rng.uniform(6, 24) * scale, 0.35 * (right - left))
    core = tight_box(mask[:, : int(right - width)])
    near_end = mask[:, right - max(1, round(0.12 * width)) - 1].sum()
    # The adjacent sides are sharp, so their outermost pixels must be where the object is still opaque.
    if core is None or (core[1], core[3]) != (top, bottom):
        return False
    if width < 6 * scale or near_end < 0.25 * (bottom - top):
        return False
    columns = np.arange(mask.shape[1], dtype=np.float32) + 0.5
    opacity = _facing_right(obj.layer.opacity, side)
    opacity *= np.clip((right - columns) / width, 0, 1)
    _set_law(obj, side, inner_by=width, outer_by=0, share=np.nan)
    return True


def _add_strip(rng: Generator, obj: SceneObject, side: int, scale: float) -> None:
    """Attach a faint strip to a side, plain or barred."""
    mask = _facing_right(obj.layer.mask, side)
    box = tight_box(mask)
    assert box is not None, "an object covers some pixels"
    left, top, right, bottom = box
    length = round(max(rng.uniform(0.12, LONGEST_STRIP) * (right - left), SHORTEST_STRIP * scale))
    span = rng.uniform(0.4, 0.7) * (bottom - top)
    # Centered on the outermost part of the object, so that the strip of a pointed shape touches its point.
    middle = np.flatnonzero(mask[:, right - 2]).mean()
    start = round(float(np.clip(middle - span / 2, top, bottom - span)))
    rows = slice(start, start + round(span))
    columns = slice(right - round(0.35 * (right - left)), right + length)
    faint = np.full((mask.shape[0], 1), 0.38, np.float32)
    share = PLAIN_STRIP_PROBABILITY if rng.random() < 0.5 else BARRED_STRIP_PROBABILITY
    if share == BARRED_STRIP_PROBABILITY:
        bars = np.arange(-start, mask.shape[0] - start) % max(4, round(5 * scale))
        faint[:, 0] = np.where(bars < max(2, round(2.5 * scale)), 0.7, 0.15)
    beyond = ~np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1]  # no part of the object is farther out
    _facing_right(obj.layer.strip, side)[rows, columns] = (beyond * faint)[rows, columns]
    _set_law(obj, side, inner_by=0, outer_by=length, share=share)


def _set_law(obj: SceneObject, side: int, inner_by: float, outer_by: float, share: float) -> None:
    outwards = -1 if side < 2 else 1
    edge = obj.laws[side, 0]
    obj.laws[side] = edge - outwards * inner_by, edge + outwards * outer_by, share
    obj.layer.sharp = False


def _crop_patch(obj: SceneObject) -> None:
    """Remove the empty rim: painting it would take time."""
    left, top, right, bottom = obj.laws[:, 1].astype(int).tolist()
    inside = (slice(top - 1, bottom + 1), slice(left - 1, right + 1))
    layer = obj.layer
    layer.mask, layer.opacity, layer.strip = layer.mask[inside], layer.opacity[inside], layer.strip[inside]
    obj.laws[:, :2] -= np.array([left - 1, top - 1] * 2, np.float32)[:, None]
