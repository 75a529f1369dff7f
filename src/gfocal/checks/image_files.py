"""What every image file is: read once, header and pixels, by several threads that do not hold each other up."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfocal.checks.findings import Finding
from gfocal.data.dataset import FileData
from gfocal.data.images import ImageHeader, image_header, read_image
from gfocal.errors import ImageError

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "GIF": (".gif",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp", ".dib"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf"),
}
USUAL_MODES = ("RGB", "L", "P", "RGBA", "LA", "1")
TINY = 32  # pixels: what is not larger is one cell of C5
HUGE = 40_000_000  # pixels
BLANK = 1.0  # gray levels: standard deviation of the small gray copy
BLANK_SPREAD = 48  # gray levels: small things on an even ground leave no trace in the copy, but in the pixels

SMALL = 32  # side of the gray copy in pixels
CELLS = 16  # side of the grid whose neighbors are compared


@dataclass(frozen=True)
class Look:
    """What the pixels of an image are like, small enough to keep for every image of a dataset."""

    digest: bytes  # of the pixels; equal images have equal ones
    bits: npt.NDArray[np.uint8]  # (64,) 512 comparisons of neighbors, packed
    gray: npt.NDArray[np.uint8]  # (1024,) the image at 32x32
    spread: int = 0  # largest minus least value of the channel where that is most, 0..255


@dataclass(frozen=True)
class ImageFile:
    """One image of one split."""

    split: str
    index: int  # in its split
    path: Path
    header: ImageHeader | None  # None where it cannot be read
    look: Look | None  # None where it was not decoded
    error: str = ""


def read_images(
    splits: dict[str, FileData], jobs: int, fast: bool, on_image: Callable[[], None] = lambda: None
) -> list[ImageFile]:
    """Every image of all splits, in order; with ``fast`` the headers only.

    A file that several splits name is read for each of them: that is a finding of its own.
    """

    def read_one(task: tuple[str, int, Path, tuple[int, int] | None]) -> ImageFile:
        split, index, path, size = task
        header, look, error = None, None, ""
        try:
            header = image_header(path)
            if not fast:
                look = look_of(path, size)
        except ImageError as problem:
            error = str(problem)
        on_image()
        return ImageFile(split, index, path, header, look, error)

    tasks = [
        (name, i, sample.path, sample.size)
        for name, data in splits.items()
        for i, sample in enumerate(data.samples)
        if sample.path is not None
    ]
    # Reading changes the filters of warnings for a moment. Threads that do so at once may leave them changed.
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(read_one, tasks))


def look_of(path: Path, stated_size: tuple[int, int] | None = None) -> Look:
    """Decode an image as training does, and keep what tells it from others. Raises ImageError."""
    pixels = np.ascontiguousarray(read_image(path, stated_size).permute(1, 2, 0).numpy())
    digest = hashlib.blake2b(pixels.data, digest_size=16)
    digest.update(str(pixels.shape).encode())
    gray = Image.fromarray(pixels).convert("L")
    side = CELLS + 1
    grid = np.asarray(gray.resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    across, down = grid[:-1, 1:] > grid[:-1, :-1], grid[1:, :-1] > grid[:-1, :-1]
    bits = np.packbits(np.concatenate((across.ravel(), down.ravel())))
    small = np.asarray(gray.resize((SMALL, SMALL), Image.Resampling.BOX)).ravel()
    values = pixels.reshape(-1, 3)
    spread = (values.max(0).astype(np.int16) - values.min(0)).max() if len(values) else 0
    return Look(digest.digest(), bits, small, int(spread))


def equal_files(images: Iterable[ImageFile]) -> list[list[ImageFile]]:
    """Groups of files of equal bytes, without decoding: only those of equal size are read."""
    by_size: dict[int, list[ImageFile]] = {}
    for image in images:
        by_size.setdefault(os.path.getsize(image.path), []).append(image)
    groups: dict[bytes, list[ImageFile]] = {}
    for same_size in by_size.values():
        if len(same_size) > 1:
            for image in same_size:
                digest = hashlib.blake2b(image.path.read_bytes(), digest_size=16).digest()
                groups.setdefault(digest, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def image_findings(images: Sequence[ImageFile], splits: dict[str, FileData]) -> list[Finding]:
    """What is to be said of each image by itself."""
    findings = []
    for image in images:
        stated = splits[image.split].samples[image.index].size
        findings += [
            Finding(code, str(image.path), "", text, image.split, image.path if image.header else None)
            for code, text in _said(image, stated)
        ]
    return findings


def _said(image: ImageFile, size: tuple[int, int] | None) -> list[tuple[str, str]]:
    header = image.header
    if header is None or image.error:
        code = "decompression-bomb" if "MAX_IMAGE_PIXELS" in image.error else "unreadable-image"
        return [(code, image.error)]
    said = []
    height, width = header.size
    suffix = image.path.suffix.lower()
    if suffix not in SUFFIXES.get(header.kind, (suffix,)):
        said.append(("lying-extension", f"{header.kind} named {image.path.suffix or 'without an ending'}"))
    if header.mode not in USUAL_MODES:
        said.append(("unusual-pixels", f"pixels of PIL's mode {header.mode}"))
    if header.frames > 1:
        said.append(("several-frames", f"{header.frames} frames, the first one is used"))
    if header.orientation > 1:
        is_raw = header.orientation >= 5 and size == header.size and height != width
        what = "kept as stored, because the annotation states that size" if is_raw else "turned upright"
        said.append(("turned-image", f"EXIF orientation {header.orientation}: {what}"))
    if min(height, width) <= TINY:
        said.append(("tiny-image", f"{width}x{height} pixels"))
    if height * width > HUGE:
        said.append(("huge-image", f"{width}x{height}, {height * width / 1e6:.0f} million pixels"))
    if image.look is not None and image.look.gray.std() < BLANK and image.look.spread < BLANK_SPREAD:
        said.append(("blank-image", f"all of it about {int(image.look.gray.mean())} of 255"))
    return said
