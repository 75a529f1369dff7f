"""Images in rows and columns on one sheet, with titles and captions; drawn without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from gfocal.atomic import atomic_write
from gfocal.visualize.axes import INK
from gfocal.visualize.lettering import Font, load_font

WIDTH = 912  # pixels, as the charts have
GAP, PAD = 10, 14
PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One image and its caption."""

    image: Image.Image
    caption: str = ""


def save_contact_sheet(
    rows: Sequence[Sequence[Tile]],
    path: Path,
    *,
    title: str,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    max_height: int = 420,
) -> None:
    """Arrange images in rows, each as high as its highest image, and write PNG atomically.

    Images are scaled to the width of their column, but to at most ``max_height`` pixels high. Titles stand above
    their columns and rows.
    """
    columns = max(len(row) for row in rows)
    cell = (WIDTH - 2 * PAD - (columns - 1) * GAP) // columns
    resized = [[_resize_to_fit(tile.image, cell, max_height) for tile in row] for row in rows]
    small, large = load_font(13), load_font(18)
    captions = [[_wrap(tile.caption, small, cell) for tile in row] for row in rows]
    line = 17
    height = PAD + 30 + (24 if column_titles else 0)
    for i, row in enumerate(resized):
        height += (24 if row_titles else 0) + max(p.height for p in row) + GAP
        height += line * max(len(lines) for lines in captions[i])
    canvas = Image.new("RGB", (WIDTH, height + PAD - GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((PAD, PAD), title, font=large, fill=INK)
    y = PAD + 30
    for k, text in enumerate(column_titles):
        draw.text((PAD + k * (cell + GAP), y), text, font=load_font(15), fill=INK)
    y += 24 if column_titles else 0
    for i, row in enumerate(resized):
        if row_titles:
            draw.text((PAD, y), row_titles[i], font=load_font(15), fill=INK)
            y += 24
        row_height = max(image.height for image in row)
        for k, (image, lines) in enumerate(zip(row, captions[i], strict=True)):
            x = PAD + k * (cell + GAP)
            canvas.paste(image, (x, y))
            for number, text in enumerate(lines):
                draw.text((x, y + image.height + 3 + number * line), text, font=small, fill=INK)
        y += row_height + line * max(len(lines) for lines in captions[i]) + GAP
    with atomic_write(path) as temporary:
        canvas.save(temporary, format="PNG")


def _resize_to_fit(image: Image.Image, width: int, max_height: int) -> Image.Image:
    scale = min(width / image.width, max_height / image.height)
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines no wider than a column, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
