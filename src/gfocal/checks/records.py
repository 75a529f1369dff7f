"""What the readers met while reading, as findings with a code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from gfocal.checks.findings import Box, Finding
from gfocal.data import validation
from gfocal.data.dataset import FileData, Problem
from gfocal.data.readers.yolo import SPLIT_LOST

# How a problem's reason begins -> code. What stands nowhere here is a bad record if it was dropped, else an odd one.
CODES: dict[str, str] = {
    validation.NOT_FINITE: "non-finite-box",
    validation.INVERTED: "inverted-box",
    validation.NO_AREA: "zero-area-box",
    validation.OUTSIDE: "outside-box",
    validation.NO_FRACTIONS: "pixels-as-fractions",
    validation.DUPLICATE: "duplicate-box",
    validation.NEAR_DUPLICATE: "near-duplicate-box",
    validation.BEYOND: "beyond-border",
    validation.MISSING: "missing-image",
    validation.UNREADABLE: "unreadable-image",
    validation.SIZE_DIFFERS: "size-mismatch",
    validation.UNSAFE: "unsafe-path",
    validation.UNKNOWN_CLASS: "unknown-class",
    validation.UNLISTED: "unlisted-annotation",
    validation.MALFORMED: "malformed-box",
    SPLIT_LOST: "missing-split",
    "class name stands twice": "class-named-twice",
    "image id stands twice": "repeated-record",
    "image stands twice": "repeated-record",
    "image without an xml file": "unannotated-image",
    "image without a row": "unannotated-image",
    "broken xml": "broken-annotation",
    "xml of another kind": "broken-annotation",
}
LEAST_SWAPPED, SWAPPED_SHARE = 5, 0.2  # boxes beyond the border, and their share of all, that raise the question


def reader_findings(data: FileData, split: str) -> list[Finding]:
    """The problems of a split as findings; and whether x and y are swapped, where many boxes leave their images."""
    images = {sample.path.name: sample.path for sample in data.samples if sample.path is not None}
    findings = [_finding(problem, split, images) for problem in data.problems]
    return findings + _swapped(data, findings, split)


def _finding(problem: Problem, split: str, images: dict[str, Path]) -> Finding:
    other = "bad-record" if problem.action == "dropped" else "odd-record"
    code = next((code for start, code in CODES.items() if problem.reason.startswith(start)), other)
    if code == "unreadable-image" and "MAX_IMAGE_PIXELS" in problem.record:
        code = "decompression-bomb"
    box = corners(problem.record)
    # Records of boxes begin with the image's name; YOLO's and VOC's files are named like it.
    image = images.get(problem.record.partition(", ")[0])
    return Finding(
        code,
        problem.file,
        problem.record,
        f"{problem.reason} ({problem.action})",
        split,
        image,
        (box,) if box else (),
    )


def corners(record: str) -> Box | None:
    """The four numbers that a record of a box ends with; None where there are none."""
    try:
        x1, y1, x2, y2 = map(float, record.rpartition(": ")[2].split())
    except ValueError:
        return None
    return x1, y1, x2, y2


def _swapped(data: FileData, findings: Iterable[Finding], split: str) -> list[Finding]:
    """One finding when many boxes leave their images, and nearly all of those fit once x and y are swapped."""
    sizes = {s.path: s.size for s in data.samples if s.path is not None and s.size is not None}
    gone = [f for f in findings if f.code in ("beyond-border", "outside-box") and f.image in sizes and f.boxes]
    total = sum(len(sample.boxes) for sample in data.samples) + sum(f.code == "outside-box" for f in gone)
    if len(gone) < max(LEAST_SWAPPED, SWAPPED_SHARE * total):
        return []
    fitting = 0
    for finding in gone:
        assert finding.image is not None
        size, (x1, y1, x2, y2) = sizes[finding.image], finding.boxes[0]
        assert size is not None
        fitting += min(x1, y1) >= -1 and x2 <= size[0] + 1 and y2 <= size[1] + 1
    if fitting < 0.9 * len(gone):
        return []
    text = f"{len(gone)} of {total} boxes leave their images, and {fitting} of them fit with x and y swapped"
    first = gone[0]
    return [Finding("swapped-axes", first.file, first.record, text, split, first.image, first.boxes)]
