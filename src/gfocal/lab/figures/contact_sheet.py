"""Images in rows and columns on one sheet, with headings and captions; drawn without matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from gfocal.atomic import atomic_write
from gfocal.visualize.axes import INK
from gfocal.visualize.drawing import Font, font_of

WIDTH = 912  # pixels, as the charts have
GAP, PAD = 10, 14
PAPER = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One image and the line below it."""

    image: Image.Image
    caption: str = ""


def save_contact_sheet(
    rows: Sequence[Sequence[Tile]],
    path: Path,
    *,
    title: str,
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    tallest: int = 420,
) -> None:
    """Lay out rows of images, each row as high as its highest image, and write PNG atomically.

    Images are scaled to the width of their column, but to no more than ``tallest`` pixels high. A column title
    stands over its column, a row title over its row.
    """
    columns = max(len(row) for row in rows)
    cell = (WIDTH - 2 * PAD - (columns - 1) * GAP) // columns
    fitted = [[_fitted(tile.image, cell, tallest) for tile in row] for row in rows]
    small, large = font_of(13), font_of(18)
    captions = [[_wrapped(tile.caption, small, cell) for tile in row] for row in rows]
    line = 17
    height = PAD + 30 + (24 if column_titles else 0)
    for i, row in enumerate(fitted):
        height += (24 if row_titles else 0) + max(p.height for p in row) + GAP
        height += line * max(len(lines) for lines in captions[i])
    canvas = Image.new("RGB", (WIDTH, height + PAD - GAP), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((PAD, PAD), title, font=large, fill=INK)
    y = PAD + 30
    for k, text in enumerate(column_titles):
        draw.text((PAD + k * (cell + GAP), y), text, font=font_of(15), fill=INK)
    y += 24 if column_titles else 0
    for i, row in enumerate(fitted):
        if row_titles:
            draw.text((PAD, y), row_titles[i], font=font_of(15), fill=INK)
            y += 24
        tall = max(image.height for image in row)
        for k, (image, lines) in enumerate(zip(row, captions[i], strict=True)):
            x = PAD + k * (cell + GAP)
            canvas.paste(image, (x, y))
            for number, text in enumerate(lines):
                draw.text((x, y + image.height + 3 + number * line), text, font=small, fill=INK)
        y += tall + line * max(len(lines) for lines in captions[i]) + GAP
    with atomic_write(path) as temporary:
        canvas.save(temporary, format="PNG")


def _fitted(image: Image.Image, width: int, tallest: int) -> Image.Image:
    scale = min(width / image.width, tallest / image.height)
    return image.resize((max(1, int(image.width * scale)), max(1, int(image.height * scale))))


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Lines that are no wider than a column, broken at spaces."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
