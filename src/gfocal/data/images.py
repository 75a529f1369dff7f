"""Image files of any format -> upright 8-bit RGB tensors; the only module that opens images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gfocal.errors import ImageError

# A closed list, because the content selects the decoder: PIL would start Ghostscript for PostScript named .jpg.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")
SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".gif", ".webp", ".tif", ".tiff", ".bmp", ".ppm", ".pgm", ".jp2"))

_EXIF_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: str | Path, stated_size: tuple[int, int] | None = None) -> Tensor:
    """Read an image as uint8 RGB (3, H, W), upright.

    The EXIF orientation is applied, unless ``stated_size`` (height, width, from an annotation) is the size of the
    stored pixels and not that of the rotated image: then the boxes were annotated on the stored pixels, and these
    are returned. (A TIFF file is always rotated.)

    Transparent images are composited over white; 16-bit gray is scaled to 8 bits (65535 -> 255); CMYK is converted,
    with Adobe's inverted JPEGs detected; an animation gives its first frame. The format is detected from the content,
    not from the file name.

    Raises ImageError for a file that is missing, broken, truncated, of an unknown format, with pixels of more than
    16 bits, or with more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels.
    """
    with _open(path) as image:
        orientation = _orientation(image)
        image.load()
        if image.format == "TIFF":
            orientation = 1  # PIL has rotated it on loading
        raw = (image.height, image.width)
        rgb = _to_rgb(image)
        if orientation in _TRANSPOSITIONS and not _annotated_as_stored(stated_size, raw, orientation):
            rgb = rgb.transpose(_TRANSPOSITIONS[orientation])
        return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


def image_size(path: str | Path, stated_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of what ``read_image`` returns for the same arguments, from the header of the file.

    About 0.1 ms per file on a local disk; pixels are not decoded (except those of a TIFF rotated by 90 degrees).
    Raises ImageError as ``read_image`` does, as far as the header shows the problem.
    """
    with _open(path) as image:
        orientation = _orientation(image)
        if image.format == "TIFF" and orientation >= 5:
            image.load()
            return image.height, image.width
        raw = (image.height, image.width)
        if orientation < 5 or _annotated_as_stored(stated_size, raw, orientation):
            return raw
        return raw[::-1]


@dataclass(frozen=True)
class ImageHeader:
    """The properties of an image file that need no decoding."""

    kind: str  # JPEG, PNG, ..., detected from the content
    mode: str  # PIL's pixel format: RGB, L, CMYK, I;16, ...
    size: tuple[int, int]  # height and width of the stored pixels
    orientation: int  # EXIF orientation, 1..8; 1 is upright
    frames: int  # frames of an animation, or pages; 1 for a single image


def image_header(path: str | Path) -> ImageHeader:
    """The header of an image file. Raises ImageError as ``image_size`` does."""
    with _open(path) as image:
        # A JPEG with a preview image appended (MPO) has one frame.
        frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
        kind = "JPEG" if image.format == "MPO" else image.format or ""
        return ImageHeader(kind, image.mode, (image.height, image.width), _orientation(image), frames)


def to_rgb_tensor(image: Image.Image) -> Tensor:
    """A PIL image of any mode as uint8 RGB (3, H, W), upright, converted as by ``read_image``.

    Raises ImageError for pixels that cannot be converted to 8 bits.
    """
    try:
        rgb = _to_rgb(image)
    except ValueError as error:
        raise ImageError(f"{image!r}: {error}") from error
    orientation = _orientation(image)
    if orientation in _TRANSPOSITIONS:
        rgb = rgb.transpose(_TRANSPOSITIONS[orientation])
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


@contextmanager
def _open(path: str | Path) -> Iterator[Image.Image]:
    """Open an image; any exception inside the context becomes an ImageError of one line."""
    if not os.path.isfile(path):
        reason = "is not a regular file" if os.path.exists(path) else "no such file"
        raise ImageError(f"{path}: {'a folder, not an image' if os.path.isdir(path) else reason}")
    try:
        # Only PIL's own warnings: the limit on pixels is checked below, whatever the global warning filters are.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\b")
            with Image.open(path, formats=FORMATS) as image:
                _check_pixel_limit(path, image)
                yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        empty = os.path.getsize(path) == 0
        reason = "empty file" if empty else "not an image (JPEG, PNG, ...), or its start is broken"
        raise ImageError(f"{path}: {reason}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more pixels than PIL.Image.MAX_IMAGE_PIXELS") from None
    except MemoryError as error:  # mostly an impossible length in the file
        raise ImageError(f"{path}: cannot be read: it needs more memory than is available") from error
    except Exception as error:  # on broken files the decoders raise nearly anything: struct.error, KeyError ...
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: cannot be read: {reason}") from error


def _check_pixel_limit(path: str | Path, image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise ImageError(
            f"{path}: {image.width}x{image.height}, more than the {limit} pixels of PIL.Image.MAX_IMAGE_PIXELS"
        )


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8 from the header; 1 if there is none or it cannot be read."""
    try:
        if image.format == "PNG":  # getexif would decode the pixels to search for EXIF data behind them
            exif = Image.Exif()
            exif.load(image.info.get("exif") or b"")
        else:
            exif = image.getexif()
        value = exif.get(_EXIF_ORIENTATION, 1)
    except Exception:  # a broken EXIF block does not make the image unreadable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _annotated_as_stored(stated_size: tuple[int, int] | None, raw: tuple[int, int], orientation: int) -> bool:
    rotated = raw[::-1] if orientation >= 5 else raw
    return stated_size is not None and tuple(stated_size) == raw != rotated


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range: save the image with 8 or 16 bits")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = image.point(lambda value: 255 - value)  # PIL assumes that every CMYK JPEG is inverted, as Adobe's are
    if "transparency" in image.info or image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ValueError("gray values outside 0..65535: save the image with 8 or 16 bits")
    gray = ((values * 255 + 32767) // 65535).astype(np.uint8)
    return Image.fromarray(gray).convert("RGB")
