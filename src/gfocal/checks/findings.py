"""All kinds of findings, each with its severity and its fix. ``docs/check.md`` shows the same table."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    An error loses data or falsifies results: dropped boxes, a leak between splits, edges that are clamped in
    training. A warning is most likely a mistake. A note is worth knowing, and no mistake in many datasets.
    """

    severity: Severity
    title: str
    fix: str
    command: str = ""  # that does it; DATA stands for the dataset, PARTS for the parts of a division
    term: str = ""  # of ``TERMS``, explained where the finding is shown


KINDS: dict[str, Kind] = {
    # Image files.
    "missing-image": Kind("error", "image file is missing", "restore the file, or remove its record"),
    "unreadable-image": Kind("error", "image cannot be read", "save the image again, or remove it"),
    "decompression-bomb": Kind(
        "error",
        "image has too many pixels",
        "raise the limit (--max-megapixels), or cut the image into tiles",
        command="gfocal check DATA --max-megapixels 1000",
    ),
    "unsafe-path": Kind("error", "file name leads out of the data folder", "name files below the data folder"),
    "wrong-extension": Kind("warning", "content does not match the file extension", "rename the file"),
    "tiny-image": Kind("warning", "a side of 32 pixels or less", "remove the image, or find the original"),
    "blank-image": Kind("warning", "image of a single color", "remove the image, or find the original"),
    "image-size-mismatch": Kind(
        "warning", "stated size is not the file's", "check that the boxes fit, then correct the size"
    ),
    "multi-frame-image": Kind(
        "note", "several pages or frames: only the first is used", "extract the others if needed"
    ),
    "high-bit-depth": Kind(
        "note",
        "more than 8 bits: a range of the values is scaled to 8",
        "nothing if the range is right, else state it (--value-range)",
    ),
    "unusual-pixel-format": Kind("note", "unusual pixel format, converted to RGB", "check how the image is read"),
    "exif-rotated-image": Kind(
        "note",
        "rotated by its EXIF orientation",
        "check that the boxes lie on the objects; YOLO: or set boxes_on_stored_pixels in gfocal.json",
        term="EXIF orientation",
    ),
    "huge-image": Kind("note", "very large image, slow to read", "downscale the image once, before training"),
    # Duplicate images.
    "duplicate-across-splits": Kind(
        "error",
        "same image in two splits",
        "keep it in one split",
        command="gfocal split DATA PARTS --replace",
        term="split",
    ),
    "near-duplicate-across-splits": Kind(
        "warning",
        "nearly the same image in two splits",
        "put them into one split",
        command="gfocal split DATA PARTS --replace",
        term="near-duplicate",
    ),
    "duplicate-image-other-boxes": Kind(
        "warning", "same image twice, with different boxes", "merge the boxes, and keep one image"
    ),
    "duplicate-image": Kind("warning", "same image twice in a split", "keep one of them"),
    "near-duplicate-image": Kind(
        "note", "nearly the same image in a split", "check whether all are needed", term="near-duplicate"
    ),
    # Records.
    "unreadable-annotation": Kind("error", "annotation file cannot be read", "export the file again"),
    "invalid-record": Kind("error", "record that cannot be used", "correct the record"),
    "annotation-without-image": Kind(
        "error", "annotation of an image that is not listed", "list the image, or remove the annotation"
    ),
    "duplicate-record": Kind("warning", "image is listed twice", "remove one of the records"),
    "image-without-annotation": Kind(
        "warning", "image without an annotation", "annotate it, or give it an empty annotation"
    ),
    "unusual-record": Kind("note", "record was read in an unusual way", "check that this is what was meant"),
    "image-not-trained": Kind(
        "warning", "image with objects that have no usable box", "give its objects boxes, or remove the image"
    ),
    "missing-split": Kind("note", "a listed split does not exist", "correct its path, or remove the entry"),
    # Boxes.
    "malformed-box": Kind("error", "box is not made of four numbers", "correct the numbers"),
    "non-finite-box": Kind("error", "box has infinite or NaN coordinates", "correct the numbers"),
    "inverted-box": Kind("error", "box is inverted", "swap its corners"),
    "zero-area-box": Kind("error", "box has no area", "redraw the box, or remove it"),
    "box-outside-image": Kind("error", "box is outside the image", "check whether the box belongs to another image"),
    "unnormalized-box": Kind("error", "coordinates are not normalized", "divide pixels by the image's size"),
    "unknown-class": Kind("error", "box of an unknown class", "add the class to the list of classes"),
    "shifted-class-ids": Kind(
        "error",
        "ids of classes look shifted by one",
        "correct the ids of the objects, or the list of classes: other names are trained else",
    ),
    "duplicate-box": Kind("warning", "same box and class twice", "remove one of them"),
    "near-duplicate-box": Kind("warning", "nearly the same box and class twice", "remove one of them"),
    "conflicting-labels": Kind("warning", "one object, two classes", "keep the right class", term="IoU"),
    "box-exceeds-image": Kind(
        "warning", "box extends beyond the image, and is clipped", "check the box against the image"
    ),
    "other-box-convention": Kind(
        "error",
        "boxes seem to be of another convention",
        "convert the boxes of the whole dataset",
        command="gfocal train DATA --set run.trust_boxes=true",
    ),
    "doubtful-boxes": Kind(
        "warning",
        "boxes may be of another convention",
        "look at some on their images, then correct them all",
        command="gfocal check DATA --html check.html",
    ),
    "maybe-resized-images": Kind(
        "warning",
        "images may have been resized after annotation",
        "scale the boxes, or state the sizes that they were drawn on",
    ),
    "boxes-in-one-corner": Kind(
        "note",
        "all boxes lie in the top left of their images",
        "check whether images were enlarged after annotation",
    ),
    "fractions-for-pixels": Kind(
        "warning",
        "boxes are fractions of the image, not pixels",
        "check a few images, then multiply by their size",
        command="gfocal convert DATA --to coco --out NEW",
    ),
    "resized-images": Kind(
        "warning",
        "images were resized after annotation",
        "check a few images, then export with their sizes",
        command="gfocal convert DATA --to coco --out NEW",
    ),
    "swapped-axes": Kind("warning", "boxes fit only with x and y swapped", "write x before y"),
    "tiny-box": Kind("warning", "box with a side under 2 pixels", "remove the box if it was drawn by mistake"),
    "same-box-everywhere": Kind("warning", "same box in most images", "check whether boxes went to the wrong images"),
    "too-many-objects": Kind(
        "warning",
        "more than 100 objects: evaluation counts 100 detections",
        "cut the image into tiles",
        command="gfocal eval MODEL DATA --max-detections 300",
    ),
    "whole-image-box": Kind("note", "box covers the whole image", "check that the object fills the image"),
    "extreme-aspect-ratio": Kind("note", "very long or very flat box", "check that the object has that shape"),
    # Classes and splits.
    "no-val-split": Kind(
        "note",
        "no images to choose the best epoch on",
        "nothing: gfocal train sets some aside; or make the split once, to keep it",
        command="gfocal split DATA --val 0.15",
        term="split",
    ),
    "split-without-objects": Kind("error", "split without any object", "give annotations with boxes"),
    "class-list-mismatch": Kind("error", "splits have different classes", "give all splits one list of classes"),
    "class-not-in-training": Kind(
        "warning",
        "class only outside of training",
        "move some of its images to training",
        command="gfocal split DATA PARTS --replace",
        term="split",
    ),
    "class-without-boxes": Kind("warning", "class without any box", "remove the class, or annotate it"),
    "duplicate-class-name": Kind(
        "error",
        "class name is listed twice",
        "give every class a unique name, or merge them",
    ),
    "mislabeled-class": Kind(
        "warning",
        "class with hardly a box, named like a frequent one",
        "look at its boxes: is it the other class?",
        command="gfocal train DATA --rename OLD=NEW",
    ),
    "similar-class-names": Kind(
        "warning",
        "class names that are nearly the same",
        "merge or rename the classes",
        command="gfocal train DATA --rename OLD=NEW",
    ),
    "placeholder-class-name": Kind("note", "class name does not name an object", "give the class its name"),
    "rare-class": Kind("note", "class with fewer than 10 training boxes", "annotate more of it"),
    "class-not-evaluated": Kind(
        "note",
        "class without a box in an evaluation split",
        "move some of its images to that split",
        command="gfocal split DATA PARTS --replace",
    ),
    "class-imbalance": Kind(
        "note",
        "classes of very different frequency",
        "annotate more of the rare ones",
        command="gfocal train DATA --repeat-threshold 0.1",
    ),
    "many-empty-images": Kind("note", "most images have no object", "check whether annotations are missing"),
    "mostly-ignored": Kind(
        "warning",
        "most objects are marked as ignored",
        "clear the flags, or give --ignored-as-objects",
        command="gfocal train DATA --ignored-as-objects",
        term="crowd",
    ),
    "ignored-regions": Kind(
        "note",
        "crowd regions or difficult boxes",
        "nothing: no ground truth in training, ignored in evaluation",
        term="crowd",
    ),
    # Annotations that a model contradicts.
    "suspect-class": Kind(
        "note", "a model sees another class there", "look at the object, and keep the right class", term="suspect"
    ),
    "suspect-missing-box": Kind(
        "note", "a model finds an object that has no box", "annotate it if it is one", term="suspect"
    ),
    "suspect-extra-box": Kind("note", "a model finds nothing near a box", "remove the box if nothing is there"),
    "suspect-edge": Kind(
        "note",
        "an edge lies elsewhere than a model expects it",
        "look at the edge, and redraw the box",
        term="suspect",
    ),
    # Regression range.
    "too-many-edges-outside-regression-range": Kind(
        "error",
        "gfocal train refuses to clamp so many edges",
        "gfocal train --auto, or the advice below",
        command="gfocal train DATA --auto",
        term="regression range",
    ),
    "many-edges-outside-regression-range": Kind(
        "warning",
        "edges that are clamped in training",
        "gfocal train --auto, or the advice below",
        command="gfocal train DATA --auto",
        term="regression range",
    ),
    "many-unassigned-boxes": Kind(
        "warning",
        "boxes without a point of their own",
        "a larger short side, or a finer level where the detector has one",
        command="gfocal train DATA --auto",
        term="unassigned",
    ),
    "objects-small-at-input": Kind(
        "note",
        "objects small at the input, as images are large",
        "train on images cut to the scale of tiles, and detect in tiles",
        term="input",
    ),
    "edges-outside-regression-range": Kind(
        "note", "box with clamped edges", "nothing if they are few, else gfocal train --auto", term="clamped"
    ),
    "unassigned-box": Kind(
        "note",
        "box without a point of its own",
        "nothing if they are few, else a larger short side",
        term="unassigned",
    ),
    "small-box-at-input": Kind("note", "box under 4 pixels at the input", "a larger short side", term="input"),
}


