"""What is odd about boxes and classes that a reader accepted.

Boxes: tiny, huge, of conflicting classes, the same in most images. Classes: names, how many boxes each has, and in
which split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.checks.findings import Box, Finding
from gfocal.data.dataset import FileData, Sample
from gfocal.text import pluralize

TINY_SIDE = 2.0  # pixels of the file
SAME_OBJECT_IOU = 0.95
WHOLE_IMAGE = 0.99  # of the image's area
MAX_ASPECT_RATIO = 20.0
MAX_OBJECTS = 100  # detections per image that evaluation counts
MIN_REPEATS = 5  # images with the same box, below which it is no finding
MIN_BOXES = 10  # of a class in training
MAX_IMBALANCE = 100  # times as many boxes as the rarest class that has some
MAX_EMPTY = 0.5  # fraction of images without an object
PLACEHOLDERS = {"object", "objects", "item", "thing", "class", "label", "unlabeled", "none", "unknown"}
NUMBERED = re.compile(r"(class|label|category)?[ _-]?\d+")


def check_boxes(data: FileData, split: str) -> list[Finding]:
    """Findings of single boxes, then of the split as a whole."""
    findings = [
        finding
        for sample in data.samples
        if sample.path is not None and len(sample.boxes)
        for finding in _check_sample(sample, data.names, split)
    ]
    return findings + _check_repeated_box(data, split)


def describe_box(sample: Sample, index: int, names: tuple[str, ...]) -> str:
    """How a finding names a box: its number among those of the image, its class and its corners."""
    corners = " ".join(f"{value:g}" for value in sample.boxes[index].tolist())
    return f"box {index + 1} ({names[int(sample.labels[index])]}): {corners}"


def read_box(sample: Sample, index: int) -> Box:
    """The corners of a box."""
    x1, y1, x2, y2 = sample.boxes[index].tolist()
    return x1, y1, x2, y2


def _check_sample(sample: Sample, names: tuple[str, ...], split: str) -> Iterator[Finding]:
    assert sample.path is not None
    assert sample.size is not None, "a sample of files has a size"

    def found(code: str, index: int, text: str, *others: int) -> Finding:
        boxes = tuple(read_box(sample, i) for i in (index, *others))
        return Finding(code, str(sample.path), describe_box(sample, index, names), text, split, sample.path, boxes)

    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]  # (G, 2)
    objects = ~sample.crowd
    short, long = sides.amin(1), sides.amax(1)
    tiny = objects & (short < TINY_SIDE)
    for i in _where(tiny):
        yield found("tiny-box", i, f"{sides[i, 0]:.3g} x {sides[i, 1]:.3g} pixels")
    whole = objects & (sides.prod(1) >= WHOLE_IMAGE * sample.size[0] * sample.size[1])
    for i in _where(whole):
        yield found("whole-image-box", i, "covers the whole image")
    for i in _where(objects & ~tiny & (long > MAX_ASPECT_RATIO * short)):
        yield found("extreme-aspect-ratio", i, f"{float(long[i] / short[i]):.0f} times as long as wide")
    for i, j in _find_conflicts(sample.boxes, sample.labels, objects):
        text = f"nearly the same box as box {j + 1}, which is {names[int(sample.labels[j])]}"
        yield found("conflicting-labels", i, text, j)
    if int(objects.sum()) > MAX_OBJECTS:
        text = f"{int(objects.sum())} objects; evaluation counts {MAX_OBJECTS} detections per image"
        yield Finding("too-many-objects", str(sample.path), "", text, split, sample.path)


def _where(mask: Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def _find_conflicts(boxes: Tensor, labels: Tensor, objects: Tensor) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of boxes of two classes that are nearly the same box."""
    if len(labels.unique()) < 2:
        return []
    other_class = labels[:, None] != labels[None]
    pairs = (box_iou(boxes, boxes) > SAME_OBJECT_IOU) & other_class & objects[:, None] & objects[None]
    return [(i, j) for i, j in pairs.tril(-1).nonzero().tolist()]


def _check_repeated_box(data: FileData, split: str) -> list[Finding]:
    """One finding when most images with objects share a box to the hundredth of a pixel."""
    images: Counter[tuple[float, ...]] = Counter()
    first: dict[tuple[float, ...], tuple[Sample, int]] = {}
    num_images = 0
    for sample in data.samples:
        num_images += bool(len(sample.boxes))
        rows = {tuple(round(value, 2) for value in row): i for i, row in enumerate(sample.boxes.tolist())}
        images.update(rows.keys())
        for row, i in rows.items():
            first.setdefault(row, (sample, i))
    if not images:
        return []
    row, count = images.most_common(1)[0]
    sample, index = first[row]
    if count < MIN_REPEATS or count <= num_images / 2 or sample.size is None:
        return []
    if (row[2] - row[0]) * (row[3] - row[1]) >= WHOLE_IMAGE * sample.size[0] * sample.size[1]:
        return []  # images that are crops of one object each
    text = f"{count} of {pluralize(num_images, 'image')} with objects have exactly this box"
    record = describe_box(sample, index, data.names)
    box = read_box(sample, index)
    return [Finding("same-box-everywhere", str(sample.path), record, text, split, sample.path, (box,))]


