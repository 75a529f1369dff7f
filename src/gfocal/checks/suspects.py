"""Annotations that are probably wrong, by what a model finds in the same images; each kind ranked by its evidence.

Letters of shapes: G annotated box of an image, D detection of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torchvision.ops import box_iou

from gfocal.checks.edge_deviations import MatchedEdges, deviations
from gfocal.checks.findings import Box
from gfocal.checks.proposals import Proposals
from gfocal.data.dataset import Sample

SuspectKind = Literal["suspect-class", "suspect-missing-box", "suspect-extra-box", "suspect-edge"]
SUSPECT_KINDS: tuple[SuspectKind, ...] = get_args(SuspectKind)
SIDES = ("left", "top", "right", "bottom")

SAME_OBJECT = 0.5  # IoU from which a detection is of an annotated box
NEAR = 0.3  # IoU from which it is near one
ON_CROWD = 0.5  # share of a detection that lies on an ignored region
UNSEEN = 0.02  # added to scores before their ratio: the lowest scores say nothing

# What is reported. Ranks come from the evidence alone; these say where each list ends.
MIN_Z = 4.0  # of the worst edge of a box
MIN_RATIO = 2.0  # of the score of another class to that of the annotated one
MAX_SUPPORT = 0.1  # score of the best detection near a box that may be one too many


@dataclass(frozen=True)
class Suspect:
    """One annotation that is probably wrong, or an object that probably lacks one."""

    kind: SuspectKind
    image: int  # index in the dataset
    evidence: float  # by which those of one kind are ranked; the higher the more suspicious
    box: Box  # annotated; of a missing box the detected one
    label: int  # annotated; of a missing box the detected one
    score: float  # of the best detection that speaks against the annotation; 0: there is none
    annotation: int | None = None  # index among the boxes of the image; None: there is no annotation
    suggested_box: Box | None = None  # what the model would draw instead; None: nothing, or the box as it is
    suggested_label: int | None = None
    detected_box: Box | None = None  # of the detection with that score, to be drawn; None: there is none
    z: tuple[float, float, float, float] | None = (
        None  # of x1, y1, x2, y2: annotated minus expected place, in spreads
    )
    spread: tuple[float, float, float, float] | None = None  # pixels

    @property
    def worst_side(self) -> int:
        """The edge with the largest deviation: 0 left, 1 top, 2 right, 3 bottom."""
        assert self.z is not None, "only edges have deviations"
        return max(range(4), key=[abs(value) for value in self.z].__getitem__)


@dataclass(frozen=True)
class Ranking:
    """All that could be suspected, each kind by falling evidence, whether it is reported or not."""

    suspects: dict[SuspectKind, list[Suspect]]
    num_images: int  # that were looked at
    num_boxes: int  # that a model had a say in

    def reported(self, thresholds: Sequence[float]) -> dict[SuspectKind, list[Suspect]]:
        """Those with enough evidence; ``thresholds`` are the scores of a detection, by label of the dataset."""
        return {kind: [one for one in self.suspects[kind] if _is_reported(one, thresholds)] for kind in SUSPECT_KINDS}


def _is_reported(one: Suspect, thresholds: Sequence[float]) -> bool:
    if one.kind == "suspect-edge":
        return one.evidence >= MIN_Z and one.score > thresholds[one.label]
    if one.kind == "suspect-class":
        assert one.suggested_label is not None, "a class is suggested"
        return one.evidence >= math.log(MIN_RATIO) and one.score > thresholds[one.suggested_label]
    if one.kind == "suspect-missing-box":
        return one.score > thresholds[one.label]
    return one.evidence >= 1 - MAX_SUPPORT


def rank_suspects(samples: Sequence[Sample], proposals: Sequence[Proposals | None], known: Sequence[bool]) -> Ranking:
    """Compare annotations with what models find that were not trained on them.

    Args:
        samples: the annotated images.
        proposals: of each image; None for one that no model may review.
        known: by label of the dataset: whether the models have that class. Objects of other classes are reviewed in
            nothing, but nothing is missing where they are.
    """
    found: dict[SuspectKind, list[Suspect]] = {kind: [] for kind in SUSPECT_KINDS}
    has_class = torch.tensor(list(known), dtype=torch.bool)
    matched: list[_Match] = []
    num_images = num_boxes = 0
    for image, (sample, one) in enumerate(zip(samples, proposals, strict=True)):
        if one is None:
            continue
        iou = box_iou(one.boxes, sample.boxes.double())  # (D, G)
        reviewed = (~sample.crowd & has_class[sample.labels]).nonzero().flatten().tolist()
        num_images, num_boxes = num_images + 1, num_boxes + len(reviewed)
        for index in reviewed:
            found["suspect-class"] += _other_class(image, sample, index, one, iou[:, index])
            found["suspect-extra-box"].append(_extra_box(image, sample, index, one, iou[:, index]))
            matched += _match(image, sample, index, one, iou[:, index])
        found["suspect-missing-box"] += _missing_boxes(image, sample, one, iou)
    found["suspect-edge"] = _moved_edges(samples, matched)
    ranked = {kind: sorted(found[kind], key=lambda one: -one.evidence) for kind in SUSPECT_KINDS}
    return Ranking(ranked, num_images, num_boxes)


@dataclass(frozen=True)
class _Match:
    """An annotated box and the detection that its edges are compared with."""

    image: int
    annotation: int
    proposals: Proposals
    row: int  # of the detection


def _match(image: int, sample: Sample, index: int, one: Proposals, iou: Tensor) -> list[_Match]:
    """The best detection of a box, of any class: a box of the wrong class may have the right edges. One or none."""
    if not len(one):
        return []
    value, row = torch.where(iou >= SAME_OBJECT, iou * one.scores, 0).max(0)
    return [_Match(image, index, one, int(row))] if float(value) > 0 else []


def _moved_edges(samples: Sequence[Sample], matched: Sequence[_Match]) -> list[Suspect]:
    """One for each matched box, by its worst edge."""
    if not matched:
        return []
    annotated = torch.stack([samples[m.image].boxes[m.annotation].double() for m in matched])
    detected = torch.stack([m.proposals.boxes[m.row] for m in matched])
    std = [m.proposals.std[m.row] for m in matched if m.proposals.std is not None]
    longer = torch.tensor([max(samples[m.image].size or (1, 1)) for m in matched], dtype=torch.float64)
    bins = torch.stack([m.proposals.bin_sizes[m.row] for m in matched])
    edges = MatchedEdges(
        errors=annotated - detected,
        features=torch.stack([m.proposals.features[m.row] for m in matched]),
        differences=torch.stack([m.proposals.differences[m.row] for m in matched]),
        levels=(bins / longer).log2().round().long(),
        std=torch.stack(std) if len(std) == len(matched) else None,
    )
    z, spread = deviations(edges)
    return [
        Suspect(
            kind="suspect-edge",
            image=m.image,
            evidence=float(z[i].abs().max()),
            box=_as_box(annotated[i]),
            label=int(samples[m.image].labels[m.annotation]),
            score=float(m.proposals.scores[m.row]),
            annotation=m.annotation,
            suggested_box=_as_box(detected[i]),
            detected_box=_as_box(detected[i]),
            z=_as_box(z[i]),
            spread=_as_box(spread[i]),
        )
        for i, m in enumerate(matched)
    ]


def _other_class(image: int, sample: Sample, index: int, one: Proposals, iou: Tensor) -> list[Suspect]:
    """Of a box on which a detection of another class lies: the logarithm of the ratio of the two best scores."""
    label = int(sample.labels[index])
    on_it = torch.where(iou >= SAME_OBJECT, one.scores, 0)
    is_own = one.labels == label
    if not bool((on_it[~is_own] > 0).any()):
        return []
    own = float(on_it[is_own].max()) if bool(is_own.any()) else 0.0
    row = int(torch.where(is_own, -1.0, on_it).argmax())
    other = float(on_it[row])
    return [
        Suspect(
            kind="suspect-class",
            image=image,
            evidence=math.log((other + UNSEEN) / (own + UNSEEN)),
            box=_as_box(sample.boxes[index]),
            label=label,
            score=other,
            annotation=index,
            suggested_label=int(one.labels[row]),
            detected_box=_as_box(one.boxes[row]),
        )
    ]


def _extra_box(image: int, sample: Sample, index: int, one: Proposals, iou: Tensor) -> Suspect:
    """By how little the best detection near a box scores, of any class."""
    near = torch.where(iou >= NEAR, one.scores, 0)
    support = float(near.max()) if len(one) else 0.0
    return Suspect(
        kind="suspect-extra-box",
        image=image,
        evidence=1 - support,
        box=_as_box(sample.boxes[index]),
        label=int(sample.labels[index]),
        score=support,
        annotation=index,
        detected_box=_as_box(one.boxes[near.argmax()]) if support > 0 else None,
    )


def _missing_boxes(image: int, sample: Sample, one: Proposals, iou: Tensor) -> list[Suspect]:
    """Detections that are near no annotation, the best one of each place, by their score."""
    is_free = (iou < NEAR).all(1) if iou.shape[1] else torch.ones(len(one), dtype=torch.bool)
    if bool(sample.crowd.any()) and len(one):
        is_free &= ~(_shares(one.boxes, sample.boxes[sample.crowd].double()) > ON_CROWD).any(1)
    rows = is_free.nonzero().flatten()
    rows = rows[one.scores[rows].argsort(descending=True, stable=True)]
    mutual = box_iou(one.boxes[rows], one.boxes[rows])
    kept: list[int] = []
    for k in range(len(rows)):
        if not kept or float(mutual[k, kept].max()) < SAME_OBJECT:
            kept.append(k)
    return [
        Suspect(
            kind="suspect-missing-box",
            image=image,
            evidence=float(one.scores[row]),
            box=_as_box(one.boxes[row]),
            label=int(one.labels[row]),
            score=float(one.scores[row]),
            suggested_box=_as_box(one.boxes[row]),
            suggested_label=int(one.labels[row]),
            detected_box=_as_box(one.boxes[row]),
        )
        for row in rows[kept].tolist()
    ]


def _shares(boxes: Tensor, regions: Tensor) -> Tensor:
    """The share of each box that lies in each region. (D, 4), (R, 4) -> (D, R)"""
    low = torch.maximum(boxes[:, None, :2], regions[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[None, :, 2:])
    sides = boxes[:, 2:] - boxes[:, :2]
    return (high - low).clamp(min=0).prod(2) / sides.prod(1, keepdim=True).clamp(min=1e-9)


def _as_box(row: Tensor) -> Box:
    a, b, c, d = row.tolist()
    return a, b, c, d