Box = tuple[float, float, float, float]  # xyxy in pixels of the image
# A box that is the finding itself, or what a box of a duplicate is, compared with the first image of its group.
Mark = Literal["found", "same", "added", "missing", "moved", "other-class"]


@dataclass(frozen=True)
class MarkedBox:
    """A box of an image of a group, and what of it differs from the first image."""

    box: Box
    mark: Mark = "same"


@dataclass(frozen=True)
class GroupImage:
    """One of several images that a finding shows side by side."""

    split: str
    path: Path
    boxes: tuple[MarkedBox, ...] = ()
    text: str = ""  # what differs


@dataclass(frozen=True)
class Finding:
    """One problem: its kind, where it is, and what exactly."""

    code: str  # of KINDS
    file: str  # the file to open: an image or an annotation
    record: str  # the part of that file; empty for all of it
    text: str  # one sentence
    split: str = ""  # empty if it concerns all splits
    image: Path | None = None  # to show, with ``boxes`` drawn on it
    boxes: tuple[Box, ...] = ()
    group: tuple[GroupImage, ...] = ()  # images to show side by side in place of ``image``
    own_command: str | None = None  # in place of that of its kind; empty: there is none here
    own_fix: str = ""  # in place of that of its kind

    @property
    def severity(self) -> Severity:
        """The severity of its kind."""
        return KINDS[self.code].severity

    @property
    def fix(self) -> str:
        """What to do about it: its own, else that of its kind."""
        return self.own_fix or KINDS[self.code].fix

    @property
    def command(self) -> str:
        """A command that does it, with placeholders as those of ``Kind``; empty if there is none."""
        return KINDS[self.code].command if self.own_command is None else self.own_command

    def to_json(self) -> dict[str, Any]:
        """As ``gfocal check --json`` writes it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "split": self.split,
            "file": self.file,
            "record": self.record,
            "text": self.text,
            "fix": self.fix,
            "command": self.command,
            "images": [{"split": one.split, "file": str(one.path)} for one in self.group],
        }


def group_by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind; the most severe kinds first, then in the order of ``KINDS``."""
    groups: dict[str, list[Finding]] = {code: [] for code in KINDS}
    for finding in findings:
        groups[finding.code].append(finding)
    ranked = sorted(groups, key=lambda code: SEVERITIES.index(KINDS[code].severity))
    return {code: groups[code] for code in ranked if groups[code]}


def count_by_severity(findings: Iterable[Finding]) -> dict[Severity, int]:
    """Number of findings of each severity."""
    number: dict[Severity, int] = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        number[finding.severity] += 1
    return number
