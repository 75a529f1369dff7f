"""One drawn object: its shape, and the sides that are made ambiguous, with their laws.

A ramp fades a side out linearly between the law's inner and outer position. A strip is attached beyond the
inner position and ends at the outer one. Every other side keeps its place to the pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from gfocal.data.synthetic.shapes import SHAPES, Box, Floats, Layer, draw_opacity, tight_box

PLAIN_STRIP, BARRED_STRIP = 0.3, 0.7  # probability that a label includes a strip of that kind
SHORTEST_STRIP, LONGEST_STRIP = 8.0, 0.3  # pixels at size 192; share of the object's extent


@dataclass
class DrawnObject:
    """An object, first in a patch of its own, then at its place in the image."""

    label: int
    layer: Layer
    laws: Floats  # (4, 3), in pixels of the patch until the object is placed, of the image afterwards
    outer_box: Box = (0, 0, 0, 0)  # every side at its outermost place, in the image
    zones: tuple[Box, ...] = ()  # where its ambiguous sides may lie, in the image


def make_object(rng: Generator, scale: float, wants_ambiguity: bool) -> DrawnObject:
    """Draw an object of a random class, size, stretch and turn into a patch.

    Args:
        rng: where the choices come from.
        scale: size of the image over 192; the object's box is 24..110 pixels long at scale 1.
        wants_ambiguity: whether to make one or two of its sides ambiguous.
    """
    label = int(rng.integers(len(SHAPES)))
    shape = SHAPES[label]
    smallest = 34 if wants_ambiguity else 24
    extent = smallest * (110 / smallest) ** rng.random() * scale  # even in the logarithm
    stretch = np.exp(rng.uniform(-1, 1) * {"box": 0.4, "ring": 0.15}.get(shape, 0.25))
    # Rotated flat sides have no ramp along an axis, hence only small turns of ambiguous objects.
    angle = np.deg2rad(rng.uniform(-1, 1) * (2 if wants_ambiguity else 22))
    opacity = draw_opacity(shape, extent, float(stretch), float(angle))
    if wants_ambiguity:
        opacity = np.pad(opacity, int(np.ceil(LONGEST_STRIP * extent + SHORTEST_STRIP * scale)))
    mask = opacity >= 0.5
    box = tight_box(mask)
    assert box is not None, "the smallest shape covers some pixels"
    layer = Layer(mask, opacity, np.zeros_like(opacity), (0, 0), sharp=True)
    thing = DrawnObject(label, layer, sharp_laws(box))
    if wants_ambiguity:
        sides = rng.permutation(4)[: 1 if rng.random() < 0.7 else 2]
        for side in sides.tolist():
            if not (rng.random() < 0.6 and _add_ramp(rng, thing, side, scale)):
                _add_strip(rng, thing, side, scale)
        _crop_patch(thing)
    return thing


def sharp_laws(box: Box) -> Floats:
    """Laws of a box whose four sides are certain. (4, 3)."""
    laws = np.ones((4, 3), np.float32)
    laws[:, :2] = np.array(box, np.float32)[:, None]
    return laws


def _facing_right(patch: NDArray[Any], side: int) -> NDArray[Any]:
    """A view of a patch in which a side (0 left, 1 top, 2 right, 3 bottom) has become the right one."""
    turned = patch if side in (0, 2) else patch.T
    return turned if side in (2, 3) else turned[:, ::-1]


def _add_ramp(rng: Generator, thing: DrawnObject, side: int, scale: float) -> bool:
    """Let a side fade out; refuse where the shape is too narrow or too pointed for the fade to be seen."""
    mask = _facing_right(thing.layer.mask, side)
    box = tight_box(mask)
    assert box is not None, "an object covers some pixels"
    left, top, right, bottom = box
    width = min(rng.uniform(6, 24) * scale, 0.35 * (right - left))
    core = tight_box(mask[:, : int(right - width)])
    near_end = mask[:, right - max(1, round(0.12 * width)) - 1].sum()
    # The sides next to this one must reach their ends where the object is still opaque: they are sharp.
    if core is None or (core[1], core[3]) != (top, bottom):
        return False
    if width < 6 * scale or near_end < 0.25 * (bottom - top):
        return False
    columns = np.arange(mask.shape[1], dtype=np.float32) + 0.5
    opacity = _facing_right(thing.layer.opacity, side)
    opacity *= np.clip((right - columns) / width, 0, 1)
    _set_law(thing, side, inner_by=width, outer_by=0, share=np.nan)
    return True


def _add_strip(rng: Generator, thing: DrawnObject, side: int, scale: float) -> None:
    """Attach a faint strip to a side, plain or barred."""
    mask = _facing_right(thing.layer.mask, side)
    box = tight_box(mask)
    assert box is not None, "an object covers some pixels"
    left, top, right, bottom = box
    length = round(max(rng.uniform(0.12, LONGEST_STRIP) * (right - left), SHORTEST_STRIP * scale))
    span = rng.uniform(0.4, 0.7) * (bottom - top)
    # Centered where the object reaches farthest, so that the strip of a pointed shape holds on to its point.
    middle = np.flatnonzero(mask[:, right - 2]).mean()
    start = round(float(np.clip(middle - span / 2, top, bottom - span)))
    rows = slice(start, start + round(span))
    columns = slice(right - round(0.35 * (right - left)), right + length)
    faint = np.full((mask.shape[0], 1), 0.38, np.float32)
    share = PLAIN_STRIP if rng.random() < 0.5 else BARRED_STRIP
    if share == BARRED_STRIP:
        bars = np.arange(-start, mask.shape[0] - start) % max(4, round(5 * scale))
        faint[:, 0] = np.where(bars < max(2, round(2.5 * scale)), 0.7, 0.15)
    beyond = ~np.maximum.accumulate(mask[:, ::-1], axis=1)[:, ::-1]  # no part of the object lies farther out
    _facing_right(thing.layer.strip, side)[rows, columns] = (beyond * faint)[rows, columns]
    _set_law(thing, side, inner_by=0, outer_by=length, share=share)


def _set_law(thing: DrawnObject, side: int, inner_by: float, outer_by: float, share: float) -> None:
    outwards = -1 if side < 2 else 1
    edge = thing.laws[side, 0]
    thing.laws[side] = edge - outwards * inner_by, edge + outwards * outer_by, share
    thing.layer.sharp = False


def _crop_patch(thing: DrawnObject) -> None:
    """Cut the empty rim off: what is painted costs time."""
    left, top, right, bottom = thing.laws[:, 1].astype(int).tolist()
    inside = (slice(top - 1, bottom + 1), slice(left - 1, right + 1))
    layer = thing.layer
    layer.mask, layer.opacity, layer.strip = layer.mask[inside], layer.opacity[inside], layer.strip[inside]
    thing.laws[:, :2] -= np.array([left - 1, top - 1] * 2, np.float32)[:, None]
