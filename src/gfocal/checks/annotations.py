"""What is odd about boxes that a reader accepted: tiny, huge, of conflicting classes, the same in most images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

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
CORNER = 0.55  # of the width and height, within which no set of images has all of its objects
MIN_IN_CORNER, MIN_CORNER_IMAGES = 20, 5  # boxes and images, below which it is no finding
MIN_REPEATS = 5  # images with the same box, below which it is no finding


def check_boxes(data: FileData, split: str) -> list[Finding]:
    """Findings of single boxes, then of the split as a whole."""
    findings = [
        finding
        for sample in data.samples
        if sample.path is not None and len(sample.boxes)
        for finding in _check_sample(sample, data.names, split)
    ]
    return findings + _check_repeated_box(data, split) + _check_corner(data, split)


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


def _check_corner(data: FileData, split: str) -> list[Finding]:
    """One finding when all boxes lie in the top left quarter of their images, or little more."""
    table = data.table
    images = table.sample_indices()
    if len(images) < MIN_IN_CORNER or len(images.unique()) < MIN_CORNER_IMAGES:
        return []
    reach = (table.boxes[:, 2:] / table.sizes[images].flip(1)).amax(0)  # (2,) of width and height
    if bool((reach > CORNER).any()):
        return []
    width, height = reach.tolist()
    text = f"all {len(images):,} boxes end within {width:.0%} of the width and {height:.0%} of the height"
    sample = data.samples[int(images[0])]
    return [Finding("boxes-in-one-corner", str(sample.path), "", text, split, sample.path)]
