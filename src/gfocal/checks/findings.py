"""Every kind of finding, with its severity and its mend: the table that ``docs/check.md`` prints."""

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
    learned. A warning is most likely a mistake. A note is worth knowing, and is no mistake in many data sets.
    """

    severity: Severity
    title: str
    mend: str


KINDS: dict[str, Kind] = {
    # Picture files.
    "missing-picture": Kind("error", "picture file is missing", "put the file there, or remove its record"),
    "unreadable-picture": Kind("error", "picture cannot be read", "save the picture anew, or remove it"),
    "decompression-bomb": Kind("error", "picture of too many pixels", "shrink the picture, or remove it"),
    "unsafe-path": Kind("error", "file name leads out of the data", "name files below the data folder"),
    "lying-extension": Kind("warning", "content is not what the name says", "rename the file"),
    "tiny-picture": Kind("warning", "picture is one cell of the network", "remove the picture, or find the original"),
    "blank-picture": Kind("warning", "picture of one colour", "remove the picture, or find the original"),
    "size-mismatch": Kind(
        "warning", "stated size is not the file's", "see whether the boxes fit, then mend the size"
    ),
    "several-frames": Kind(
        "note", "animation: first frame is used", "save the frames as pictures if they are wanted"
    ),
    "unusual-pixels": Kind("note", "unusual pixels, converted", "look at how the picture is read"),
    "turned-picture": Kind("note", "turned by its EXIF orientation", "see that its boxes lie on the objects"),
    "huge-picture": Kind("note", "very large picture, slow to read", "shrink the picture once, before training"),
    # The same picture twice.
    "duplicate-across-splits": Kind("error", "same picture in two splits", "keep it in one split"),
    "near-duplicate-across-splits": Kind("warning", "nearly same picture in two splits", "put both into one split"),
    "duplicate-other-boxes": Kind(
        "warning", "same picture twice, other boxes", "merge the boxes, and keep one picture"
    ),
    "duplicate-picture": Kind("warning", "same picture twice in a split", "remove one of them"),
    "near-duplicate-picture": Kind("note", "nearly same picture in a split", "look whether both are wanted"),
    # Records.
    "broken-annotation": Kind("error", "annotation file cannot be read", "write the file anew"),
    "bad-record": Kind("error", "record that cannot be used", "mend the record"),
    "unlisted-annotation": Kind(
        "error", "annotation without its picture", "list the picture, or remove the annotation"
    ),
    "repeated-record": Kind("warning", "picture is listed twice", "remove one of the records"),
    "unannotated-picture": Kind(
        "warning", "picture without annotation", "annotate it, or give it an empty annotation"
    ),
    "odd-record": Kind("note", "read in an unusual way", "see that it was meant so"),
    "missing-split": Kind("note", "a named split is not there", "mend its path, or remove the entry"),
    # Boxes.
    "malformed-box": Kind("error", "not a box of numbers", "mend the numbers"),
    "non-finite-box": Kind("error", "box is not finite", "mend the numbers"),
    "inverted-box": Kind("error", "box is inverted", "swap its corners"),
    "zero-area-box": Kind("error", "box has no area", "draw the box anew, or remove it"),
    "outside-box": Kind("error", "box outside the picture", "see whether the box is of another picture"),
    "pixels-as-fractions": Kind("error", "box of no fractions", "divide pixels by the picture's size"),
    "unknown-class": Kind("error", "box of an unknown class", "name the class in the list of classes"),
    "duplicate-box": Kind("warning", "same box and class twice", "remove one of them"),
    "near-duplicate-box": Kind("warning", "nearly same box and class twice", "remove one of them"),
    "contradictory-labels": Kind("warning", "one object, two classes", "keep the right class"),
    "beyond-border": Kind("warning", "box reaches beyond the picture", "see whether it fits; it is clipped"),
    "swapped-axes": Kind("warning", "boxes fit only with x, y swapped", "write x before y"),
    "tiny-box": Kind("warning", "box under 2 pixels", "remove the box: a slip of the hand, most likely"),
    "same-box-everywhere": Kind("warning", "same box in most pictures", "see whether boxes went to wrong pictures"),
    "crowded-picture": Kind("warning", "more objects than are kept", "cut the picture into tiles"),
    "whole-picture-box": Kind("note", "box covers the whole picture", "see whether the object fills the picture"),
    "extreme-ratio": Kind("note", "very long or very flat box", "see whether the object has that shape"),
    # Classes and splits.
    "no-objects": Kind("error", "nothing to learn in a split", "give annotations with boxes"),
    "class-lists-differ": Kind("error", "splits have other classes", "give all splits one list of classes"),
    "class-not-in-train": Kind("warning", "class only outside training", "move some of its pictures to training"),
    "class-without-boxes": Kind("warning", "class without any box", "remove the class, or annotate it"),
    "class-named-twice": Kind("warning", "class name stands twice", "give every class a name of its own"),
    "similar-class-names": Kind("warning", "class names nearly the same", "make them one class, or name them apart"),
    "placeholder-class": Kind("note", "class name says nothing", "give the class its name"),
    "rare-class": Kind("note", "class of few boxes", "annotate more of it"),
    "class-not-in-split": Kind("note", "class is not judged", "move some of its pictures to this split"),
    "imbalanced-classes": Kind("note", "classes of very unequal number", "annotate more of the rare ones"),
    "many-empty-pictures": Kind("note", "most pictures have no object", "see whether annotations are lacking"),
    "ignored-regions": Kind(
        "note", "crowd or difficult boxes", "nothing: no truth in training, ignored in evaluation"
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


Box = tuple[float, float, float, float]  # xyxy in pixels of the picture


@dataclass(frozen=True)
class Finding:
    """One thing found: where, what, and what to do."""

    code: str  # of KINDS
    file: str  # the file to open for it: a picture or an annotation
    record: str  # what of that file; empty for the whole of it
    text: str  # one sentence
    split: str = ""  # empty for what concerns all splits
    picture: Path | None = None  # to look at, with ``boxes`` drawn on it
    boxes: tuple[Box, ...] = ()
    other: Path | None = None  # a second picture, for what is twice

    @property
    def severity(self) -> Severity:
        """As the kind's."""
        return KINDS[self.code].severity

    @property
    def mend(self) -> str:
        """What to do about it."""
        return KINDS[self.code].mend

    def to_json(self) -> dict[str, str]:
        """As ``gfocal check --json`` writes it."""
        return {
            "code": self.code,
            "severity": self.severity,
            "split": self.split,
            "file": self.file,
            "record": self.record,
            "text": self.text,
            "mend": self.mend,
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