def count_boxes(data: FileData) -> list[int]:
    """Number of boxes of each class, by label, without crowd regions and difficult boxes."""
    number = torch.zeros(len(data.names), dtype=torch.int64)
    for sample in data.samples:
        number += torch.bincount(sample.labels[~sample.crowd], minlength=len(data.names))
    return number.tolist()


def check_classes(splits: Mapping[str, FileData], training: list[str], where: str) -> list[Finding]:
    """Findings on the classes of one dataset; ``training`` names its training splits."""
    lists = {name: data.names for name, data in splits.items()}
    first = next(iter(lists.values()))
    for name, names in lists.items():
        if names != first:
            missing = sorted(set(first) ^ set(names))
            what = f"differs in {', '.join(missing)}" if missing else "has another order"
            return [Finding("class-list-mismatch", where, name, f"the list of {name} {what}", name)]
    findings = list(_check_names(first, where))
    counts = {name: dict(zip(first, count_boxes(data), strict=True)) for name, data in splits.items()}
    findings += _check_counts(first, counts, training, where)
    for name, data in splits.items():
        findings += _check_split(data, counts[name], name, name in training, where)
    return findings


def _check_names(names: tuple[str, ...], where: str) -> Iterator[Finding]:
    plain: dict[str, str] = {}
    for name in names:
        key = re.sub(r"[\W_]+", "", name).casefold() or name
        if key in plain and plain[key] != name:
            yield Finding("similar-class-names", where, name, f"{name!r} and {plain[key]!r} are two classes")
        plain.setdefault(key, name)
        word = name.strip().casefold()
        if word in PLACEHOLDERS or NUMBERED.fullmatch(word):
            yield Finding("placeholder-class-name", where, name, f"{name!r} does not name an object")


def _check_counts(
    names: tuple[str, ...], counts: Mapping[str, Mapping[str, int]], training: list[str], where: str
) -> Iterator[Finding]:
    trained = {name: sum(counts[split][name] for split in training) for name in names}
    for name in names:
        elsewhere = {split: count[name] for split, count in counts.items() if count[name] and split not in training}
        if not trained[name] and elsewhere:
            there = ", ".join(f"{number} in {split}" for split, number in elsewhere.items())
            yield Finding("class-not-in-training", where, name, f"no box in training, {there}")
        elif not trained[name]:
            yield Finding("class-without-boxes", where, name, "no box in any split")
        elif trained[name] < MIN_BOXES:
            yield Finding("rare-class", where, name, f"{pluralize(trained[name], 'box', 'boxes')} in training")
        for split, count in counts.items():
            if trained[name] and split not in training and not count[name] and any(count.values()):
                yield Finding(
                    "class-not-evaluated", where, name, f"no box in {split}: it is not evaluated there", split
                )
    some = {name: number for name, number in trained.items() if number}
    if some and max(some.values()) > MAX_IMBALANCE * min(some.values()):
        most, least = max(some, key=some.__getitem__), min(some, key=some.__getitem__)
        text = f"{most} has {some[most]:,} boxes in training, {least} {some[least]:,}"
        yield Finding("class-imbalance", where, least, text)


def _check_split(
    data: FileData, counts: Mapping[str, int], split: str, is_training: bool, where: str
) -> Iterator[Finding]:
    objects = sum(counts.values())
    empty = sum(bool(sample.crowd.all()) for sample in data.samples)
    if not objects:
        what = "train on" if is_training else "evaluate on"
        yield Finding(
            "split-without-objects", where, split, f"{pluralize(len(data), 'image')}, no object to {what}", split
        )
    elif empty > MAX_EMPTY * len(data):
        text = f"{empty} of {pluralize(len(data), 'image')} have no object"
        yield Finding("many-empty-images", where, split, text, split)
    ignored = sum(int(sample.crowd.sum()) for sample in data.samples)
    if ignored:
        regions = pluralize(ignored, "box", "boxes")
        text = f"{regions} of crowds or marked difficult: no ground truth in training, ignored in evaluation"
        yield Finding("ignored-regions", where, split, text, split)
