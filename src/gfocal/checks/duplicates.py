"""Images that a dataset holds twice, within a split or, worse, in two splits.

Equal images have the same pixels. Near-duplicates show the same view with another compression, size, brightness or
focus (``gfocal.data.fingerprints``).

Where images are not decoded (``gfocal check --fast``, and before training) files of equal bytes are found instead.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path

from gfocal.checks.findings import Box, Finding
from gfocal.checks.image_files import ImageFile
from gfocal.data.dataset import FileData
from gfocal.data.fingerprints import find_near_duplicates, is_uniform

TAIL_BYTES = 4096  # at the end of a file, compared first: the ends of two photographs differ
MAX_OPENED = 20_000  # images: larger sets are compared by path alone, to save time


def check_duplicates(images: Sequence[ImageFile], splits: dict[str, FileData]) -> list[Finding]:
    """A finding for each image that equals or nearly equals an earlier one; pairs across splits are preferred."""
    readable = [image for image in images if image.header is not None and not image.error]
    decoded = [image for image in readable if image.fingerprint is not None]
    groups = group_equal_images(decoded) if decoded else group_equal_files(readable)
    findings = [finding for group in groups for finding in _describe_equal(group, splits)]
    repeated = {id(image) for group in groups for image in group[1:]}
    single = [image for image in decoded if id(image) not in repeated]
    fingerprints = [image.fingerprint for image in single if image.fingerprint is not None]
    return findings + _describe_near(single, find_near_duplicates(fingerprints), splits)


def group_equal_images(images: Sequence[ImageFile]) -> list[list[ImageFile]]:
    """Groups of decoded images of equal pixels; images of a single color are left out."""
    groups: dict[bytes, list[ImageFile]] = {}
    for image in images:
        if image.fingerprint is not None and not is_uniform(image.fingerprint):
            groups.setdefault(image.fingerprint.digest, []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def group_equal_files(images: Iterable[ImageFile]) -> list[list[ImageFile]]:
    """Groups of files of equal bytes; only files of equal size are read."""
    by_size: dict[int, list[ImageFile]] = {}
    for image in images:
        by_size.setdefault(_read_size(image.path), []).append(image)
    groups: dict[bytes, list[ImageFile]] = {}
    for same_size in by_size.values():
        if len(same_size) > 1:
            for image in same_size:
                groups.setdefault(_read_digest(image.path), []).append(image)
    return [group for group in groups.values() if len(group) > 1]


def _describe_equal(group: Sequence[ImageFile], splits: dict[str, FileData]) -> Iterator[Finding]:
    first, *later = group
    for image in later:
        if first.split != image.split:
            code, place = "duplicate-across-splits", f" of {first.split}"
        else:
            code, place = "duplicate-image", ""
            if not _have_same_boxes(first, image, splits):
                code = "duplicate-image-other-boxes"
        same = "the same file" if first.path == image.path else "the same pixels"
        yield _make_finding(code, f"{same} as {first.path.name}{place}", image, first, splits)


def _describe_near(
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
        findings.append(_make_finding(code, text, images[b], images[a], splits))
    return findings


def _make_finding(code: str, text: str, image: ImageFile, earlier: ImageFile, splits: dict[str, FileData]) -> Finding:
    record, boxes = f"{earlier.path}", _read_boxes(image, splits)
    return Finding(code, str(image.path), record, text, image.split, image.path, boxes, earlier.path)


def _read_boxes(image: ImageFile, splits: dict[str, FileData]) -> tuple[Box, ...]:
    rows = splits[image.split].samples[image.index].boxes.tolist()
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in rows)


def _have_same_boxes(first: ImageFile, second: ImageFile, splits: dict[str, FileData]) -> bool:
    boxes = []
    for image in (first, second):
        sample, names = splits[image.split].samples[image.index], splits[image.split].names
        rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
        boxes.append(sorted((names[label], *map(round, box)) for box, label in rows))
    return boxes[0] == boxes[1]


def find_shared_images(train_data: FileData, val_data: FileData) -> list[tuple[Path, Path]]:
    """Pairs of a training and a validation image that are one file, or two files of equal bytes.

    Only files of equal size are opened, and only those of equal ends are read completely, each once. Files that
    cannot be read are passed over: they are reported where they are used.
    """
    train, val = _list_paths(train_data), _list_paths(val_data)
    both = set(train) & set(val)
    pairs = [(path, path) for path in val if path in both]
    if max(len(train), len(val)) > MAX_OPENED:
        return pairs
    groups = [(train, [path for path in val if path not in both])]
    for read_key in (_read_size, _read_tail, _read_digest):
        groups = [smaller for group in groups for smaller in _group_by(*group, read_key)]
    return pairs + [(train_paths[0], path) for train_paths, val_paths in groups for path in val_paths]


def _list_paths(data: FileData) -> list[Path]:
    table = data.table
    return [path for i in range(len(table)) if (path := table.path(i)) is not None]


def _group_by(
    train: Sequence[Path], val: Sequence[Path], read_key: Callable[[Path], Hashable]
) -> list[tuple[list[Path], list[Path]]]:
    """Groups of training and validation images with the same key; those of one side alone are left out."""
    groups: dict[Hashable, tuple[list[Path], list[Path]]] = {}
    for side, paths in enumerate((train, val)):
        for path in paths:
            try:
                groups.setdefault(read_key(path), ([], []))[side].append(path)
            except OSError:
                continue
    return [group for group in groups.values() if all(group)]


def _read_size(path: Path) -> int:
    return os.stat(path).st_size


def _read_tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, _read_size(path) - TAIL_BYTES))
        return file.read(TAIL_BYTES)


def _read_digest(path: Path) -> bytes:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
