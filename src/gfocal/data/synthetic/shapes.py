"""Rendering of synthetic images: masks of shapes, fills, backgrounds, shadows, with numpy and Pillow.

Lengths are pixels of the image. An object is drawn into a small patch of its own with fourfold supersampling, so that
its border is smooth and the cost does not depend on the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Box = tuple[float, float, float, float]  # left, top, right, bottom

SHAPES: tuple[str, ...] = ("disc", "box", "triangle", "ring", "cross")
RING_HOLE = 0.55  # radius of the hole over the radius of the ring
SUPERSAMPLING = 4


@dataclass
class Layer:
    """What is painted of one object, in a patch whose top left pixel is at ``corner`` of the image."""

    mask: Bools  # (h, w) the pixels that the object covers
    opacity: Floats  # (h, w) 0..1 of the object
    strip: Floats  # (h, w) 0..1 of its faint extension, which is painted below the object
    corner: tuple[int, int]  # x, y
    sharp: bool  # no side is ambiguous

    def window(self, size: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Rows and columns of the part inside an image: in the image, and in the patch."""
        (height, width), (x, y) = self.mask.shape, self.corner
        top, left = max(y, 0), max(x, 0)
        bottom, right = max(min(y + height, size), top), max(min(x + width, size), left)
        there = (slice(top, bottom), slice(left, right))
        return there, (slice(top - y, bottom - y), slice(left - x, right - x))


@cache
def outline(shape: str) -> Floats:
    """Corners of a shape with a radius of about 1, y downwards. (V, 2)."""
    if shape in ("disc", "ring"):
        turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        corners = np.stack([np.cos(turn), np.sin(turn)], 1)
    elif shape == "box":
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    elif shape == "triangle":
        corners = np.array([[0, -1], [1, 0.75], [-1, 0.75]])
    else:
        assert shape == "cross", f"{shape} is not one of {SHAPES}"
        arm = 0.34
        quarter = np.array([[arm, -1], [arm, -arm], [1, -arm]])
        turns = [np.array([[0, -1], [1, 0]])] * 3
        rotations = [np.eye(2), turns[0], turns[0] @ turns[0], turns[0] @ turns[0] @ turns[0]]
        corners = np.concatenate([quarter @ rotation.T for rotation in rotations])
    return corners.astype(np.float32)


