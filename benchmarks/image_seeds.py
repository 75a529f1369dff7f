"""Small images of every kind that gfocal reads, for ``fuzz_images.py`` to break."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from typing import Any

import numpy as np
from PIL import Image


def seeds() -> dict[str, list[bytes]]:
    """Images of every kind that is read, small."""
    y, x = np.mgrid[:24, :40].astype(np.float64)
    colors = np.stack([x * 6, y * 10, (x * y) % 255], -1).astype(np.uint8)
    rgb = Image.fromarray(colors)
    deep = Image.fromarray((x * 1600 + y).astype(np.uint16))
    turned = Image.Exif()
    turned[0x0112] = 6
    other = rgb.transpose(Image.Transpose.ROTATE_180)
    frames: dict[str, Any] = {"save_all": True, "append_images": [other, rgb]}
    rgba = rgb.copy()
    rgba.putalpha(rgb.convert("L"))
    gray, palette, one = rgb.convert("L"), rgb.quantize(17), rgb.convert("1")
    made: list[tuple[str, Image.Image, dict[str, Any]]] = [
        *(("JPEG", rgb, options) for options in ({}, {"progressive": True}, {"exif": turned}, {"subsampling": 2})),
        *(("JPEG", rgb.convert(mode), {}) for mode in ("CMYK", "L")),
        ("JPEG", rgb, {"restart_marker_blocks": 2, "comment": b"x" * 40, "icc_profile": b"y" * 200}),
        *(("PNG", image, {}) for image in (rgb, rgba, gray, palette, one, deep)),
        *(("PNG", rgb, options) for options in ({"exif": turned}, frames, {"transparency": (0, 0, 0)})),
        ("PNG", palette, {"transparency": 3}),
        *(("GIF", image, options) for image, options in ((palette, {}), (gray, frames), (palette, {"interlace": 1}))),
        *(("WEBP", rgb, options) for options in ({}, {"lossless": True}, frames, {"exif": turned})),
        ("WEBP", rgba, {"lossless": True}),
        *(("TIFF", rgb, {"compression": c}) for c in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        *(("TIFF", one, {"compression": c}) for c in ("group3", "group4", "tiff_ccitt")),
        *(("TIFF", image, {}) for image in (deep, palette, rgb.convert("CMYK"), rgba, rgb.convert("LAB"))),
        *(("TIFF", rgb, options) for options in ({"exif": turned}, frames, {"big_tiff": True})),
        *(("BMP", image, {}) for image in (rgb, palette, one, rgba)),
        *(("PPM", image, {}) for image in (rgb, gray, one, deep)),
        *(("JPEG2000", image, {}) for image in (rgb, gray, rgba)),
        *(
            ("JPEG2000", rgb, options)
            for options in ({"no_jp2": True}, {"irreversible": True, "tile_size": (16, 16)})
        ),
    ]
    kinds: dict[str, list[bytes]] = {}
    for kind, image, options in made:
        stream = io.BytesIO()
        try:
            image.save(stream, format=kind, **options)
        except OSError as error:  # a Pillow that was built without this encoder
            print(f"no seed of {kind} {options}: {error}", file=sys.stderr)
            continue
        kinds.setdefault(kind.lower(), []).append(stream.getvalue())
    kinds["png"] += [interlaced_png(colors)]
    kinds["ppm"] += [
        b"P3\n# x\n2 2\n255\n" + b"1 2 3 " * 4,
        b"P1 3 2 0 1 0 1 1 0",
        b"Pf\n2 2\n-1.0\n" + b"\0\0\x80?" * 4,
    ]
    return kinds


def chunk(name: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with the right sum."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def interlaced_png(colors: np.ndarray[Any, Any]) -> bytes:
    """A PNG in seven passes, which PIL reads and does not write."""
    passes = [(0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1)]
    rows = b"".join(
        b"\0" + row.tobytes() for top, down, left, right in passes for row in colors[top::down, left::right]
    )
    head = struct.pack(">IIBBBBB", colors.shape[1], colors.shape[0], 8, 2, 0, 0, 1)
    chunks_of_it = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks_of_it
