"""The pixels of large images by rows, from the top; of many files without ever holding the whole image.

A TIFF is read by its strips or tiles. With libvips (``pip install 'gfocal[large]'``), so are large JPEG and PNG files
of the usual kind; everything else is decoded whole, within the limit on pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from gfocal.data.images import check_size, max_pixels, read_pixels
from gfocal.data.sequential import open_sequential
from gfocal.data.tiff_segments import open_tiff
from gfocal.data.value_range import Range

# Of an image that is read by rows, whose memory its width decides, so many times as many pixels are allowed as of one
# that is decoded whole: 8,900 megapixels unless the user has another limit.
LIMIT_FACTOR = 100

Pixels = npt.NDArray[np.uint8]


class Rows(Protocol):
    """An image that is read by rows."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    def read(self, top: int, bottom: int) -> Pixels:
        """Rows of RGB pixels, (bottom - top, W, 3); quick when ``top`` is not above rows that were read before."""


class ArrayRows:
    """An image in memory, uint8 (3, H, W)."""

    def __init__(self, image: Tensor) -> None:
        self.pixels: Pixels = image.permute(1, 2, 0).numpy(force=True)
        self.size = (int(image.shape[1]), int(image.shape[2]))

    def read(self, top: int, bottom: int) -> Pixels:
        """Rows of RGB pixels. (bottom - top, W, 3)"""
        return self.pixels[top:bottom]


@contextmanager
def open_rows(path: str | Path, value_range: Range | None = None) -> Iterator[Rows]:
    """The rows of an image file, as ``read_pixels`` would give them.

    Raises ImageError for a file that cannot be read, or has too many pixels: 100 times those of ``pixel_limit`` if it
    is read by rows.
    """
    rows = open_tiff(path, value_range) or open_sequential(path)
    if rows is None:
        yield ArrayRows(read_pixels(path, value_range=value_range))
        return
    with rows:
        limit = max_pixels()
        check_size(path, rows.size, None if limit is None else limit * LIMIT_FACTOR)
        yield rows
