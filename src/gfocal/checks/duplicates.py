"""Images that a dataset holds twice, within a split or, worse, in two splits.

Equal images have the same pixels. Near-duplicates show the same view with another compression, size, brightness or
focus (``gfocal.data.fingerprints``).

Where images are not decoded (``gfocal check --fast``, and before training) files of equal bytes are found instead.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from gfocal.checks.box_changes import compare_boxes
from gfocal.checks.findings import Finding, GroupImage, MarkedBox
from gfocal.checks.image_files import ImageFile
from gfocal.data.dataset import FileData
from gfocal.data.fingerprints import find_near_duplicates, is_uniform

TAIL_BYTES = 4096  # at the end of a file, compared first: the ends of two photographs differ
MAX_COMPARED = 12  # images of a group whose boxes are compared with the first one's
MAX_OPENED = 20_000  # images: larger sets are compared by path alone, to save time


def check_duplicates(images: Sequence[ImageFile], splits: dict[str, FileData]) -> list[Finding]:
    """A finding for each group of images that are equal, or of those that are nearly equal."""
    readable = [image for image in images if image.header is not None and not image.error]
    decoded = [image for image in readable if image.fingerprint is not None]
    groups = group_equal_images(decoded) if decoded else group_equal_files(readable)
    findings = [_describe_equal(group, splits) for group in groups]
    repeated = {id(image) for group in groups for image in group[1:]}
    single = [image for image in decoded if id(image) not in repeated]
    fingerprints = [image.fingerprint for image in single if image.fingerprint is not None]
    for near, lowest in _join_pairs(find_near_duplicates(fingerprints)):
        findings.append(_describe_near([single[i] for i in near], lowest, splits))
    return findings


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


def _join_pairs(pairs: Sequence[tuple[int, int, float]]) -> list[tuple[list[int], float]]:
    """Groups of images that pairs connect, each with the lowest correlation of its pairs."""
    group_of: dict[int, int] = {}
    members: dict[int, list[int]] = {}
    lowest: dict[int, float] = {}
    for a, b, correlation in pairs:
        for image in (a, b):
            if image not in group_of:
                group_of[image], members[image], lowest[image] = image, [image], 1.0
        keep, gone = sorted((group_of[a], group_of[b]))
        if keep != gone:
            for image in members[gone]:
                group_of[image] = keep
            members[keep] += members.pop(gone)
            lowest[keep] = min(lowest[keep], lowest.pop(gone))
        lowest[keep] = min(lowest[keep], correlation)
    return [(sorted(images), lowest[group]) for group, images in members.items()]


def _describe_equal(group: Sequence[ImageFile], splits: dict[str, FileData]) -> Finding:
    images, changes = _compare(group, splits, is_equal=True)
    code = "duplicate-across-splits" if _is_across(group) else "duplicate-image"
    if changes and not _is_across(group):
        code = "duplicate-image-other-boxes"
    same = "the same file" if len({image.path for image in group}) == 1 else "the same pixels"
    text = f"{same} as {_name_first(group)}" if len(group) == 2 else f"one of {_count(group)} with {same}"
    return _make_finding(code, f"{text}; {changes}" if changes else text, group, images)


def _describe_near(group: Sequence[ImageFile], lowest: float, splits: dict[str, FileData]) -> Finding:
    images, _ = _compare(group, splits, is_equal=False)
    code = "near-duplicate-across-splits" if _is_across(group) else "near-duplicate-image"
    if len(group) == 2:
        text = f"nearly the same image as {_name_first(group)} (correlation {lowest:.3f})"
    else:
        text = f"one of {_count(group)} of nearly the same view (correlations from {lowest:.3f})"
    return _make_finding(code, text, group, images)


def _is_across(group: Sequence[ImageFile]) -> bool:
    return len({image.split for image in group}) > 1


def _name_first(group: Sequence[ImageFile]) -> str:
    return group[0].path.name + (f" of {group[0].split}" if _is_across(group) else "")


def _count(group: Sequence[ImageFile]) -> str:
    number = Counter(image.split for image in group)
    where = ", ".join(f"{count:,} of {split}" for split, count in number.items())
    return f"{len(group):,} images" + (f" ({where})" if len(number) > 1 else "")


def _compare(
    group: Sequence[ImageFile], splits: dict[str, FileData], *, is_equal: bool
) -> tuple[tuple[GroupImage, ...], str]:
    """The images of a group, each with what differs from the first; and that of the first image that differs."""
    first = group[0]
    first_sample, names = splits[first.split].samples[first.index], splits[first.split].names
    images, texts = [], []
    of_first: tuple[MarkedBox, ...] = ()
    for image in group[1:MAX_COMPARED]:
        data = splits[image.split]
        changes = compare_boxes(first_sample, data.samples[image.index], names, data.names, is_equal=is_equal)
        images.append(GroupImage(image.split, image.path, changes.second, changes.text))
        of_first = changes.first
        texts += [changes.text] if changes.text else []
    if len(group) > 2:  # each image differs otherwise
        of_first = tuple(MarkedBox(one.box) for one in of_first)
    images.insert(0, GroupImage(first.split, first.path, of_first))
    images += [GroupImage(image.split, image.path) for image in group[MAX_COMPARED:]]
    return tuple(images), texts[0] if texts else ""


def _make_finding(code: str, text: str, group: Sequence[ImageFile], images: tuple[GroupImage, ...]) -> Finding:
    first = group[0]
    later = next((image for image in group if image.split != first.split), group[1])
    return Finding(code, str(later.path), str(first.path), text, later.split, later.path, group=images)


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
