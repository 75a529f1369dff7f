"""The same image twice, exactly or nearly, within a split or, worse, across two.

Exactly: equal pixels. Nearly: another compression, size, brightness or focus of the same view. Two measures must
agree, so that images that only resemble each other are not named: at most an eighth of 512 comparisons of
neighbors differ, and the gray copies correlate to 0.95.
"""

# FOLDED doctor.shared_images: Before the first step: images that are trained on and evaluated on as well, which flatters every number.
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfocal.checks.findings import Box, Finding
from gfocal.checks.image_files import BLANK, ImageFile, Look, equal_files
from gfocal.console import warn
from gfocal.data.dataset import FileData, ImageData
from gfocal.text import counted

MOST_DIFFERENT = 64  # of 512 comparisons
LEAST_CORRELATION = 0.95
BANDS = 32  # groups of 16 comparisons: a pair is looked at when it agrees in one of them
MOST_IN_A_BAND = 200  # images that agree in a band: more of them say nothing


def duplicate_findings(images: Sequence[ImageFile], splits: dict[str, FileData]) -> list[Finding]:
    """One finding for each image that an earlier one equals or nearly equals; pairs across splits come first."""
    readable = [image for image in images if image.header is not None and not image.error]
    decoded = [image for image in readable if image.look is not None]
    groups = equal_groups(decoded) if decoded else equal_files(readable)
    findings = [finding for group in groups for finding in _equal(group, splits)]
    again = {id(image) for group in groups for image in group[1:]}
    single = [image for image in decoded if id(image) not in again]
    looks = [image.look for image in single if image.look is not None]
    return findings + _near(single, near_pairs(looks), splits)


