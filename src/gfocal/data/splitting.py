"""Divide a dataset into train, val and test: groups of images stay whole, classes and numbers of boxes in proportion.

After Sechidis et al., On the Stratification of Multi-Label Data (2011), groups with the rarest classes are placed
first. The numbers that are to be in proportion are images, objects of each class, and images with no, one, few and
many objects; then groups are moved and exchanged as long as that brings these numbers closer to their targets.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gfocal.data.dataset import FileData
from gfocal.data.fingerprints import read_fingerprints
from gfocal.data.grouping import Grouping, group_images
from gfocal.errors import DataError
from gfocal.text import one_line, pluralize

TRAIN = "train"
FEW = (0, 1, 2, 4, 8, 16)  # images are told apart by the last of these numbers of objects that they reach
MAX_CHANGES = 300
MAX_NAMED = 4  # images of a group
MAX_EXCHANGED = 300  # groups of a split that are tried for an exchange, drawn by the seed
STARTS = 4  # divisions that are made, of which the closest to the targets is taken
LARGE = 0.5  # in half of them, groups of more than this part of a split stay in train: others can fill it better
NEEDED = 10.0  # weight in train of a class that is too rare to be held out: without it, it cannot be learned
TOO_LARGE = 2.0  # a sequence that is more than this times the smallest share of all images is cut

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SplitPlan:
    """The split of each image of a dataset, and why."""

    splits: tuple[str, ...]  # of each image: train, or one of the shares
    shares: Mapping[str, float]  # asked for, of val and test
    seed: int
    grouping: Grouping

    def indices(self, split: str) -> list[int]:
        """The images of a split, ascending."""
        return [index for index, own in enumerate(self.splits) if own == split]

    def describe_groups(self) -> str:
        """What was kept together, in a line."""
        kept, parts = self.grouping, []
        if kept.num_similar:
            parts.append(f"{pluralize(kept.num_similar, 'image')} with copies or near-duplicates")
        if kept.num_sequences:
            parts.append(f"the frames of {pluralize(kept.num_sequences, 'sequence')}")
        text = f"kept together: {' and '.join(parts)}" if parts else "no near-duplicates or sequences of frames"
        if kept.cut:
            text += (
                f"; too large to be held out, and cut into blocks of consecutive frames: {', '.join(kept.cut[:3])}"
            )
            text += f" and {len(kept.cut) - 3} more" * (len(kept.cut) > 3)
        return text

    def describe_largest(self, data: FileData) -> str:
        """How many groups of several images there are, and the largest with its images; empty if there is none."""
        groups = [group for group in self.grouping.groups if len(group) > 1]
        if not groups:
            return ""
        largest = max(groups, key=len)
        paths = [path for index in largest if (path := data.table.path(index)) is not None]
        names = [one_line(path.name, max_length=100) for path in sorted(paths, key=_by_number)]
        listed = ", ".join(names) if len(names) <= MAX_NAMED else f"{', '.join(names[:2])}, ..., {names[-1]}"
        return (
            f"{pluralize(len(groups), 'group')} of several images, {sum(map(len, groups)):,} images in all; the "
            f"largest has {len(largest)}, which are in {self.splits[largest[0]]}: {listed}"
        )


def _by_number(path: Path) -> tuple[str | int, ...]:
    """A key that sorts frame_9 before frame_10."""
    return tuple(int(part) if place % 2 else part for place, part in enumerate(re.split("([0-9]+)", str(path))))


def plan_split(
    data: FileData,
    shares: Mapping[str, float],
    seed: int = 0,
    *,
    jobs: int = 1,
    on_image: Callable[[], None] = lambda: None,
) -> SplitPlan:
    """Divide the images of a dataset, reading each once.

    Args:
        data: of files.
        shares: the part of the images for each split but train, e.g. {"val": 0.15}; their sum is below 1.
        seed: decides between equally good divisions; the same data, shares and seed give the same division.
        jobs: threads that read images.
        on_image: called after each image that was read.

    Raises:
        DataError: too few images or groups for as many splits.
    """
    # By path and class name: the same images are divided alike in whatever order they are read, as from old splits.
    order = sorted(range(len(data)), key=lambda index: str(data.table.path(index)))
    ordered = data.select(order)
    paths = [path for index in range(len(ordered)) if (path := ordered.table.path(index)) is not None]
    fingerprints = read_fingerprints(ordered, jobs, on_image)
    max_images = max(1, int(TOO_LARGE * min(shares.values()) * len(paths)))
    grouping = group_images(paths, fingerprints, max_images)
    if len(grouping.groups) <= len(shares):
        raise DataError(
            f"{pluralize(len(paths), 'image')} of which {pluralize(len(grouping.groups), 'group')} can be told apart "
            "(near-duplicates and frames of a sequence stay together): too few to hold out a split"
        )
    by_name = sorted(range(len(data.names)), key=lambda label: data.names[label])
    columns = [*range(1 + len(FEW)), *(1 + len(FEW) + label for label in by_name)]
    division = divide(grouping.groups, count_features(ordered)[:, columns], shares, seed)
    place = {index: number for number, index in enumerate(order)}
    splits = tuple(division[place[index]] for index in range(len(data)))
    groups = tuple(sorted(tuple(sorted(order[number] for number in group)) for group in grouping.groups))
    return SplitPlan(splits, dict(shares), seed, replace(grouping, groups=groups))


def count_features(data: FileData) -> Numbers:
    """What is to be in proportion, for each image: 1, one of ``FEW`` by its number of objects, objects of each class.

    (N, F). Ignored objects do not count.
    """
    table = data.table
    kept = ~table.crowd
    objects = np.zeros((len(data), len(data.names)))
    np.add.at(objects, (table.sample_indices()[kept].numpy(), table.labels[kept].numpy()), 1)
    level = np.searchsorted(FEW, objects.sum(1), side="right") - 1
    return np.concatenate((np.ones((len(data), 1)), np.eye(len(FEW))[level], objects), axis=1)


def divide(
    groups: Sequence[Sequence[int]], features: Numbers, shares: Mapping[str, float], seed: int = 0
) -> tuple[str, ...]:
    """The split of each image, the same for all of a group. No split is empty.

    Args:
        groups: a partition of the images, of more groups than there are shares.
        features: (N, F) of at least 0, whose sums are to be in proportion to the shares.
        shares: the part of each split but train, each above 0, their sum below 1.
        seed: decides between equally good divisions.
    """
    assert len(groups) > len(shares), "a group for each split"
    names = [TRAIN, *shares]
    values = np.stack([features[list(group)].sum(0) for group in groups])  # (G, F)
    values = values[:, values.sum(0) > 0]
    parts = np.array([1 - sum(shares.values()), *shares.values()])
    generator = np.random.default_rng(seed)
    tried = []
    for start in range(STARTS):
        division = _Division(values, parts, generator)
        division.place_all(np.inf if start % 2 else LARGE)
        division.fill_empty()
        division.improve()
        tried.append(division)
    division = min(tried, key=_Division.distance)
    result = [TRAIN] * len(features)
    for group, own in zip(groups, division.own, strict=True):
        for index in group:
            result[index] = names[own]
    return tuple(result)


class _Division:
    """A division of groups among splits, and the distance of its sums from their targets.

    The distance is the sum of squares of relative errors, so that a class counts as much as any other; of fewer than
    one expected object the error itself counts.
    """

    def __init__(self, values: Numbers, parts: Numbers, generator: np.random.Generator) -> None:
        targets = parts[:, None] * values.sum(0)  # (S, F)
        self.values, self.scale = values, np.maximum(targets, 1) ** -2.0
        self.scale[0, (targets[1:] < 1).all(0)] *= NEEDED
        self.errors = -targets
        self.own = np.full(len(values), -1)
        self.generator = generator

    def distance(self) -> float:
        """The distance of the sums from their targets."""
        return float((self.errors**2 * self.scale).sum())

    def place_all(self, max_part: float) -> None:
        """Place the groups with the rarest features first, among equals the large ones, at random.

        Groups of more than ``max_part`` of the images that a split is to have stay in train.
        """
        sizes = -self.errors[:, 0]
        rarest = np.where(self.values > 0, self.values.sum(0), np.inf).min(1)
        order = np.lexsort((self.generator.random(len(self.values)), -self.values[:, 0], rarest))
        for group in order.tolist():
            value = self.values[group]
            change = ((2 * self.errors + value) * value * self.scale).sum(1)
            change[1:][value[0] > max_part * sizes[1:]] = np.inf
            self.put(group, int(change.argmin()))

    def put(self, group: int, split: int) -> None:
        """Place a group, or move it."""
        if self.own[group] >= 0:
            self.errors[self.own[group]] -= self.values[group]
        self.errors[split] += self.values[group]
        self.own[group] = split

    def fill_empty(self) -> None:
        """Give a split without a group the smallest of another that has more than one."""
        count = len(self.errors)
        for split in range(count):
            sizes = np.bincount(self.own, minlength=count)
            if not sizes[split]:
                movable = np.flatnonzero(sizes[self.own] > 1)
                self.put(int(movable[self.values[movable, 0].argmin()]), split)

    def improve(self) -> None:
        """Move or exchange groups, the best change first, until none helps."""
        pairs = list(itertools.permutations(range(len(self.errors)), 2))
        for _ in range(MAX_CHANGES):
            best = min((self._best_change(a, b) for a, b in pairs), key=lambda one: one[0])
            if best[0] > -1e-9:
                return
            for group, split in best[1]:
                self.put(group, split)

    def _best_change(self, source: int, target: int) -> tuple[float, list[tuple[int, int]]]:
        """The change of the distance by the best move from a split to another, or exchange between them."""
        inside, outside = np.flatnonzero(self.own == source), np.flatnonzero(self.own == target)
        scale = self.scale[source] + self.scale[target]
        slope = 2 * (self.errors[target] * self.scale[target] - self.errors[source] * self.scale[source])
        value = self.values
        best: tuple[float, list[tuple[int, int]]] = (0.0, [])
        if len(inside) > 1:
            moved = value[inside] @ slope + value[inside] ** 2 @ scale
            k = int(moved.argmin())
            best = (float(moved[k]), [(int(inside[k]), target)])
        if source > target:  # exchanges are tried once for each pair
            return best
        inside, outside = (self._some(groups) for groups in (inside, outside))
        square = value**2 @ scale
        exchanged = (value[inside] @ slope + square[inside])[:, None] + (square[outside] - value[outside] @ slope)
        exchanged -= 2 * (value[inside] * scale) @ value[outside].T
        a, b = divmod(int(exchanged.argmin()), len(outside))
        if exchanged[a, b] < best[0]:
            return float(exchanged[a, b]), [(int(inside[a]), target), (int(outside[b]), source)]
        return best

    def _some(self, groups: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        if len(groups) <= MAX_EXCHANGED:
            return groups
        return np.sort(self.generator.choice(groups, MAX_EXCHANGED, replace=False))
