"""Findings on reach: edges that cannot be said, boxes that no point learns, boxes that are small at the input."""

from __future__ import annotations

from collections.abc import Sequence

from gfocal.data.samples import FileData
from gfocal.doctor.advice import FEW
from gfocal.doctor.boxes import TINY, box_of, described
from gfocal.doctor.findings import Finding
from gfocal.doctor.reach import LaidBox, ReachResult
from gfocal.doctor.refusal import told
from gfocal.words import counted


def reach_findings(result: ReachResult, data: FileData, split: str, where: str, most_clamped: float) -> list[Finding]:
    """A finding for each box that is concerned, and one for all of them where they are many."""
    findings = []
    if result.share > FEW or result.share > most_clamped:
        code = "reach-too-short" if result.share > most_clamped else "reach-short"
        findings.append(Finding(code, where, split, told(result), split))
    if result.unplaced_share > FEW:
        text = (
            f"{len(result.unplaced)} of {counted(result.boxes, 'box', 'boxes')} ({result.unplaced_share:.1%}) are "
            f"learned by no point at a short side of {result.short_side}"
        )
        findings.append(Finding("many-without-location", where, split, text, split))
    for laid in result.beyond:
        text = (
            f"{laid.farthest:.1f} strides of {laid.stride} to its farthest edge, of {result.n * result.delta:g} that "
            f"can be said; {_size(laid)}"
        )
        findings.append(_found("edge-beyond-reach", laid, data, split, text))
    for code, boxes in (("box-without-location", result.unplaced), ("small-at-input", result.small)):
        findings += [_found(code, laid, data, split, _size(laid)) for laid in _not_tiny(boxes, data)]
    return findings


def _size(laid: LaidBox) -> str:
    return f"{laid.sides[0]:.1f} x {laid.sides[1]:.1f} pixels at the input"


def _not_tiny(boxes: Sequence[LaidBox], data: FileData) -> list[LaidBox]:
    """Boxes that are not a finding already, for being next to nothing in the file itself."""
    kept = []
    for laid in boxes:
        x1, y1, x2, y2 = box_of(data.samples[laid.picture], laid.box)
        if min(x2 - x1, y2 - y1) >= TINY:
            kept.append(laid)
    return kept


def _found(code: str, laid: LaidBox, data: FileData, split: str, text: str) -> Finding:
    sample = data.samples[laid.picture]
    record = described(sample, laid.box, data.names)
    return Finding(code, str(sample.path), record, text, split, sample.path, (box_of(sample, laid.box),))
