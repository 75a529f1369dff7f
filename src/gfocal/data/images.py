"""Image files of any format -> upright 8-bit RGB tensors; the only module that opens images.

Images of more than 8 bits per channel are "deep": which of their values become 0 and 255 is a ``value_range``, see
``gfocal.data.value_range``.
"""

from __future__ import annotations

import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from gfocal.data.value_range import FULL, OPTION, Range, count_bits, to_8_bits
from gfocal.errors import ImageError, OpenFilesError
from gfocal.limits import ENOUGH_MEMORY, can_allocate, describe_out_of_files, is_out_of_files, is_out_of_memory

# A closed list, because the content selects the decoder: PIL would start Ghostscript for PostScript named .jpg.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "JPEG2000")

LIMIT_OPTION = "--max-megapixels"


@dataclass(frozen=True)
class EncodedImage:
    """The content of an image file that is no file: sent by a client, or a cell of a table."""

    content: bytes
    name: str = "image"  # by which errors name it

    def __str__(self) -> str:
        return self.name


Source: TypeAlias = str | Path | EncodedImage  # where the bytes of an image are

_EXIF_ORIENTATION = 0x0112
_BRANDS_OF_IMAGES = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1")  # in files like MP4
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Source, stated_size: tuple[int, int] | None = None, value_range: Range | None = None) -> Tensor:
    """Read an image as uint8 RGB (3, H, W), upright and contiguous.

    The EXIF orientation is applied, unless ``stated_size`` (height, width, from an annotation) is the size of the
    stored pixels and not that of the rotated image: then the boxes were annotated on the stored pixels, and these
    are returned. (A TIFF file is always rotated.)

    Transparent images are composited over white; of images of more than 8 bits, ``value_range`` is scaled to 0..255
    (None: 0..65535); CMYK is converted, with Adobe's inverted JPEGs detected; an animation gives its first frame. The
    format is detected from the content, not from the file name.

    Raises ImageError for a file that is missing, broken, truncated, of an unknown format, with values beyond 16 bits
    (unless the range is not that of a bit depth), or with more pixels than ``pixel_limit`` allows.
    """
    return read_pixels(path, stated_size, value_range).contiguous()


def read_pixels(path: Source, stated_size: tuple[int, int] | None = None, value_range: Range | None = None) -> Tensor:
    """As ``read_image``, but stored as decoders give it, the three channels of a pixel side by side (a view)."""
    with _open(path) as image:
        orientation = exif_orientation(image)
        rgb = decode_rgb(image, path, value_range)
        if image.format == "TIFF":
            orientation = 1  # PIL has rotated it on loading
        raw = (image.height, image.width)
        if orientation in _TRANSPOSITIONS and not _annotated_as_stored(stated_size, raw, orientation):
            rgb = rgb.transpose(_TRANSPOSITIONS[orientation])
        return torch.from_numpy(np.array(rgb)).permute(2, 0, 1)


def decode_rgb(image: Image.Image, file: Source | BytesIO, value_range: Range | None = None) -> Image.Image:
    """Decode an image that PIL has opened from a file, which is opened again for colors of more than 8 bits.

    It is not rotated, unless PIL does so on loading, which ``image`` tells afterwards.
    """
    needs_lower = _is_deep_color(image) and count_bits(value_range or FULL) != 16
    colors = _read_deep_color(file, image, value_range) if needs_lower else image
    image.load()
    return _to_rgb(colors, value_range)


