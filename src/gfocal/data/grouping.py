"""Which images must not be divided between splits: copies of one image, near-duplicates, frames of one sequence.

The rule, in this order:

1. Images of the same pixels, near-duplicates (``gfocal.data.fingerprints``), and copies that Roboflow made of one
   image (``name.rf.HASH.jpg``) stay together.
2. Images of one folder whose names differ in the last number alone, at least ``MIN_FRAMES`` of them, are in the order
   of that number; if the last number gives fewer, another number of the name is tried. They are frames of a sequence
   if half of them or more resemble the next one (correlation of the gray copies of ``SEQUENCE`` or more), and stay
   together. Photographs with running numbers do not resemble each other, and are divided freely; of them only those
   stay together that follow each other and are alike (``BURST``).
3. A sequence that is too large to be held out is cut into blocks of consecutive frames, where these are the least
   alike, never between near-duplicates.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfocal.data.fingerprints import BLANK_STD, Fingerprint, find_near_duplicates, is_uniform

MIN_FRAMES = 5
SEQUENCE = 0.6  # neighbors in folders of photographs have 0.1 in the median, in videos more than 0.8
BURST = 0.8
_COPY = re.compile(r"(_(jpe?g|png|bmp|tiff?))?\.rf\.[0-9a-zA-Z]+$")  # of Roboflow's names


@dataclass(frozen=True)
class Grouping:
    """A partition of images into groups that stay together."""

    groups: tuple[tuple[int, ...], ...]  # of indices of images, each ascending, by their first index
    num_similar: int  # images that are a copy or near-duplicate of another
    num_sequences: int
    cut: tuple[str, ...]  # sequences that were cut into blocks, as "frame_#.png"


class DisjointSets:
    """Sets of indices that can be united."""

    def __init__(self, count: int) -> None:
        self.above = list(range(count))

    def find(self, index: int) -> int:
        """The index that stands for the set of ``index``: its smallest."""
        while self.above[index] != index:
            self.above[index] = self.above[self.above[index]]
            index = self.above[index]
        return index

    def unite(self, indices: Iterable[int]) -> None:
        """Make one set of the sets of all these."""
        first, *others = sorted({self.find(index) for index in indices}) or [0]
        for other in others:
            self.above[other] = first

    def groups(self) -> tuple[tuple[int, ...], ...]:
        """The sets, each ascending, by their first index."""
        found: dict[int, list[int]] = {}
        for index in range(len(self.above)):
            found.setdefault(self.find(index), []).append(index)
        return tuple(tuple(group) for group in found.values())


def group_images(
    paths: Sequence[Path], fingerprints: Sequence[Fingerprint | None], max_images: int | None = None
) -> Grouping:
    """Group the images of a dataset.

    Args:
        paths: of the image files.
        fingerprints: of each of them; None for one that cannot be read, which is compared by its name alone.
        max_images: a sequence of more frames is cut into blocks of about a quarter of it. None: none is cut.
    """
    sets = DisjointSets(len(paths))
    for similar in (*_find_copies(paths), *_find_similar(fingerprints)):
        sets.unite(similar)
    num_similar = sum(len(group) for group in sets.groups() if len(group) > 1)
    num_sequences, cut = 0, []
    for name, frames in find_numbered(paths).items():
        alike = correlate_neighbors([fingerprints[index] for index in frames])
        if np.median(alike) < SEQUENCE:
            blocks = _cut_at(frames, [k + 1 for k, value in enumerate(alike) if value < BURST])
        elif max_images is None or len(frames) <= max_images:
            blocks, num_sequences = [frames], num_sequences + 1
        else:
            blocks = _cut_sequence(frames, alike, sets, max(1, max_images // 4))
            num_sequences += 1
            cut.append(name)
        for block in blocks:
            sets.unite(block)
    return Grouping(sets.groups(), num_similar, num_sequences, tuple(cut))


def find_numbered(paths: Sequence[Path]) -> dict[str, list[int]]:
    """Images of one folder whose names differ in one number alone, in the order of that number; each image once.

    The keys are names with ``#`` for the number. Images with fewer than ``MIN_FRAMES`` such neighbors are left out.
    """
    numbers = [list(re.finditer("[0-9]+", _COPY.sub("", path.stem))) for path in paths]
    left = set(range(len(paths)))
    result: dict[str, list[int]] = {}
    for place in range(1, 1 + max(map(len, numbers), default=0)):
        found: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for index in sorted(left):
            if len(numbers[index]) >= place:
                match = numbers[index][-place]
                stem = match.string[: match.start()] + "#" + match.string[match.end() :]
                key = str(paths[index].parent), stem + paths[index].suffix
                found.setdefault(key, []).append((int(match.group()), index))
        for (folder, name), members in found.items():
            if len(members) >= MIN_FRAMES:
                frames = [index for _, index in sorted(members)]
                result[str(Path(folder, name))] = frames
                left -= set(frames)
    return result


def correlate_neighbors(fingerprints: Sequence[Fingerprint | None]) -> npt.NDArray[np.float64]:
    """The correlation of each gray copy with the next one, -1..1; 0 where one is missing or of a single shade."""
    gray = np.zeros((len(fingerprints), 1024))
    for row, one in zip(gray, fingerprints, strict=True):
        if one is not None and one.gray.std() >= BLANK_STD:
            row[:] = (one.gray - one.gray.mean()) / one.gray.std()
    return (gray[1:] * gray[:-1]).mean(1)


def _find_copies(paths: Sequence[Path]) -> list[list[int]]:
    """Images that Roboflow's augmentation made of one."""
    found: dict[str, list[int]] = {}
    for index, path in enumerate(paths):
        if _COPY.search(path.stem):
            found.setdefault(_COPY.sub("", path.stem), []).append(index)
    return list(found.values())


def _find_similar(fingerprints: Sequence[Fingerprint | None]) -> list[list[int]]:
    """Images of the same pixels, and pairs of near-duplicates; images of a single color resemble none."""
    known = [(index, one) for index, one in enumerate(fingerprints) if one is not None and not is_uniform(one)]
    equal: dict[bytes, list[int]] = {}
    for index, one in known:
        equal.setdefault(one.digest, []).append(index)
    different = {group[0] for group in equal.values()}
    kept = [(index, one) for index, one in known if index in different]
    pairs = find_near_duplicates([one for _, one in kept])
    return [*equal.values(), *([kept[a][0], kept[b][0]] for a, b, _ in pairs)]


def _cut_sequence(
    frames: Sequence[int], alike: npt.NDArray[np.float64], sets: DisjointSets, length: int
) -> list[list[int]]:
    """Blocks of about ``length`` frames, cut near each multiple of it where frames are the least alike."""
    cuts = []
    reach = max(1, length // 2)
    for ideal in range(length, len(frames) - reach + 1, length):
        places = [
            (alike[k - 1], abs(k - ideal), k)
            for k in range(max(1, ideal - reach), min(len(frames), ideal + reach))
            if sets.find(frames[k - 1]) != sets.find(frames[k])
        ]
        cuts += [min(places)[2]] if places else []
    return _cut_at(frames, sorted(set(cuts)))


def _cut_at(frames: Sequence[int], cuts: Sequence[int]) -> list[list[int]]:
    """Blocks that start at 0 and at each of some ascending places."""
    return [list(frames[a:b]) for a, b in zip([0, *cuts], [*cuts, len(frames)], strict=True)]
