"""The same picture twice, exactly or nearly, within a split or, worse, across two.

Exactly: equal pixels. Nearly: another compression, size, brightness or focus of the same view. Two measures must
agree, so that pictures that only resemble each other are not named: at most an eighth of 512 comparisons of
neighbours differ, and the grey copies correlate to 0.95.
"""

# FOLDED doctor.shared_pictures: Before the first step: pictures that are trained on and judged on as well, which flatters every number.
from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from gfocal.checks.findings import Box, Finding
from gfocal.checks.image_files import BLANK, Look, PictureFile, equal_files
from gfocal.data.dataset import FileData, ImageData
from gfocal.text import counted

MOST_DIFFERENT = 64  # of 512 comparisons
LEAST_CORRELATION = 0.95
BANDS = 32  # groups of 16 comparisons: a pair is looked at when it agrees in one of them
MOST_IN_A_BAND = 200  # pictures that agree in a band: more of them say nothing


def duplicate_findings(pictures: Sequence[PictureFile], splits: dict[str, FileData]) -> list[Finding]:
    """One finding for each picture that an earlier one equals or nearly equals; pairs across splits come first."""
    readable = [picture for picture in pictures if picture.header is not None and not picture.error]
    decoded = [picture for picture in readable if picture.look is not None]
    groups = equal_groups(decoded) if decoded else equal_files(readable)
    findings = [finding for group in groups for finding in _equal(group, splits)]
    again = {id(picture) for group in groups for picture in group[1:]}
    single = [picture for picture in decoded if id(picture) not in again]
    looks = [picture.look for picture in single if picture.look is not None]
    return findings + _near(single, near_pairs(looks), splits)


def equal_groups(pictures: Sequence[PictureFile]) -> list[list[PictureFile]]:
    """Groups of decoded pictures of equal pixels; those of one colour are all alike, and no finding."""
    groups: dict[bytes, list[PictureFile]] = {}
    for picture in pictures:
        if picture.look is not None and picture.look.grey.std() >= BLANK:
            groups.setdefault(picture.look.digest, []).append(picture)
    return [group for group in groups.values() if len(group) > 1]


def near_pairs(looks: Sequence[Look]) -> list[tuple[int, int, float]]:
    """Pairs of pictures that nearly equal each other, and their correlation; i < j."""
    if len(looks) < 2:
        return []
    bits = np.stack([look.bits for look in looks])  # (N, 64)
    grey = np.stack([look.grey for look in looks]).astype(np.float32)  # (N, 1024)
    deviation = grey.std(1)
    grey -= grey.mean(1, keepdims=True)
    found: dict[tuple[int, int], float] = {}
    for i, j in _candidates(bits):
        differ = np.bitwise_count(bits[i] ^ bits[j]) if hasattr(np, "bitwise_count") else _ones(bits[i] ^ bits[j])
        alike = (differ.sum(-1) <= MOST_DIFFERENT) & (deviation[i] >= BLANK) & (deviation[j] >= BLANK)
        i, j = i[alike], j[alike]
        correlation = (grey[i] * grey[j]).mean(-1) / (deviation[i] * deviation[j])
        for a, b, value in zip(i.tolist(), j.tolist(), correlation.tolist(), strict=True):
            if value >= LEAST_CORRELATION:
                found[a, b] = value
    return [(a, b, value) for (a, b), value in sorted(found.items())]


def _ones(packed: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.unpackbits(packed, axis=-1)


def _candidates(bits: npt.NDArray[np.uint8]) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Pairs that agree in a whole band. The comparisons are spread over the bands, as neighbours say the same."""
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


def _equal(group: Sequence[PictureFile], splits: dict[str, FileData]) -> Iterator[Finding]:
    first, *later = group
    for picture in later:
        if first.split != picture.split:
            code, place = "duplicate-across-splits", f" of {first.split}"
        else:
            code, place = "duplicate-picture", ""
            if not _same_boxes(first, picture, splits):
                code = "duplicate-other-boxes"
        same = "the same file" if first.path == picture.path else "the same pixels"
        yield _finding(code, f"{same} as {first.path.name}{place}", picture, first, splits)


def _near(
    pictures: Sequence[PictureFile], pairs: Sequence[tuple[int, int, float]], splits: dict[str, FileData]
) -> list[Finding]:
    best: dict[int, tuple[bool, float, int]] = {}
    for a, b, correlation in pairs:
        across = pictures[a].split != pictures[b].split
        best[b] = max(best.get(b, (False, 0.0, a)), (across, correlation, a))
    findings = []
    for b, (across, correlation, a) in best.items():
        code = "near-duplicate-across-splits" if across else "near-duplicate-picture"
        place = f" of {pictures[a].split}" if across else ""
        text = f"nearly the same picture as {pictures[a].path.name}{place} (correlation {correlation:.3f})"
        findings.append(_finding(code, text, pictures[b], pictures[a], splits))
    return findings


def _finding(
    code: str, text: str, picture: PictureFile, earlier: PictureFile, splits: dict[str, FileData]
) -> Finding:
    record = f"{earlier.path}"
    return Finding(
        code, str(picture.path), record, text, picture.split, picture.path, _boxes(picture, splits), earlier.path
    )


def _boxes(picture: PictureFile, splits: dict[str, FileData]) -> tuple[Box, ...]:
    rows = splits[picture.split].samples[picture.index].boxes.tolist()
    return tuple((x1, y1, x2, y2) for x1, y1, x2, y2 in rows)


def _same_boxes(first: PictureFile, second: PictureFile, splits: dict[str, FileData]) -> bool:
    described = []
    for picture in (first, second):
        sample, names = splits[picture.split].samples[picture.index], splits[picture.split].names
        rows = zip(sample.boxes.tolist(), sample.labels.tolist(), strict=True)
        described.append(sorted((names[label], *map(round, box)) for box, label in rows))
    return described[0] == described[1]


TAIL = 4096  # bytes at the end of a file that are compared first: the ends of two photographs differ
MOST_OPENED = 20_000  # pictures: more of them are compared by their paths alone, for the time that it takes


def tell_shared(train_data: ImageData, val_data: ImageData | None, console: Console) -> None:
    """A warning where pictures of validation are training pictures too: one file, or files of equal bytes."""
    if not isinstance(train_data, FileData) or not isinstance(val_data, FileData):
        return
    pairs = shared_pictures(train_data, val_data)
    if not pairs:
        return
    first, other = pairs[0]
    which = str(first) if first == other else f"{first} is {other}"
    are = "is a training picture" if len(pairs) == 1 else "are training pictures"
    console.print(
        f"warning: {len(pairs)} of {counted(len(val_data), 'picture')} to validate on {are} too ({which}): AP and "
        "the choice of the best epoch are flattered; 'gfocal check' lists them, and those that are nearly the same",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def shared_pictures(train_data: FileData, val_data: FileData) -> list[tuple[Path, Path]]:
    """Pairs of a training and a validation picture that are one file, or two of equal bytes.

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
    """Groups of training and validation pictures that have a mark in common."""
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