def image_size(path: Source, stated_size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Height and width of what ``read_image`` returns for the same arguments, from the header of the file.

    About 0.1 ms per file on a local disk; pixels are not decoded (except those of a TIFF rotated by 90 degrees).
    Raises ImageError as ``read_image`` does, as far as the header shows the problem.
    """
    return size_and_orientation(path, stated_size)[0]


def size_and_orientation(path: Source, stated_size: tuple[int, int] | None = None) -> tuple[tuple[int, int], int]:
    """What ``image_size`` returns, and the EXIF orientation that ``read_image`` applies; 1 for none."""
    with _open(path) as image:
        orientation = exif_orientation(image)
        if image.format == "TIFF" and orientation >= 5:
            image.load()
            return (image.height, image.width), orientation
        raw = (image.height, image.width)
        if _annotated_as_stored(stated_size, raw, orientation):
            return raw, 1
        return raw if orientation < 5 else raw[::-1], orientation


@dataclass(frozen=True)
class ImageHeader:
    """The properties of an image file that need no decoding."""

    kind: str  # JPEG, PNG, ..., detected from the content
    mode: str  # PIL's pixel format: RGB, L, CMYK, I;16, ...
    size: tuple[int, int]  # height and width of the stored pixels
    orientation: int  # EXIF orientation, 1..8; 1 is upright
    frames: int  # frames of an animation, or pages; 1 for a single image
    is_deep: bool = False  # whether a channel has more than 8 bits


def image_header(path: Source) -> ImageHeader:
    """The header of an image file. Raises ImageError as ``image_size`` does."""
    with _open(path) as image:
        is_deep = is_deep_gray(image) or _is_deep_color(image)
        # A JPEG with a preview image appended (MPO) has one frame.
        frames = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
        kind = "JPEG" if image.format == "MPO" else image.format or ""
        return ImageHeader(kind, image.mode, (image.height, image.width), exif_orientation(image), frames, is_deep)


def value_bounds(path: Source) -> tuple[int, int]:
    """The lowest and the highest value in a deep image, without alpha. Raises ImageError as ``read_image`` does."""
    with _open(path) as image:
        values = np.asarray(image) if is_deep_gray(image) else _deep_colors(path, image)[..., :3]
        return int(values.min()), int(values.max())


def to_rgb_tensor(image: Image.Image, value_range: Range | None = None) -> Tensor:
    """A PIL image of any mode as uint8 RGB (3, H, W), upright, converted as by ``read_image``.

    Raises ImageError for pixels that cannot be converted to 8 bits.
    """
    try:
        rgb = _to_rgb(image, value_range)
    except ValueError as error:
        raise ImageError(f"{image!r}: {error}") from error
    orientation = exif_orientation(image)
    if orientation in _TRANSPOSITIONS:
        rgb = rgb.transpose(_TRANSPOSITIONS[orientation])
    return torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()


@contextmanager
def _open(path: Source) -> Iterator[Image.Image]:
    """Open an image; any exception inside the context becomes an ImageError of one line."""
    # Only PIL's own warnings: the limit on pixels is checked below, whatever the global warning filters are.
    with image_errors(path) as memory, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\b")
        with Image.open(_file_of(path), formats=FORMATS) as image:
            check_size(path, (image.height, image.width), max_pixels())
            memory.needed = max(memory.needed, 8 * image.width * image.height)
            yield image


@dataclass
class Memory:
    """What reading an image takes."""

    needed: int = ENOUGH_MEMORY  # bytes


@contextmanager
def image_errors(path: Source) -> Iterator[Memory]:
    """Any exception inside the context, of reading an image file, becomes an ImageError of one line."""
    if not isinstance(path, EncodedImage) and not os.path.isfile(path):
        reason = "is not a regular file" if os.path.exists(path) else "no such file"
        raise ImageError(f"{path}: {'a folder, not an image' if os.path.isdir(path) else reason}")
    memory = Memory()
    try:
        yield memory
    except ImageError:
        raise
    except UnidentifiedImageError:
        empty = not (path.content if isinstance(path, EncodedImage) else os.path.getsize(path))
        reason = "empty file" if empty else "not an image (JPEG, PNG, ...), or its start is broken"
        if not isinstance(path, EncodedImage) and begins_as_video(path):
            reason = "not an image, but begins as a video does: name it as one (.mp4, .mkv, ...) for 'gfocal detect'"
        raise ImageError(f"{path}: {reason}") from None
    except Image.DecompressionBombError:
        raise ImageError(f"{path}: more pixels than the limit ({LIMIT_OPTION} raises it)") from None
    except MemoryError as error:  # mostly an impossible length in the file
        if not can_allocate(memory.needed):
            raise
        raise ImageError(f"{path}: cannot be read: it needs more memory than is available") from error
    except Exception as error:  # on broken files the decoders raise nearly anything: struct.error, KeyError ...
        if is_out_of_files(error):
            raise OpenFilesError(describe_out_of_files()) from error
        if is_out_of_memory(error) and not can_allocate(memory.needed):
            raise MemoryError(str(error)) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{path}: cannot be read: {reason}") from error


def begins_as_video(path: str | Path) -> bool:
    """Whether a file begins as MP4 or MOV (ISO 14496-12), Matroska or WebM (RFC 8794) or AVI do."""
    with open(path, "rb") as file:
        head = file.read(12)
    is_mp4 = head[4:8] == b"ftyp" and head[8:12] not in _BRANDS_OF_IMAGES
    return is_mp4 or head[:4] == b"\x1a\x45\xdf\xa3" or (head[:4] == b"RIFF" and head[8:] == b"AVI ")


def _file_of(source: Source | BytesIO) -> str | Path | BytesIO:
    return BytesIO(source.content) if isinstance(source, EncodedImage) else source


def max_pixels() -> int | None:
    """The limit on the pixels of an image; None: no limit."""
    return Image.MAX_IMAGE_PIXELS


def set_max_pixels(limit: int | None) -> None:
    """Set the limit for this process; it is PIL's own."""
    Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def pixel_limit(megapixels: float | None) -> Iterator[None]:
    """Refuse images with more than so many million pixels, meanwhile; None: leave the limit as it is."""
    before = max_pixels()
    try:
        if megapixels is not None:
            set_max_pixels(int(megapixels * 1e6))
        yield
    finally:
        set_max_pixels(before)


def check_size(path: Source, size: tuple[int, int], limit: int | None) -> None:
    """Raise ImageError for an image of a height and width with more pixels than a limit; None: no limit."""
    pixels = size[0] * size[1]
    if limit is not None and pixels > limit:
        raise ImageError(
            f"{path}: {size[1]}x{size[0]} = {pixels / 1e6:.1f} megapixels, more than the limit of "
            f"{limit / 1e6:.1f} that guards the memory: allow it ({LIMIT_OPTION} {math.ceil(pixels / 1e6)}, in "
            "Python gfocal.data.images.pixel_limit), or cut the image into tiles"
        )


def exif_orientation(image: Image.Image) -> int:
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


def _to_rgb(image: Image.Image, value_range: Range | None = None) -> Image.Image:
    if is_deep_gray(image):
        return _from_deep_gray(image, value_range)
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range: save the image with 8 or 16 bits")
    if image.mode == "CMYK" and image.format == "JPEG" and "adobe" not in image.info:
        image = image.point(lambda value: 255 - value)  # PIL assumes that every CMYK JPEG is inverted, as Adobe's are
    if "transparency" in image.info or image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def is_deep_gray(image: Image.Image) -> bool:
    """Whether an image is gray with more than 8 bits."""
    return image.mode.startswith("I")


def _from_deep_gray(image: Image.Image, value_range: Range | None) -> Image.Image:
    values = np.asarray(image)
    if values.dtype != np.uint16 and values.size and count_bits(value_range or FULL) is not None:
        low, high = int(values.min()), int(values.max())
        if low < FULL[0] or high > FULL[1]:
            raise ValueError(
                f"gray values {low}..{high} are outside 0..65535: state which become black and white "
                f"({OPTION}=LOW..HIGH), or save the image with 8 or 16 bits"
            )
    return Image.fromarray(to_8_bits(values, value_range)).convert("RGB")


def _is_deep_color(image: Image.Image) -> bool:
    """Whether PIL will drop the lower byte of each value of a color image, or of gray with alpha."""
    return not is_deep_gray(image) and any(";16" in _raw_mode(tile) for tile in getattr(image, "tile", ()))


def _raw_mode(tile: Sequence[Any]) -> str:
    arguments = tile[3]
    found = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    return found if isinstance(found, str) else ""


def _read_deep_color(file: Source | BytesIO, image: Image.Image, value_range: Range | None) -> Image.Image:
    values = _deep_colors(file, image)
    colors = to_8_bits(values[..., :3], value_range)
    if values.shape[2] == 4:
        return Image.fromarray(np.dstack((colors, (values[..., 3] >> 8).astype(np.uint8))))
    return Image.fromarray(colors)


def _deep_colors(file: Source | BytesIO, image: Image.Image) -> npt.NDArray[np.uint16]:
    """The values (H, W, 3 or 4) of a color image of 16 bits, of which PIL gives the upper byte alone.

    In the other byte order the upper byte is the lower one: a second reading with that order gives it.
    """
    with Image.open(_file_of(file), formats=FORMATS) as again:
        again.tile = [_with_other_byte_order(tile) for tile in again.tile]
        lower = np.asarray(again)
    return np.asarray(image).astype(np.uint16) << 8 | lower


def _with_other_byte_order(tile: Sequence[Any]) -> Any:
    codec, extents, offset, arguments = tile
    mode = _raw_mode(tile)
    if mode[:-1] not in ("RGB;16", "RGBA;16"):
        raise ValueError(f"16-bit pixels of the kind {mode} can only be read as 0..65535: save them as RGB")
    is_little = mode.endswith("L") or (mode.endswith("N") and sys.byteorder == "little")
    other = mode[:-1] + ("B" if is_little else "L")
    new = (other, *arguments[1:]) if isinstance(arguments, tuple) else other
    return (
        type(tile)._make((codec, extents, offset, new)) if hasattr(tile, "_make") else (codec, extents, offset, new)
    )