def draw_opacity(shape: str, extent: float, stretch: float, angle: float) -> Floats:
    """Opacity of a shape in the smallest patch with an empty rim of at least one pixel.

    Args:
        shape: one of ``SHAPES``.
        extent: the longer side of the shape's box, pixels.
        stretch: width over height before the rotation.
        angle: radians.

    Returns:
        (h, w), 0..1.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.diag([stretch**0.5, stretch**-0.5])
    corners = outline(shape) @ matrix.T
    low, high = corners.min(0), corners.max(0)
    zoom = extent / (high - low).max()
    width, height = (np.ceil((high - low) * zoom).astype(int) + 3).tolist()
    image = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    pen = ImageDraw.Draw(image)
    pen.polygon((((corners - low) * zoom + 1) * SUPERSAMPLING).ravel().tolist(), fill=255)
    if shape == "ring":
        pen.polygon((((corners * RING_HOLE - low) * zoom + 1) * SUPERSAMPLING).ravel().tolist(), fill=0)
    return np.asarray(image.reduce(SUPERSAMPLING), dtype=np.float32) / np.float32(255)


def tight_box(mask: Bools) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom edges of the True pixels; None if there are none."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if not len(rows):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@lru_cache(maxsize=4)
def texture_bank(key: tuple[int, ...], size: int) -> tuple[NDArray[np.uint8], Floats]:
    """Textures and noise from which crops are taken, the same for the same key.

    Returns:
        textures (12, T, T) uint8 and standard normal noise (T, T, 3), with T = 1.5 size.
    """
    rng = np.random.default_rng(key)
    side, scale = size * 3 // 2, size / 192
    y, x = np.mgrid[:side, :side].astype(np.float32) / scale
    textures = []
    for kind in range(12):
        field = sum(_clouds(rng, side, cells) * weight for cells, weight in ((4, 1.0), (9, 0.5), (21, 0.3)))
        period = rng.uniform(14, 40)
        angle = rng.uniform(0, np.pi)
        wave = 2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period
        if kind % 4 == 1:  # warped stripes, as of wood
            field = np.sin(wave + 3 * field) + 0.3 * field
        elif kind % 4 == 2:  # gravel
            field = np.tanh(2 * _clouds(rng, side, int(rng.integers(40, 90)))) + 0.5 * field
        elif kind % 4 == 3:  # weave
            across = 2 * np.pi * (y * np.cos(angle) - x * np.sin(angle)) / period
            field = np.sin(wave) * np.sin(across) + 0.6 * field
        low, high = np.quantile(field, [0.02, 0.98])
        textures.append((np.clip((field - low) / (high - low), 0, 1) * 255).astype(np.uint8))
    return np.stack(textures), rng.standard_normal((side, side, 3), dtype=np.float32)


def _clouds(rng: Generator, side: int, cells: int) -> Floats:
    grid = Image.fromarray(rng.standard_normal((cells + 3, cells + 3), dtype=np.float32))
    return np.asarray(grid.resize((side, side), Image.Resampling.BICUBIC))


def _crop(rng: Generator, field: NDArray[Any], size: int) -> NDArray[Any]:
    y, x = rng.integers(0, field.shape[0] - size + 1, 2)
    return field[y : y + size, x : x + size]


def paint(layers: list[Layer], size: int, bank_key: tuple[int, ...], rng: Generator) -> NDArray[np.uint8]:
    """Paint a scene: background, clutter, the layers in order, then blur and noise.

    Returns:
        (size, size, 3) uint8 RGB.
    """
    textures, noise = texture_bank(bank_key, size)
    scale = size / 192
    image = _background(rng, textures, size)
    _clutter(rng, image, scale)
    canvas = np.array(image)
    light = rng.uniform(-1, 1, 2)
    shift = np.round(light / max(np.abs(light).max(), 1e-6) * rng.uniform(2, 5) * scale).astype(int).tolist()
    for layer in layers:
        if layer.sharp and rng.random() < 0.5:
            _cast_shadow(canvas, layer, shift, rng.uniform(0.3, 0.55), scale)
        paint_layer(rng, canvas, layer, scale)
    image = Image.fromarray(canvas)
    if rng.random() < 0.7:
        image = image.filter(ImageFilter.BoxBlur(rng.uniform(0.2, 0.6) * scale))
    grain = _crop(rng, noise, size) * np.float32(rng.uniform(1, 7))
    grain += np.asarray(image)
    return np.clip(grain, 0, 255, out=grain).astype(np.uint8)


def _background(rng: Generator, textures: NDArray[np.uint8], size: int) -> Image.Image:
    texture = _crop(rng, textures[rng.integers(len(textures))], size)
    steps = np.linspace(-127, 127, size, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    share = rng.uniform(0.25, 1)
    extent = (1 - share) / (abs(np.cos(angle)) + abs(np.sin(angle)))
    slope = steps * np.float32(extent * np.cos(angle)) + (steps * np.float32(extent * np.sin(angle)))[:, None]
    level = (texture * np.float32(share) + (slope + np.float32(127 * (1 - share)))).astype(np.uint8)
    middle = rng.uniform(50, 205, 3)
    # A part common to all channels and a smaller independent one: backgrounds vary more in brightness than in hue.
    swing = rng.uniform(20, 70) * rng.choice([-1, 1]) + rng.uniform(-25, 25, 3)
    table = np.clip(middle + np.linspace(-0.5, 0.5, 256)[:, None] * swing, 0, 255).astype(np.uint8)
    image = Image.fromarray(level)
    image.putpalette(table.tobytes())
    return image.convert("RGB")


def _clutter(rng: Generator, image: Image.Image, scale: float) -> None:
    """Strokes, arcs and small blobs that are not objects."""
    pen, size = ImageDraw.Draw(image), image.width
    for kind in rng.choice(3, rng.integers(2, 9), p=[0.5, 0.2, 0.3]):
        color = tuple(rng.integers(0, 256, 3).tolist())
        x, y = rng.uniform(0, size, 2)
        line = max(1, round(rng.uniform(1, 2.4) * scale))
        if kind == 0:
            bends = np.array([x, y]) + np.cumsum(rng.normal(0, 16 * scale, (rng.integers(2, 5), 2)), 0)
            pen.line(bends.ravel().tolist(), fill=color, width=line)
        elif kind == 1:
            extent = rng.uniform(6, 22, 2) * scale
            start = rng.uniform(0, 360)
            pen.arc((x, y, x + extent[0], y + extent[1]), start, start + rng.uniform(50, 160), color, line)
        else:
            for dx, dy, r in rng.uniform([-3, -3, 1], [3, 3, 3], (3, 3)) * scale:
                pen.ellipse((x + dx - r, y + dy - r, x + dx + r, y + dy + r), fill=color)


def _cast_shadow(canvas: NDArray[np.uint8], layer: Layer, shift: list[int], depth: float, scale: float) -> None:
    rim = int(np.ceil(4 * scale))
    opacity = Image.fromarray((np.pad(layer.opacity, rim) * 255).astype(np.uint8))
    soft = np.asarray(opacity.filter(ImageFilter.BoxBlur(1.5 * scale)))
    corner = (layer.corner[0] + shift[0] - rim, layer.corner[1] + shift[1] - rim)
    there, here = replace(layer, mask=soft > 0, corner=corner).window(len(canvas))
    canvas[there] = canvas[there] * (1 - np.float32(depth / 255) * soft[here][..., None])


def paint_layer(rng: Generator, canvas: NDArray[np.uint8], layer: Layer, scale: float) -> None:
    """Paint one object, its faint extension first, in colors unlike the background, onto (H, W, 3) uint8."""
    there, here = layer.window(len(canvas))
    ground = canvas[there].astype(np.float32)
    behind = ground[::4, ::4].mean((0, 1))
    base = _color_unlike(rng, behind, 110)
    # The second color of the fill is a darker or lighter shade of the first one, or random. Of some candidates, the
    # one whose mixtures with the first color differ most from the background is taken: gradients stay visible.
    seconds = np.stack([base * 0.5, base * 0.5 + 127])
    if rng.random() < 0.25:
        seconds = rng.uniform(5, 250, (3, 3)).astype(np.float32)
    halfway, fully = (np.linalg.norm(base + t * (seconds - base) - behind, axis=1) for t in (0.5, 1))
    second = seconds[np.minimum(halfway, fully).argmax()]
    pattern = _fill(rng, layer.mask.shape, scale)[here][..., None]
    if not layer.sharp:
        ground += layer.strip[here][..., None] * (base - ground)
    fill = pattern * (second - base) + base
    ground += layer.opacity[here][..., None] * (fill - ground)
    canvas[there] = ground


def _color_unlike(rng: Generator, other: Floats, distance: float) -> Floats:
    """A random color at least ``distance`` from another one, or the farthest of some candidates."""
    colors = rng.uniform(5, 250, (8, 3)).astype(np.float32)
    gaps = np.linalg.norm(colors - other, axis=1)
    return colors[np.minimum(gaps, distance).argmax()]


def _fill(rng: Generator, shape: tuple[int, int], scale: float) -> Floats:
    """The fraction of the second color in every pixel of a patch. (h, w), 0..1."""
    height, width = shape
    kind = rng.integers(4)
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    along, across = x * cos + y * sin, y * cos - x * sin
    if kind == 0:  # plain
        return np.zeros(shape, np.float32)
    if kind == 1:  # gradient
        return (along - along.min()) / max(float(np.ptp(along)), 1e-6)
    turn = np.float32(2 * np.pi / (rng.uniform(6, 13) * scale))
    if kind == 2:  # stripes
        return np.clip(0.5 + 2.5 * np.sin(along * turn), 0, 1)
    return np.clip(0.2 + 2.5 * np.sin(along * turn) * np.sin(across * turn), 0, 1)  # dots
