"""TIFF files by segments: the strips or tiles in which they store an image, each decoded alone.

PIL reads a TIFF whole. Here a segment is given to PIL as a TIFF of its own, in memory, with the same tags: all
compressions and kinds of pixels that PIL reads are read the same. (TIFF 6.0, Adobe 1992; BigTIFF.)
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL.TiffImagePlugin import TiffImageFile

from gfocal.data.images import decode_rgb, image_errors, max_pixels
from gfocal.data.value_range import Range
from gfocal.errors import ImageError

WIDTH, LENGTH, BITS, COMPRESSION, ORIENTATION, SAMPLES, PLANAR = 256, 257, 258, 259, 274, 277, 284
STRIP_OFFSETS, ROWS_PER_STRIP, STRIP_COUNTS = 273, 278, 279
TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
# What tells how pixels are stored: bits, compression, photometric interpretation, fill order, samples, fax options,
# predictor, color map, ink set, extra samples, sample format, tables of JPEG, and of YCbCr coefficients, subsampling,
# positioning and reference.
COPIED = (BITS, COMPRESSION, 262, 266, SAMPLES, 292, 293, 317, 320, 332, 338, 339, 347, 529, 530, 531, 532)
BYTES, SHORT, LONG, RATIONAL, UNDEFINED = 1, 3, 4, 5, 7  # types of a tag's values
RAW = 1  # compression: none
# Compressions whose segments are independent of each other: none, LZW, JPEG, Deflate (two numbers), PackBits, LZMA,
# Zstandard, WebP. The old JPEG (6) shares tables, and fax is not worth it.
SEPARATE = (RAW, 5, 7, 8, 32946, 32773, 34925, 50000, 50001)
RAW_ROWS = 64  # a strip without compression is read by so many rows
MAX_SEGMENTS = 50_000_000

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """Where the segments of a TIFF lie, and how they are decoded."""

    size: tuple[int, int]  # height and width of the image
    segment: tuple[int, int]  # height and width of a segment
    is_tiled: bool
    offsets: Sequence[int]  # bytes, of each segment in row order
    counts: Sequence[int]
    byte_order: str  # of struct
    tags: tuple[tuple[int, int, Any], ...]  # number, type and values

    @property
    def columns(self) -> int:
        """Segments side by side."""
        return -(-self.size[1] // self.segment[1])


class TiffRows:
    """The rows of a TIFF, of which it keeps one row of segments in memory."""

    def __init__(self, path: str | Path, file: BinaryIO, layout: Layout, value_range: Range | None) -> None:
        self.path, self.file, self.layout, self.value_range = path, file, layout, value_range
        self.size = layout.size
        self._number, self._row = -1, np.zeros((0, 0, 3), np.uint8)  # the row of segments that is kept

    def __enter__(self) -> TiffRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()

    def read(self, top: int, bottom: int) -> Pixels:
        """Rows of RGB pixels. (bottom - top, W, 3)

        Raises ImageError for segments that are broken.
        """
        height = self.layout.segment[0]
        parts = []
        with image_errors(self.path):
            for number in range(top // height, -(-bottom // height)):
                first = number * height
                parts.append(self._segments(number)[max(top - first, 0) : bottom - first])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _segments(self, number: int) -> Pixels:
        """A row of segments, side by side."""
        if number != self._number:
            columns = self.layout.columns
            segments = [self._decode(number, column) for column in range(columns)]
            row = segments[0] if columns == 1 else np.concatenate(segments, 1)
            self._number, self._row = number, row[:, : self.size[1]]
        return self._row

    def _decode(self, row: int, column: int) -> Pixels:
        layout = self.layout
        height, width = layout.segment
        if not layout.is_tiled:  # the last strip may be shorter
            height = min(height, layout.size[0] - row * height)
        index = row * layout.columns + column
        offset, count = layout.offsets[index], layout.counts[index]
        if not count:  # a sparse file leaves out what is empty
            return np.zeros((height, width, 3), np.uint8)
        self.file.seek(offset)
        stored = self.file.read(count)
        if len(stored) < count:
            raise ImageError(f"{self.path}: the file ends before its pixels: fetch or copy it again")
        small = BytesIO(wrap_segment(layout, (height, width), stored))
        with TiffImageFile(small) as image:
            return np.asarray(decode_rgb(image, BytesIO(small.getvalue()), self.value_range))


def open_tiff(path: str | Path, value_range: Range | None = None) -> TiffRows | None:
    """The rows of a TIFF file; None where it has to be read whole, as another format, or in one segment.

    Raises ImageError for a file that cannot be read.
    """
    with image_errors(path):
        file = open(path, "rb")  # noqa: SIM115 (closed by what is returned)
        try:
            layout = read_layout(file)
        except BaseException:
            file.close()
            raise
    if layout is None:
        file.close()
        return None
    return TiffRows(path, file, layout, value_range)


def read_layout(file: BinaryIO) -> Layout | None:
    """How the first image of a TIFF file is stored; None for what cannot be read by segments."""
    start = file.read(4)
    file.seek(0)
    if start not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        image = TiffImageFile(file)
    tags = image.tag_v2
    if tags.get(ORIENTATION, 1) != 1 or tags.get(PLANAR, 1) != 1 or tags.get(COMPRESSION, RAW) not in SEPARATE:
        return None
    height, width = int(tags[LENGTH]), int(tags[WIDTH])
    is_tiled = TILE_OFFSETS in tags
    offsets, counts = (TILE_OFFSETS, TILE_COUNTS) if is_tiled else (STRIP_OFFSETS, STRIP_COUNTS)
    segment = (
        (int(tags[TILE_LENGTH]), int(tags[TILE_WIDTH]))
        if is_tiled
        else (min(int(tags.get(ROWS_PER_STRIP, height)), height), width)
    )
    if offsets not in tags or counts not in tags or min(*segment, height, width) < 1:
        return None
    copied = tuple(_read_tag(tags, number) for number in COPIED if number in tags)
    layout = Layout(
        size=(height, width),
        segment=segment,
        is_tiled=is_tiled,
        offsets=_as_tuple(tags[offsets]),
        counts=_as_tuple(tags[counts]),
        byte_order="<" if start[:1] == b"I" else ">",
        tags=copied,
    )
    if tags.get(COMPRESSION, RAW) == RAW and not is_tiled:
        layout = _split_strips(layout, sum(_as_tuple(tags.get(BITS, 1))), int(tags.get(SAMPLES, 1)))
    limit = max_pixels()
    num_segments = -(-height // layout.segment[0]) * layout.columns
    if num_segments != len(layout.offsets) or num_segments != len(layout.counts) or num_segments > MAX_SEGMENTS:
        return None
    return None if limit is not None and layout.segment[0] * layout.segment[1] > limit else layout


def _split_strips(layout: Layout, bits: int, samples: int) -> Layout:
    """Strips without compression as shorter ones: some writers have one strip for the whole image."""
    (height, width), rows = layout.size, layout.segment[0]
    bits_of_pixel = bits if bits >= 8 * samples else bits * samples  # of fewer than 8 bits, or stated once for all
    row_bytes = -(-width * bits_of_pixel // 8)
    expected = [row_bytes * min(rows, height - i * rows) for i in range(len(layout.offsets))]
    if rows <= RAW_ROWS or list(layout.counts) != expected:
        return layout
    if len(layout.offsets) > 1 and rows % RAW_ROWS:
        return layout  # the pieces would have several heights
    offsets, counts = [], []
    for i, offset in enumerate(layout.offsets):
        for first in range(0, min(rows, height - i * rows), RAW_ROWS):
            offsets.append(offset + first * row_bytes)
            counts.append(row_bytes * min(RAW_ROWS, rows - first, height - i * rows - first))
    return Layout(layout.size, (RAW_ROWS, width), False, offsets, counts, layout.byte_order, layout.tags)


def _read_tag(tags: Any, number: int) -> tuple[int, int, Any]:
    """Number, type and values of a tag, as ``wrap_segment`` writes them."""
    value, kind = tags[number], tags.tagtype[number]
    if isinstance(value, bytes):
        return number, kind, value
    values = _as_tuple(value)
    if kind == RATIONAL:
        return number, kind, [part for v in values for part in (int(v.numerator), int(v.denominator))]
    return number, SHORT if max(values) <= 0xFFFF else LONG, [int(v) for v in values]


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def wrap_segment(layout: Layout, size: tuple[int, int], stored: bytes) -> bytes:
    """A segment as a TIFF file of its own, of a height and width."""
    order, (height, width) = layout.byte_order, size
    where = 8  # of the stored bytes, right behind the header; the directory comes last
    own = [(WIDTH, LONG, [width]), (LENGTH, LONG, [height]), (PLANAR, SHORT, [1])]
    if layout.is_tiled:
        own += [(TILE_WIDTH, LONG, [width]), (TILE_LENGTH, LONG, [height])]
        own += [(TILE_OFFSETS, LONG, [where]), (TILE_COUNTS, LONG, [len(stored)])]
    else:
        own += [(STRIP_OFFSETS, LONG, [where]), (ROWS_PER_STRIP, LONG, [height]), (STRIP_COUNTS, LONG, [len(stored)])]
    tags = sorted([*own, *layout.tags], key=lambda tag: tag[0])
    directory = where + len(stored) + len(stored) % 2
    behind = directory + 2 + 12 * len(tags) + 4  # values that do not fit into their entry
    entries, values = [], b""
    for number, kind, content in tags:
        packed = (
            content
            if isinstance(content, bytes)
            else struct.pack(f"{order}{len(content)}{'H' if kind == SHORT else 'I'}", *content)
        )
        count = len(packed) // {SHORT: 2, LONG: 4, RATIONAL: 8}.get(kind, 1)
        if len(packed) > 4:
            place = struct.pack(f"{order}I", behind + len(values))
            values += packed + b"\0" * (len(packed) % 2)
        else:
            place = packed.ljust(4, b"\0")
        entries.append(struct.pack(f"{order}HHI", number, kind, count) + place)
    header = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, directory)
    count_of_tags = struct.pack(f"{order}H", len(tags))
    padding = b"\0" * (len(stored) % 2)
    return b"".join([header, stored, padding, count_of_tags, *entries, b"\0\0\0\0", values])