def equal_groups(images: Sequence[ImageFile]) -> list[list[ImageFile]]:
    """Groups of decoded images of equal pixels; those of one color are all alike, and no finding."""
    groups: dict[bytes, list[ImageFile]] = {}
    for image in images:
        if image.look is not None and image.look.gray.std() >= BLANK:
            groups.setdefault(image.look.digest, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(looks: Sequence[Look]) -> list[tuple[int, int, float]]:
    """Pairs of images that nearly equal each other, and their correlation; i < j."""
    if len(looks) < 2:
        return []
    bits = np.stack([look.bits for look in looks])  # (N, 64)
    gray = np.stack([look.gray for look in looks]).astype(np.float32)  # (N, 1024)
    deviation = gray.std(1)
    gray -= gray.mean(1, keepdims=True)
    found: dict[tuple[int, int], float] = {}
    for i, j in _candidates(bits):
        differ = np.bitwise_count(bits[i] ^ bits[j]) if hasattr(np, "bitwise_count") else _ones(bits[i] ^ bits[j])
        alike = (differ.sum(-1) <= MOST_DIFFERENT) & (deviation[i] >= BLANK) & (deviation[j] >= BLANK)
        i, j = i[alike], j[alike]
        correlation = (gray[i] * gray[j]).mean(-1) / (deviation[i] * deviation[j])
        for a, b, value in zip(i.tolist(), j.tolist(), correlation.tolist(), strict=True):
            if value >= LEAST_CORRELATION:
                found[a, b] = value
    return [(a, b, value) for (a, b), value in sorted(found.items())]


def _ones(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.unpackbits(packed, axis=-1)


def _candidates(bits: npt.NDArray[np.uint8]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Pairs that agree in a whole band. The comparisons are spread over the bands, as neighbors say the same."""
    single = np.unpackbits(bits, axis=1)
    spread = np.random.default_rng(0).permutation(single.shape[1])
    bands = np.ascontiguousarray(np.packbits(single[:, spread], axis=1)).view(np.uint16)  # (N, 32)
    for band in bands.T[:BANDS]:
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.diff(band[order], prepend=band[order][0] ^ 1))
        for start, end in zip(starts, [*starts[1:], len(order)], strict=True):
            if 2 <= end - start <= MOST_IN_A_BAND:
                members = np.sort(order[start:end])
                first, second = np.triu_indices(len(members), 1)
                yield members[first], members[second]


def _equal(group: Sequence[ImageFile], splits: dict[str, FileData]) -> Iterator[Finding]:
    first, *later = group
    for image in later:
        if first.split != image.split:
            code, place = "duplicate-across-splits", f" of {first.split}"
        else:
            code, place = "duplicate-image", ""
            if not _same_boxes(first, image, splits):
                code = "duplicate-other-boxes"
        same = "the same file" if first.path == image.path else "the same pixels"
        yield _finding(code, f"{same} as {first.path.name}{place}", image, first, splits)


def _near(
    images: Sequence[ImageFile], pairs: Sequence[tuple[int, int, float]], splits: dict[str, FileData]
) -> list[Finding]:
    best: dict[int, tuple[bool, float, int]] = {}
    for a, b, correlation in pairs:
        across = images[a].split != images[b].split
        best[b] = max(best.get(b, (False, 0.0, a)), (across, correlation, a))
    findings = []
    for b, (across, correlation, a) in best.items():
        code = "near-duplicate-across-splits" if across else "near-duplicate-image"
        place = f" of {images[a].split}" if across else ""
        text = f"nearly the same image as {images[a].path.name}{place} (correlation {correlation:.3f})"
        findings.append(_finding(code, text, images[b], images[a], splits))
    return findings


def _finding(code: str, text: str, image: ImageFile, earlier: ImageFile, splits: dict[str, FileData]) -> Finding:
    record = f"{earlier.path}"
    return Finding(code, str(image.path), record, text, image.split, image.path, _boxes(image, splits), earlier.path)


def _boxes(image: ImageFile, splits: dict[str, FileData]) -> tuple[Box, ...]:
    rows = splits[image.split].samples[image.index].boxes.tolist()
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in rows)


def _same_boxes(first: ImageFile, second: ImageFile, splits: dict[str, FileData]) -> bool:
    described = []
    for image in (first, second):
        sample, names = splits[image.split].samples[image.index], splits[image.split].names
        rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
        described.append(sorted((names[label], *map(round, box)) for box, label in rows))
    return described[0] == described[1]


TAIL = 4096  # bytes at the end of a file that are compared first: the ends of two photographs differ
MOST_OPENED = 20_000  # images: more of them are compared by their paths alone, for the time that it takes


def tell_shared(train_data: ImageData, val_data: ImageData | None, console: Console) -> None:
    """A warning where images of validation are training images too: one file, or files of equal bytes."""
    if not isinstance(train_data, FileData) or not isinstance(val_data, FileData):
        return
    pairs = shared_images(train_data, val_data)
    if not pairs:
        return
    first, other = pairs[0]
    which = str(first) if first == other else f"{first} is {other}"
    are = "is a training image" if len(pairs) == 1 else "are training images"
    warn(
        console,
        f"{len(pairs)} of {counted(len(val_data), 'image')} to validate on {are} too ({which}): AP and "
        "the choice of the best epoch are flattered; 'gfocal check' lists them, and those that are nearly the same",
    )


def shared_images(train_data: FileData, val_data: FileData) -> list[tuple[Path, Path]]:
    """Pairs of a training and a validation image that are one file, or two of equal bytes.

    Only files of equal size are opened, and only those of equal ends are read whole, each once. Files that cannot be
    read are passed over: whoever reads them will say so.
    """
    train, val = _paths(train_data), _paths(val_data)
    both = set(train) & set(val)
    pairs = [(path, path) for path in val if path in both]
    if max(len(train), len(val)) > MOST_OPENED:
        return pairs
    groups = [(train, [path for path in val if path not in both])]
    for mark in (_size, _tail, _digest):
        groups = [smaller for group in groups for smaller in _split(*group, mark)]
    return pairs + [(train_paths[0], path) for train_paths, val_paths in groups for path in val_paths]


def _paths(data: FileData) -> list[Path]:
    table = data.table
    return [path for i in range(len(table)) if (path := table.path(i)) is not None]


def _split(
    train: Sequence[Path], val: Sequence[Path], mark: Callable[[Path], Hashable]
) -> list[tuple[list[Path], list[Path]]]:
    """Groups of training and validation images that have a mark in common."""
    groups: dict[Hashable, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((train, val)):
        for path in paths:
            try:
                groups.setdefault(mark(path), ([], []))[side].append(path)
            except OSError:
                continue
    return [group for group in groups.values() if all(group)]


def _size(path: Path) -> int:
    return os.stat(path).st_size


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _size(path) - TAIL))
        return file.read(TAIL)


def _digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
