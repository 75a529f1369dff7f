"""Fingerprints of images, small enough to keep for a whole dataset; equal and nearly equal images by them.

Near-duplicates show the same view with another compression, size, brightness or focus. Two measures must agree, so
that images that only resemble each other are not found: at most an eighth of 512 comparisons of neighboring cells
differ, and the gray copies correlate to 0.95.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from gfocal.data.dataset import FileData
from gfocal.data.images import read_image
from gfocal.data.value_range import Range
from gfocal.errors import ImageError

BLANK_STD = 1.0  # gray levels, of the small gray copy
GRAY_SIDE = 32  # side of the gray copy in pixels
CELLS = 16  # side of the grid whose neighboring cells are compared

MAX_DIFFERENT_BITS = 64  # of 512 comparisons
MIN_CORRELATION = 0.95
BANDS = 32  # groups of 16 comparisons: a pair is a candidate if it agrees in one of them
MAX_IN_BAND = 200  # images that agree in a band: with more of them the agreement is meaningless


@dataclass(frozen=True)
class Fingerprint:
    """A summary of the pixels of an image, small enough to keep for every image of a dataset."""

    digest: bytes  # of the pixels; equal images have equal ones
    bits: npt.NDArray[np.uint8]  # (64,) 512 comparisons of neighbors, packed
    gray: npt.NDArray[np.uint8]  # (1024,) the image at 32x32
    spread: int = 0  # the largest range of values of a channel, 0..255


def compute_fingerprint(
    path: Path, stated_size: tuple[int, int] | None = None, value_range: Range | None = None
) -> Fingerprint:
    """Decode an image as training does, and summarize its pixels. Raises ImageError."""
    channels = read_image(path, stated_size, value_range)
    pixels = np.ascontiguousarray(channels.permute(1, 2, 0).numpy())
    digest = hashlib.blake2b(pixels.data, digest_size=16)
    digest.update(str(pixels.shape).encode())
    gray = Image.fromarray(pixels).convert("L")
    side = CELLS + 1
    grid = np.asarray(gray.resize((side, side), Image.Resampling.BOX), dtype=np.int16)
    across, down = grid[:-1, 1:] > grid[:-1, :-1], grid[1:, :-1] > grid[:-1, :-1]
    bits = np.packbits(np.concatenate((across.ravel(), down.ravel())))
    small = np.asarray(gray.resize((GRAY_SIDE, GRAY_SIDE), Image.Resampling.BOX)).ravel()
    flat = channels.flatten(1)
    spread = (flat.amax(1).int() - flat.amin(1).int()).max()
    return Fingerprint(digest.digest(), bits, small, int(spread))


def is_uniform(fingerprint: Fingerprint) -> bool:
    """Whether the gray copy is of one shade."""
    return bool(fingerprint.gray.std() < BLANK_STD)


def find_near_duplicates(fingerprints: Sequence[Fingerprint]) -> list[tuple[int, int, float]]:
    """Pairs of images that nearly equal each other, and their correlation; i < j."""
    if len(fingerprints) < 2:
        return []
    bits = np.stack([one.bits for one in fingerprints])  # (N, 64)
    gray = np.stack([one.gray for one in fingerprints]).astype(np.float32)  # (N, 1024)
    deviation = gray.std(1)
    gray -= gray.mean(1, keepdims=True)
    found: dict[tuple[int, int], float] = {}
    for i, j in _list_candidates(bits):
        differing = bits[i] ^ bits[j]
        count = np.bitwise_count(differing) if hasattr(np, "bitwise_count") else np.unpackbits(differing, axis=-1)
        similar = (count.sum(-1) <= MAX_DIFFERENT_BITS) & (deviation[i] >= BLANK_STD) & (deviation[j] >= BLANK_STD)
        i, j = i[similar], j[similar]
        correlation = (gray[i] * gray[j]).mean(-1) / (deviation[i] * deviation[j])
        for a, b, value in zip(i.tolist(), j.tolist(), correlation.tolist(), strict=True):
            if value >= MIN_CORRELATION:
                found[a, b] = value
    return [(a, b, value) for (a, b), value in sorted(found.items())]


def _list_candidates(bits: npt.NDArray[np.uint8]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Pairs that agree in a whole band. The comparisons are shuffled over the bands, as neighbors are correlated."""
    single = np.unpackbits(bits, axis=1)
    shuffled = np.random.default_rng(0).permutation(single.shape[1])
    bands = np.ascontiguousarray(np.packbits(single[:, shuffled], axis=1)).view(np.uint16)  # (N, 32)
    for band in bands.T[:BANDS]:
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][0] ^ 1))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            if 2 <= end - start <= MAX_IN_BAND:
                members = np.sort(order[start:end])
                first, second = np.triu_indices(len(members), 1)
                yield members[first], members[second]


def read_fingerprints(
    data: FileData, jobs: int = 1, on_image: Callable[[], None] = lambda: None
) -> list[Fingerprint | None]:
    """The fingerprint of each image of a dataset, by several threads; None for one that cannot be read."""

    def read_one(index: int) -> Fingerprint | None:
        path = data.table.path(index)
        height, width = data.table.sizes[index].tolist()
        if path is None:
            return None
        try:
            return compute_fingerprint(path, None if height < 0 else (height, width), data.value_range)
        except ImageError:
            return None
        finally:
            on_image()

    # Reading changes the warning filters for a moment. Threads that do so at the same time may leave them changed.
    with warnings.catch_warnings(), ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(read_one, range(len(data))))
