"""Digests of image files, by which an image is known again wherever the file lies and whatever its name is.

A digest is of the length, the first and the last 4 KiB of a file: two photographs never share them, and
a copy has the same. 100,000 files take some seconds.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from gfocal.data.dataset import ImageData

PART = 4096  # bytes


def digest_image(path: Path) -> str | None:
    """The digest of a file, 16 characters; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            start = file.read(PART)
            length = file.seek(0, 2)
            file.seek(max(length - PART, 0))
            return hashlib.blake2b(start + file.read(PART) + length.to_bytes(8, "big"), digest_size=8).hexdigest()
    except OSError:
        return None


def digest_images(data: ImageData) -> list[str | None]:
    """The digest of the file of each image; None for synthetic images, and for files that cannot be read."""
    files = data.files
    if files is None:
        return [None] * len(data)
    paths = (files.table.path(index) for index in range(len(files)))
    return [None if path is None else digest_image(Path(path)) for path in paths]


def sorted_digests(data: ImageData) -> list[str]:
    """Each digest of ``digest_images`` that is known, once."""
    return sorted({digest for digest in digest_images(data) if digest is not None})
