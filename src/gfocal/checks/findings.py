"""Every kind of finding, with its severity and its fix: the table that ``docs/check.md`` prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")  # worst first


@dataclass(frozen=True)
class Kind:
    """One kind of finding.

    An error loses or falsifies something: boxes that are dropped, a leak between splits, edges that cannot be
    learned. A warning is most likely a mistake. A note is worth knowing, and is no mistake in many datasets.
    """

    severity: Severity
    title: str
    fix: str


KINDS: dict[str, Kind] = {
    # Image files.
    "missing-image": Kind("error", "image file is missing", "put the file there, or remove its record"),
    "unreadable-image": Kind("error", "image cannot be read", "save the image anew, or remove it"),
    "decompression-bomb": Kind("error", "image of too many pixels", "shrink the image, or remove it"),
    "unsafe-path": Kind("error", "file name leads out of the data", "name files below the data folder"),
    "lying-extension": Kind("warning", "content is not what the name says", "rename the file"),
    "tiny-image": Kind("warning", "image is one cell of the network", "remove the image, or find the original"),
    "blank-image": Kind("warning", "image of one color", "remove the image, or find the original"),
    "size-mismatch": Kind("warning", "stated size is not the file's", "see whether the boxes fit, then fix the size"),
    "several-frames": Kind("note", "animation: first frame is used", "save the frames as images if they are wanted"),
    "unusual-pixels": Kind("note", "unusual pixels, converted", "look at how the image is read"),
    "turned-image": Kind("note", "turned by its EXIF orientation", "see that its boxes lie on the objects"),
    "huge-image": Kind("note", "very large image, slow to read", "shrink the image once, before training"),
    # The same image twice.
    "duplicate-across-splits": Kind("error", "same image in two splits", "keep it in one split"),
    "near-duplicate-across-splits": Kind("warning", "nearly same image in two splits", "put both into one split"),
    "duplicate-other-boxes": Kind("warning", "same image twice, other boxes", "merge the boxes, and keep one image"),
    "duplicate-image": Kind("warning", "same image twice in a split", "remove one of them"),
    "near-duplicate-image": Kind("note", "nearly same image in a split", "look whether both are wanted"),
    # Records.
    "broken-annotation": Kind("error", "annotation file cannot be read", "write the file anew"),
    "bad-record": Kind("error", "record that cannot be used", "fix the record"),
    "unlisted-annotation": Kind("error", "annotation without its image", "list the image, or remove the annotation"),
    "repeated-record": Kind("warning", "image is listed twice", "remove one of the records"),
    "unannotated-image": Kind("warning", "image without annotation", "annotate it, or give it an empty annotation"),
    "odd-record": Kind("note", "read in an unusual way", "see that it was meant so"),
    "missing-split": Kind("note", "a named split is not there", "fix its path, or remove the entry"),
    # Boxes.
    "malformed-box": Kind("error", "not a box of numbers", "fix the numbers"),
    "non-finite-box": Kind("error", "box is not finite", "fix the numbers"),
    "inverted-box": Kind("error", "box is inverted", "swap its corners"),
    "zero-area-box": Kind("error", "box has no area", "draw the box anew, or remove it"),
    "outside-box": Kind("error", "box outside the image", "see whether the box is of another image"),
    "pixels-as-fractions": Kind("error", "box of no fractions", "divide pixels by the image's size"),
    "unknown-class": Kind("error", "box of an unknown class", "name the class in the list of classes"),
    "duplicate-box": Kind("warning", "same box and class twice", "remove one of them"),
    "near-duplicate-box": Kind("warning", "nearly same box and class twice", "remove one of them"),
    "contradictory-labels": Kind("warning", "one object, two classes", "keep the right class"),
    "beyond-border": Kind("warning", "box reaches beyond the image", "see whether it fits; it is clipped"),
    "swapped-axes": Kind("warning", "boxes fit only with x, y swapped", "write x before y"),
    "tiny-box": Kind("warning", "box under 2 pixels", "remove the box: a slip of the hand, most likely"),
    "same-box-everywhere": Kind("warning", "same box in most images", "see whether boxes went to wrong images"),
    "crowded-image": Kind("warning", "more objects than are kept", "cut the image into tiles"),
    "whole-image-box": Kind("note", "box covers the whole image", "see whether the object fills the image"),
    "extreme-ratio": Kind("note", "very long or very flat box", "see whether the object has that shape"),
    # Classes and splits.
    "no-objects": Kind("error", "nothing to learn in a split", "give annotations with boxes"),
    "class-lists-differ": Kind("error", "splits have other classes", "give all splits one list of classes"),
    "class-not-in-train": Kind("warning", "class only outside training", "move some of its images to training"),
    "class-without-boxes": Kind("warning", "class without any box", "remove the class, or annotate it"),
    "class-named-twice": Kind("warning", "class name stands twice", "give every class a name of its own"),
    "similar-class-names": Kind("warning", "class names nearly the same", "make them one class, or name them apart"),
    "placeholder-class": Kind("note", "class name says nothing", "give the class its name"),
    "rare-class": Kind("note", "class of few boxes", "annotate more of it"),
    "class-not-in-split": Kind("note", "class is not evaluated", "move some of its images to this split"),
    "imbalanced-classes": Kind("note", "classes of very unequal number", "annotate more of the rare ones"),
    "many-empty-images": Kind("note", "most images have no object", "see whether annotations are lacking"),
    "ignored-regions": Kind(
        "note", "crowd or difficult boxes", "nothing: no ground truth in training, ignored in evaluation"
    ),
    # Reach.
    "reach-too-short": Kind("error", "edges beyond reach: not trained", "gfocal train --auto, or the advice below"),
    "reach-short": Kind("warning", "edges beyond reach", "gfocal train --auto, or the advice below"),
    "many-without-location": Kind(
        "warning", "boxes learned by no point", "a larger short side, a finer level: see the advice below"
    ),
    "edge-beyond-reach": Kind("note", "box with edges beyond reach", "see the advice below"),
    "box-without-location": Kind(
        "note", "box that no point learns", "a larger short side; or boxes lie on one another"
    ),
    "small-at-input": Kind("note", "box under 4 pixels at the input", "a larger short side"),
}


Box = tuple[float, float, float, float]  # xyxy in pixels of the image


@dataclass(frozen=True)
class Finding:
    """One thing found: where, what, and what to do."""

    code: str  # of KINDS
    file: str  # the file to open for it: an image or an annotation
    record: str  # what of that file; empty for the whole of it
    text: str  # one sentence
    split: str = ""  # empty for what concerns all splits
    image: Path | None = None  # to look at, with ``boxes`` drawn on it
    boxes: tuple[Box, ...] = ()
    other: Path | None = None  # a second image, for what is twice

    @property
    def severity(self) -> Severity:
        """As the kind's."""
        return KINDS[self.code].severity

    @property
    def fix(self) -> str:
        """What to do about it."""
        return KINDS[self.code].fix

    def to_json(self) -> dict[str, str]:
        """As ``gfocal check --json`` writes it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "split": self.split,
            "file": self.file,
            "record": self.record,
            "text": self.text,
            "fix": self.fix,
        }


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind, the worst kinds first, then in the order of ``KINDS``."""
    groups: dict[str, list[Finding]] = {code: [] for code in KINDS}
    for finding in findings:
        groups[finding.code].append(finding)
    ranked = sorted(groups, key=lambda code: SEVERITIES.index(KINDS[code].severity))
    return {code: groups[code] for code in ranked if groups[code]}


def counts(findings: Iterable[Finding]) -> dict[Severity, int]:
    """How many findings there are of each severity."""
    number: dict[Severity, int] = dict.fromkeys(SEVERITIES, 0)
    for finding in findings:
        number[finding.severity] += 1
    return number
