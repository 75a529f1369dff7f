"""Detections shown in a notebook: their image with the boxes, and a table."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

from PIL import Image

from gfocal.errors import GFocalError
from gfocal.models.predict import as_rgb, range_of_images
from gfocal.structures import Color, Detection, Detections
from gfocal.structures.detected import Edges
from gfocal.visualize.annotate import draw_detections
from gfocal.visualize.drawing import class_color

MAX_SIDE = 900  # pixels of the shown image, which is part of the notebook's file
MAX_ROWS = 20


def draw_on_source(
    detections: Detections,
    image: Any = None,
    *,
    edges: Edges = "none",
    color: Color = "rgb",
) -> Image.Image:
    """All detections drawn on an image, or where None is given, on the one that they were found in.

    Raises ValueError where that one is not known, or is of another size; ImageError where its file cannot be read.
    """
    if image is not None:
        pixels = as_rgb(image, range_of_images([image]), color)
    else:
        source = detections.source
        if source is None or (image := source.get()) is None:
            raise ValueError("the image of these detections is not in memory any more: pass it, found.draw(image)")
        pixels = as_rgb(image, source.value_range, source.color)
    return draw_detections(pixels, detections, 0.0, edges=edges)


def detections_html(detections: Detections) -> str:
    """The image with the boxes, if there is still one, above a table of the best detections."""
    title = html.escape(repr(detections))
    try:
        shown = _image_tag(draw_on_source(detections))
    except (ValueError, OSError, GFocalError):  # the image is gone, or has changed since
        shown = ""
    rows = "".join(_row(one) for one in detections[:MAX_ROWS])
    if (more := len(detections) - MAX_ROWS) > 0:
        rows += f'<tr><td colspan="4">... {more:,} more</td></tr>'
    head = "<tr><th>class</th><th>score</th><th>box: x1, y1, x2, y2</th><th>edge_std</th></tr>"
    table = f"<table>{head}{rows}</table>" if rows else ""
    return f"<div><p><code>{title}</code></p>{shown}{table}</div>"


def _image_tag(image: Image.Image) -> str:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    content = base64.b64encode(file.getvalue()).decode()
    return f'<img style="max-width: 100%" alt="detections" src="data:image/jpeg;base64,{content}">'


def _row(one: Detection) -> str:
    red, green, blue = class_color(one.label)
    mark = f'<span style="color: rgb({red}, {green}, {blue})">&#9632;</span>'
    box = ", ".join(f"{v:.0f}" for v in one.box)
    std = "" if one.edge_std is None else ", ".join(f"{v:.1f}" for v in one.edge_std)
    name = html.escape(one.name)
    return f"<tr><td>{mark} {name}</td><td>{one.score:.2f}</td><td>{box}</td><td>{std}</td></tr>"
