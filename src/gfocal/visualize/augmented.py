"""Sheets of training images as the network sees them: augmented, resized, with their boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from gfocal.atomic import atomic_write
from gfocal.data.augmentation.pipeline import AugmentSettings, augmentation_for
from gfocal.data.dataset import ImageData
from gfocal.data.loading import Item, TrainingItems
from gfocal.data.preprocess import InputSettings
from gfocal.visualize.axes import INK
from gfocal.visualize.drawing import Color, Rect, as_pil_image, class_color, draw_box
from gfocal.visualize.labels import Label, draw_labels
from gfocal.visualize.lettering import letter, name_to_write

GAP, PAPER = 8, (255, 255, 255)
CAPTION_HEIGHT = 20
IGNORED: Color = (60, 60, 60)
PER_SHEET = 12
MIN_SIDE = 320  # smaller images are enlarged to this longer side, so that names can be read


def save_augmented_sheets(
    data: ImageData,
    augment: AugmentSettings,
    input_settings: InputSettings,
    folder: Path,
    *,
    count: int = 24,
    columns: int = 4,
    seed: int = 0,
    epoch: int = 0,
    epochs: int | None = None,
) -> list[Path]:
    """Draw images as a training epoch shows them, twelve on a sheet; returns the PNG files written, in order.

    They are exactly what a run with this seed trains on in this epoch (counted from 0). The images are evenly spaced
    in the data; where there are fewer than ``count``, each is drawn several times, as in successive epochs.
    ``epochs`` is the number of epochs of the run, in the last of which images may not be mixed; None: mixed in all.
    """
    items = TrainingItems(data, augmentation_for(augment, input_settings), input_settings, seed, epochs)
    shown = min(count, len(data))
    wanted = [(epoch + k // shown, (k % shown) * len(data) // shown) for k in range(count)]
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for start in range(0, count, PER_SHEET):
        part = wanted[start : start + PER_SHEET]
        tiles = []
        for of_epoch, index in part:
            item = items[of_epoch, index]
            caption = f"image {item.image_id}, epoch {of_epoch + 1}, {item.image.shape[2]}x{item.image.shape[1]}"
            tiles.append((draw_item(item, data.names), caption))
        path = folder / f"augmented_{start // PER_SHEET + 1}.png"
        with atomic_write(path) as temporary:
            sheet(tiles, min(columns, len(tiles))).save(temporary, format="PNG")
        paths.append(path)
    return paths


def draw_item(item: Item, names: Sequence[str]) -> Image.Image:
    """A network input as an image, with its ground truth in color and ignored boxes dashed."""
    image = as_pil_image(item.image)
    scale = max(1.0, MIN_SIDE / max(image.size))
    canvas = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(canvas, "RGBA")
    width, height = canvas.size
    boxes = [rect(box * scale) for box in item.boxes]
    rows = list(zip(boxes, item.labels.tolist(), item.ignored.tolist(), strict=True))
    for box, _, ignored in rows:
        if ignored:
            draw_ignored(draw, box)
    for box, label, ignored in rows:
        if not ignored:
            draw_box(draw, box, class_color(label), 2)
    labels = [
        Label((name_to_write(names, label),), box, class_color(label)) for box, label, ignored in rows if not ignored
    ]
    draw_labels(draw, labels, max(10, min(14, height // 20)), (0.0, 0.0, float(width), float(height)))
    return canvas


def rect(box: Tensor) -> Rect:
    """A box (4,) as a rectangle."""
    x0, y0, x1, y1 = box.tolist()
    return x0, y0, x1, y1


def draw_ignored(draw: ImageDraw.ImageDraw, box: Rect, dash: int = 6) -> None:
    """A dashed frame with sparse hatching, for what is neither ground truth nor background."""
    x0, y0, x1, y1 = (round(v) for v in box)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
    for offset in range(0, x1 - x0 + y1 - y0, 2 * dash):  # lines that rise to the right, clipped to the box
        low, high = max(0, offset - (y1 - y0)), min(offset, x1 - x0)
        draw.line((x0 + low, y0 + offset - low, x0 + high, y0 + offset - high), fill=(245, 245, 245), width=1)
    for color, shift in ((IGNORED, 0), ((245, 245, 245), dash)):
        for x in range(x0 + shift, x1, 2 * dash):
            for y in (y0, y1):
                draw.line((x, y, min(x + dash, x1), y), fill=color, width=2)
        for y in range(y0 + shift, y1, 2 * dash):
            for x in (x0, x1):
                draw.line((x, y, x, min(y + dash, y1)), fill=color, width=2)


def sheet(tiles: Sequence[tuple[Image.Image, str]], columns: int) -> Image.Image:
    """Images in rows, each with a line below it; a column is as wide as the widest image."""
    cell = max(max(image.width for image, _ in tiles), 150)
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(image.height for image, _ in row) + CAPTION_HEIGHT for row in rows]
    canvas = Image.new("RGB", (columns * (cell + GAP) + GAP, sum(heights) + GAP * (len(rows) + 1)), PAPER)
    draw, y = ImageDraw.Draw(canvas), GAP
    for row, height in zip(rows, heights, strict=True):
        for column, (image, caption) in enumerate(row):
            x = GAP + column * (cell + GAP)
            canvas.paste(image, (x, y))
            line = letter(caption, 12)
            draw.text((x, y + image.height + 2), line.text, font=line.font, fill=INK)
        y += height + GAP
    return canvas
