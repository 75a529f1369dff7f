"""Every image file, read once by several threads: its header, a fingerprint of its pixels, and its findings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from gfocal.checks.findings import Finding
from gfocal.data.dataset import FileData
from gfocal.data.fingerprints import Fingerprint, compute_fingerprint, is_uniform
from gfocal.data.images import LIMIT_OPTION, ImageHeader, image_header
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
TINY_SIDE = 32  # pixels: not more than one cell of C5
HUGE_AREA = 40_000_000  # pixels
BLANK_SPREAD = 48  # gray levels: small objects on a uniform ground show in the pixels, not in the gray copy


@dataclass(frozen=True)
class ImageFile:
    """One image of one split."""

    split: str
    index: int  # in its split
    path: Path
    header: ImageHeader | None  # None if it cannot be read
    fingerprint: Fingerprint | None  # None if it was not decoded
    error: str = ""


def read_images(
    splits: dict[str, FileData], jobs: int, fast: bool, on_image: Callable[[], None] = lambda: None
) -> list[ImageFile]:
    """Every image of all splits, in order; with ``fast`` the headers only.

    A file that several splits list is read for each of them: it is a finding of its own.
    """

    def read_one(task: tuple[str, int, Path, tuple[int, int] | None]) -> ImageFile:
        split, index, path, size = task
        value_range = splits[split].value_range
        header, fingerprint, error = None, None, ""
        try:
            header = image_header(path)
            if not fast:
                fingerprint = compute_fingerprint(path, size, value_range)
        except ImageError as problem:
            error = str(problem)
        on_image()
        return ImageFile(split, index, path, header, fingerprint, error)

    tasks = [
        (name, i, sample.path, sample.size)
        for name, data in splits.items()
        for i, sample in enumerate(data.samples)
        if sample.path is not None
    ]
    # Reading changes the warning filters for a moment. Threads that do so at the same time may leave them changed.
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(read_one, tasks))


def check_image_files(images: Sequence[ImageFile], splits: dict[str, FileData], depth: str = "") -> list[Finding]:
    """Findings of each image by itself; ``depth`` says how images of more than 8 bits are read."""
    findings = []
    for image in images:
        stated = splits[image.split].samples[image.index].size
        findings += [
            Finding(code, str(image.path), "", text, image.split, image.path if image.header else None)
            for code, text in _check_image(image, stated, depth)
        ]
    return findings


def _check_image(image: ImageFile, size: tuple[int, int] | None, depth: str) -> list[tuple[str, str]]:
    header = image.header
    if header is None or image.error:
        code = "decompression-bomb" if LIMIT_OPTION in image.error else "unreadable-image"
        return [(code, image.error)]
    found = []
    height, width = header.size
    suffix = image.path.suffix.lower()
    if suffix not in SUFFIXES.get(header.kind, (suffix,)):
        found.append(("wrong-extension", f"{header.kind} named {image.path.suffix or 'without an extension'}"))
    if header.is_deep:
        found.append(("high-bit-depth", depth or "more than 8 bits; the range of values was not looked at"))
    elif header.mode not in USUAL_MODES:
        found.append(("unusual-pixel-format", f"PIL mode {header.mode}"))
    if header.frames > 1:
        found.append(
            ("multi-frame-image", f"{header.frames - 1} of {header.frames} pages or frames are not looked at")
        )
    if header.orientation > 1:
        is_raw = header.orientation >= 5 and size == header.size and height != width
        what = "read as stored, since the annotation states that size" if is_raw else "rotated upright"
        found.append(("exif-rotated-image", f"EXIF orientation {header.orientation}: {what}"))
    if min(height, width) <= TINY_SIDE:
        found.append(("tiny-image", f"{width}x{height} pixels"))
    if height * width > HUGE_AREA:
        found.append(("huge-image", f"{width}x{height}, {height * width / 1e6:.0f} million pixels"))
    if image.fingerprint is not None and is_uniform(image.fingerprint) and image.fingerprint.spread < BLANK_SPREAD:
        found.append(("blank-image", f"all pixels are about {int(image.fingerprint.gray.mean())} of 255"))
    return found
