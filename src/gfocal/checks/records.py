"""The problems that the readers met, as findings with a code."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from gfocal.checks.findings import Box, Finding
from gfocal.data import box_layouts, conventions, validation
from gfocal.data.annotated import OBJECTS_WITHOUT_BOX
from gfocal.data.class_ids import IDS_SHIFTED
from gfocal.data.dataset import FileData, Problem
from gfocal.data.images import LIMIT_OPTION
from gfocal.data.readers.yolo import SPLIT_LOST

# How a problem's reason begins -> code. Others are invalid records if they were dropped, else unusual ones.
CODES: dict[str, str] = {
    validation.NOT_FINITE: "non-finite-box",
    validation.INVERTED: "inverted-box",
    validation.NO_AREA: "zero-area-box",
    validation.OUTSIDE: "box-outside-image",
    validation.NO_FRACTIONS: "unnormalized-box",
    validation.DUPLICATE: "duplicate-box",
    validation.NEAR_DUPLICATE: "near-duplicate-box",
    validation.BEYOND: "box-exceeds-image",
    validation.MISSING: "missing-image",
    validation.UNREADABLE: "unreadable-image",
    validation.SIZE_DIFFERS: "image-size-mismatch",
    validation.UNSAFE: "unsafe-path",
    validation.UNKNOWN_CLASS: "unknown-class",
    validation.UNLISTED: "annotation-without-image",
    validation.MALFORMED: "malformed-box",
    SPLIT_LOST: "missing-split",
    validation.REPEATED_CLASS: "duplicate-class-name",
    validation.REPEATED_ID: "duplicate-record",
    validation.REPEATED_IMAGE: "duplicate-record",
    validation.NO_XML: "image-without-annotation",
    validation.NO_ROW: "image-without-annotation",
    validation.BROKEN_XML: "unreadable-annotation",
    validation.NOT_VOC: "unreadable-annotation",
    validation.OBJECTS_DROPPED: "image-not-trained",
    OBJECTS_WITHOUT_BOX: "image-not-trained",
    IDS_SHIFTED: "shifted-class-ids",
    **dict.fromkeys(conventions.OTHER_LAYOUTS, "other-box-convention"),
    **dict.fromkeys(conventions.DOUBTFUL_LAYOUTS, "doubtful-boxes"),
    box_layouts.MAYBE_RESIZED: "maybe-resized-images",
    conventions.FRACTIONS: "fractions-for-pixels",
    conventions.RESIZED: "resized-images",
    conventions.MOSTLY_IGNORED: "mostly-ignored",
}
MIN_SWAPPED, SWAPPED_FRACTION = 5, 0.2  # boxes that exceed their image, and their fraction of all boxes


def check_records(data: FileData, split: str) -> list[Finding]:
    """The problems of a split as findings, and one more where x and y seem to be swapped."""
    images = {sample.path.name: sample.path for sample in data.samples if sample.path is not None}
    turned = (conventions.TURNED, conventions.TURNED_YOLO)  # each of these images is a finding by its header
    skipped = [*turned, validation.UNKNOWN_CLASS] if are_ids_shifted(data) else turned  # one cause, one finding
    findings = [
        _make_finding(problem, split, images, data.names)
        for problem in data.problems
        if not problem.reason.startswith(tuple(skipped))
    ]
    return findings + _check_swapped_axes(data, findings, split)


def are_ids_shifted(data: FileData) -> bool:
    """Whether the ids of classes look shifted by one: objects have the names of other classes."""
    return any(problem.reason == IDS_SHIFTED for problem in data.problems)


def _make_finding(problem: Problem, split: str, images: dict[str, Path], names: Sequence[str]) -> Finding:
    others = {"dropped": "invalid-record", "left out": "image-not-trained"}
    other = others.get(problem.action, "unusual-record")
    code = next((code for start, code in CODES.items() if problem.reason.startswith(start)), other)
    if code == "unreadable-image" and LIMIT_OPTION in problem.record:
        code = "decompression-bomb"
    box = parse_corners(problem.record)
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
        own_command=_merge_classes(problem, names) if code == "duplicate-class-name" else "",
    )


def _merge_classes(problem: Problem, names: Sequence[str]) -> str:
    """The command that makes classes of one name one; empty where the reader has done so."""
    name = next((one for one in names if repr(one) in problem.record), None)
    if name is None or problem.action == "merged":
        return ""
    return f"gfocal train DATA --rename {shlex.quote(f'{name}={name}')}"


def parse_corners(record: str) -> Box | None:
    """The four numbers at the end of the record of a box; None if there are none."""
    try:
        x1, y1, x2, y2 = map(float, record.rpartition(": ")[2].split())
    except ValueError:
        return None
    return x1, y1, x2, y2


def _check_swapped_axes(data: FileData, findings: Iterable[Finding], split: str) -> list[Finding]:
    """One finding if many boxes exceed their images and nearly all of those fit with x and y swapped."""
    sizes = {s.path: s.size for s in data.samples if s.path is not None and s.size is not None}
    gone = [
        f for f in findings if f.code in ("box-exceeds-image", "box-outside-image") and f.image in sizes and f.boxes
    ]
    total = sum(len(sample.boxes) for sample in data.samples) + sum(f.code == "box-outside-image" for f in gone)
    if len(gone) < max(MIN_SWAPPED, SWAPPED_FRACTION * total):
        return []
    fitting = 0
    for finding in gone:
        assert finding.image is not None
        size, (x1, y1, x2, y2) = sizes[finding.image], finding.boxes[0]
        assert size is not None
        fitting += min(x1, y1) >= -1 and x2 <= size[0] + 1 and y2 <= size[1] + 1
    if fitting < 0.9 * len(gone):
        return []
    text = f"{len(gone)} of {total} boxes exceed their images, and {fitting} of them fit with x and y swapped"
    first = gone[0]
    return [Finding("swapped-axes", first.file, first.record, text, split, first.image, first.boxes)]
