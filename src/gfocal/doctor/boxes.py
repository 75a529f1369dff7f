"""What is odd about the boxes that a reader accepted: tiny, huge, contradictory, the same everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor
from torchvision.ops import box_iou

from gfocal.data.samples import FileData, Sample
from gfocal.doctor.findings import Box, Finding
from gfocal.words import counted

TINY = 2.0  # pixels of the file
SAME_OBJECT = 0.95  # IoU
WHOLE = 0.99  # of the picture's area
LONG = 20.0  # times as long as wide
MOST_OBJECTS = 100  # detections that evaluation keeps of a picture
LEAST_PICTURES = 5  # with the same box, before that is odd


def box_findings(data: FileData, split: str) -> list[Finding]:
    """Findings of single boxes, then of the split as a whole."""
    findings = [
        finding
        for sample in data.samples
        if sample.path is not None and len(sample.boxes)
        for finding in _of_sample(sample, data.names, split)
    ]
    return findings + _same_everywhere(data, split)


def described(sample: Sample, index: int, names: tuple[str, ...]) -> str:
    """How a finding names a box: its place among those read, its class and its corners."""
    corners = " ".join(f"{value:g}" for value in sample.boxes[index].tolist())
    return f"box {index + 1} ({names[int(sample.labels[index])]}): {corners}"


def box_of(sample: Sample, index: int) -> Box:
    """The corners of a box."""
    x1, y1, x2, y2 = sample.boxes[index].tolist()
    return x1, y1, x2, y2


def _of_sample(sample: Sample, names: tuple[str, ...], split: str) -> Iterator[Finding]:
    assert sample.path is not None
    assert sample.size is not None, "a sample of files has a size"

    def found(code: str, index: int, text: str, *others: int) -> Finding:
        boxes = tuple(box_of(sample, i) for i in (index, *others))
        return Finding(code, str(sample.path), described(sample, index, names), text, split, sample.path, boxes)

    sides = sample.boxes[:, 2:] - sample.boxes[:, :2]  # (G, 2)
    objects = ~sample.crowd
    short, long = sides.amin(1), sides.amax(1)
    tiny = objects & (short < TINY)
    for i in _where(tiny):
        yield found("tiny-box", i, f"{sides[i, 0]:.3g} x {sides[i, 1]:.3g} pixels")
    whole = objects & (sides.prod(1) >= WHOLE * sample.size[0] * sample.size[1])
    for i in _where(whole):
        yield found("whole-picture-box", i, "covers the whole picture")
    for i in _where(objects & ~tiny & (long > LONG * short)):
        yield found("extreme-ratio", i, f"{float(long[i] / short[i]):.0f} times as long as wide")
    for i, j in _contradictions(sample.boxes, sample.labels, objects):
        text = f"nearly the same box as box {j + 1}, which is {names[int(sample.labels[j])]}"
        yield found("contradictory-labels", i, text, j)
    if int(objects.sum()) > MOST_OBJECTS:
        text = f"{int(objects.sum())} objects; evaluation keeps {MOST_OBJECTS} detections of a picture"
        yield Finding("crowded-picture", str(sample.path), "", text, split, sample.path)


def _where(mask: Tensor) -> list[int]:
    return mask.nonzero().flatten().tolist()


def _contradictions(boxes: Tensor, labels: Tensor, objects: Tensor) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of objects of two classes in one place."""
    if len(labels.unique()) < 2:
        return []
    other_class = labels[:, None] != labels[None]
    pairs = (box_iou(boxes, boxes) > SAME_OBJECT) & other_class & objects[:, None] & objects[None]
    return [(i, j) for i, j in pairs.tril(-1).nonzero().tolist()]


def _same_everywhere(data: FileData, split: str) -> list[Finding]:
    """One finding when most pictures with objects share a box to the hundredth of a pixel."""
    pictures: Counter[tuple[float, ...]] = Counter()
    first: dict[tuple[float, ...], tuple[Sample, int]] = {}
    num_pictures = 0
    for sample in data.samples:
        num_pictures += bool(len(sample.boxes))
        rows = {tuple(round(value, 2) for value in row): i for i, row in enumerate(sample.boxes.tolist())}
        pictures.update(rows.keys())
        for row, i in rows.items():
            first.setdefault(row, (sample, i))
    if not pictures:
        return []
    row, count = pictures.most_common(1)[0]
    sample, index = first[row]
    if count < LEAST_PICTURES or count <= num_pictures / 2 or sample.size is None:
        return []
    if (row[2] - row[0]) * (row[3] - row[1]) >= WHOLE * sample.size[0] * sample.size[1]:
        return []  # pictures of one object each, cut to it
    text = f"{count} of {counted(num_pictures, 'picture')} with objects have this very box"
    record = described(sample, index, data.names)
    box = box_of(sample, index)
    return [Finding("same-box-everywhere", str(sample.path), record, text, split, sample.path, (box,))]
