"""The page of the viewer: markup, style, scripts, and a block of data for each image, written one after another."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import IO, Any

from gfocal.atomic import atomic_write
from gfocal.text import pluralize, printable
from gfocal.visualize.drawing import PALETTE
from gfocal.visualize.viewer.pack import MAX_NAME, PackedImage

MAX_BYTES = 100_000_000  # of a page, unless asked for more
SCRIPTS = ("boxes.js", "labels.js", "stage.js", "show.js", "controls.js")
FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ViewerSettings:
    """What a page is about, beside its images."""

    title: str
    names: Sequence[str]  # of the classes, by label
    thresholds: Sequence[float] | None = (
        None  # score thresholds of the classes, which are chosen at first; None: none
    )
    calibration: dict[str, Any] | None = None  # of ``pack_calibration``
    coverage: float = 0.9  # that is chosen at first


@dataclass(frozen=True)
class ViewerFile:
    """A page that is to be written."""

    path: Path
    side: int | None = None  # longer side of its images, pixels; None: by their number, see ``choose_side``
    max_bytes: int = MAX_BYTES


@dataclass(frozen=True)
class WrittenViewer:
    """What ``write_viewer`` has written."""

    path: Path
    num_images: int
    num_without_pixels: int  # images for which the page had no space
    num_bytes: int

    def describe_missing(self) -> str | None:
        """That the page has no space for some images, and what to do; None where all are there."""
        if not self.num_without_pixels:
            return None
        return (
            f"{self.path}: of {self.num_without_pixels:,} of {pluralize(self.num_images, 'image')} it has the boxes "
            "alone, as the page would become too large; --viewer-mb allows more, --viewer-side makes images smaller"
        )


def write_viewer(
    path: str | os.PathLike[str],
    settings: ViewerSettings,
    images: Iterable[PackedImage],
    max_bytes: int = MAX_BYTES,
) -> WrittenViewer:
    """Write the page to ``path``, whole or not at all; the folder must exist. Memory holds one image at a time.

    Args:
        path: the html file.
        settings: title, classes, calibration.
        images: of ``pack_image``, with pixels as ``jpeg`` where the page is to show them.
        max_bytes: of the page; images that come later are shown without their pixels.
    """
    count = without = 0
    script = _read_script()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    head, tail = _read_markup().split("@DATA@")
    head = _skeleton(settings.title, digest) + head.replace("@TITLE@", _text(settings.title))
    tail = _settings_block(settings) + tail + f"<script>{script}</script></body></html>\n"
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        size = _write(file, head)
        for image in images:
            block = _image_block(image, count)
            is_small = size + len(block) + len(tail) <= max_bytes
            without += image.get("jpeg") is not None and not is_small
            count += 1
            size += _write(file, block if is_small else _image_block({**image, "jpeg": None}, count - 1))
        size += _write(file, tail)
    return WrittenViewer(Path(path), count, without, size)


def viewer_section(settings: ViewerSettings, images: Iterable[PackedImage]) -> str:
    """The viewer as a part of another page, which can hold one."""
    head, tail = _read_markup().replace("<h1>@TITLE@</h1>", "").split("@DATA@")
    blocks = "".join(_image_block(image, i) for i, image in enumerate(images))
    return (
        f"<style>{_read('viewer.css')}</style>"
        + head.replace('class="viewer whole"', 'class="viewer"')
        + f"{blocks}{_settings_block(settings)}{tail}<script>{_read_script()}</script>"
    )


@dataclass(frozen=True)
class ViewerParts:
    """What another page is made of that shows images as they come."""

    style: str
    markup: str  # with ``@DATA@`` where the blocks of settings and images are to be
    script: str  # statements, which look for those blocks at once


def viewer_parts() -> ViewerParts:
    """The parts of the page, without a title, settings and images."""
    return ViewerParts(
        _read("viewer.css"), _read_markup().replace("<h1>@TITLE@</h1>", ""), "\n".join(map(_read, SCRIPTS))
    )


def pack_settings(settings: ViewerSettings) -> dict[str, Any]:
    """The content of the block of settings, as json."""
    return {
        "names": [printable(name, MAX_NAME) for name in settings.names],
        "thresholds": None if settings.thresholds is None else list(settings.thresholds),
        "calibration": settings.calibration,
        "coverage": settings.coverage,
        "palette": [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in PALETTE],
    }


def _skeleton(title: str, digest: str) -> str:
    """All before the markup. The browser runs no other script, and loads nothing, whatever names may contain."""
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{_text(title)}</title><style>html,body{{margin:0;height:100%}}{_read('viewer.css')}</style></head>\n"
        "<body>"
    )


def _image_block(image: PackedImage, index: int) -> str:
    """Numbers and pixels apart: the pixels stay text until the image is looked at."""
    pixels = image.get("jpeg")
    numbers = {key: value for key, value in image.items() if key != "jpeg"}
    block = f'<script type="application/json" class="viewer-image">{_json(numbers)}</script>\n'
    if pixels is not None:
        assert pixels.isascii(), "base64"
        block += f'<script type="text/plain" data-pixels="{index}">{pixels}</script>\n'
    return block


def _settings_block(settings: ViewerSettings) -> str:
    return f'<script type="application/json" class="viewer-settings">{_json(pack_settings(settings))}</script>\n'


def _json(content: Any) -> str:
    """Json that cannot end the element it stands in, nor begin another."""
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _text(value: str) -> str:
    return escape(printable(value, MAX_NAME))


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _read_markup() -> str:
    return _read("viewer.html")


def _read_script() -> str:
    parts: Iterator[str] = (_read(name) for name in SCRIPTS)
    return '"use strict";\n(() => {\n' + "\n".join(parts) + "})();\n"


def _write(file: IO[bytes], text: str) -> int:
    return file.write(text.encode())
