"""Large JPEG and PNG files decoded from the top in little memory, by libvips (LGPL), where that is installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from gfocal.data.images import exif_orientation, image_errors

MIN_PIXELS = 64_000_000  # smaller images are decoded whole, by the same decoder as everywhere
STARTS = {b"\xff\xd8\xff": JpegImageFile, b"\x89PNG\r\n\x1a\n": PngImageFile}


class SequentialRows:
    """The rows of an image that libvips decodes from the top; one that goes back starts again."""

    def __init__(self, path: str | Path, size: tuple[int, int], is_png: bool) -> None:
        self.path, self.size, self.is_png = path, size, is_png
        self._region: Any = None
        self._next = 0  # row

    def __enter__(self) -> SequentialRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._region = None

    def read(self, top: int, bottom: int) -> npt.NDArray[np.uint8]:
        """Rows of RGB pixels. (bottom - top, W, 3)

        Raises ImageError for a file that is broken.
        """
        with image_errors(self.path):
            if self._region is None or top < self._next:
                self._region = self._open()
            self._next = bottom
            width = self.size[1]
            pixels = np.frombuffer(self._region.fetch(0, top, width, bottom - top), np.uint8)
            pixels = pixels.reshape(bottom - top, width, -1)
            return pixels if pixels.shape[2] == 3 else pixels.repeat(3, 2)

    def _open(self) -> Any:
        import pyvips

        # By the decoder of the format that the header has, not by any that libvips knows.
        load = pyvips.Image.pngload if self.is_png else pyvips.Image.jpegload
        return pyvips.Region.new(load(str(self.path), access="sequential", fail_on="truncated"))


def open_sequential(path: str | Path) -> SequentialRows | None:
    """The rows of a large JPEG or PNG; None where it has to be decoded whole: other kinds, or without libvips.

    Progressive and interlaced files are decoded whole by any decoder; rotated ones would be read against their rows.

    Raises ImageError for a file whose header cannot be read.
    """
    with image_errors(path), open(path, "rb") as file:
        start = file.read(8)
        plugin = next((one for magic, one in STARTS.items() if start.startswith(magic)), None)
        if plugin is None or importlib.util.find_spec("pyvips") is None:
            return None
        file.seek(0)
        image = plugin(file)
        is_plain = image.mode in ("RGB", "L") and not {"transparency", "progressive", "interlace"} & {
            key for key, value in image.info.items() if value
        }
        is_deep = ";16" in str(image.tile)
        if not is_plain or is_deep or image.width * image.height < MIN_PIXELS or exif_orientation(image) != 1:
            return None
        return SequentialRows(path, (image.height, image.width), plugin is PngImageFile)
