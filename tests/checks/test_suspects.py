"""Laws of the review of annotations, on detections that are made: what is planted is found, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gfocal.checks.edge_deviations import MIN_BOXES, MatchedEdges, deviations
from gfocal.checks.label_review import describe_suspect
from gfocal.checks.proposals import Proposals, combine
from gfocal.checks.suspects import SUSPECT_KINDS, Ranking, rank_suspects
from gfocal.data.dataset import Sample
from gfocal.structures import Detections

NAMES = ("cat", "dog", "owl")
SIZE = (600, 800)
NUM_IMAGES, PER_IMAGE = 8, 6
KNOWN = (True, True, True)
THRESHOLDS = (0.3, 0.3, 0.3)


def grid(seed: int) -> tuple[list[Sample], list[Detections]]:
    """Images with boxes that are well apart, and a good detector: some 1.5 pixels of noise, scores near 0.8."""
    generator = torch.Generator().manual_seed(seed)
    samples, found = [], []
    for image in range(NUM_IMAGES):
        corner = torch.tensor([[30.0 + 260 * (k % 3), 40.0 + 280 * (k // 3)] for k in range(PER_IMAGE)])
        side = 90 + 80 * torch.rand(PER_IMAGE, 2, generator=generator)
        boxes = torch.cat([corner, corner + side], 1)
        labels = torch.randint(3, (PER_IMAGE,), generator=generator)
        crowd = torch.zeros(PER_IMAGE, dtype=torch.bool)
        samples.append(Sample(image + 1, Path(f"{image}.png"), boxes, labels, crowd, SIZE))
        noise = 1.5 * torch.randn(PER_IMAGE, 4, generator=generator).clamp(-2, 2)
        scores = 0.75 + 0.1 * torch.rand(PER_IMAGE, generator=generator)
        found.append(detections(boxes + noise, labels, scores))
    return samples, found


def detections(boxes: Tensor, labels: Tensor, scores: Tensor) -> Detections:
    """With distributions over two bins."""
    edges = torch.zeros(len(boxes), 4, 8)
    edges[:, :, 4:6] = 0.5
    return Detections(
        boxes=boxes,
        scores=scores,
        labels=labels,
        edges=edges,
        points=(boxes[:, :2] + boxes[:, 2:]) / 2,
        bin_sizes=torch.full((len(boxes), 4), 16.0),
        names=NAMES,
        size=SIZE,
    )


def rank(samples: list[Sample], found: list[Detections]) -> Ranking:
    return rank_suspects(samples, [combine(one, None, range(3)) for one in found], KNOWN)


def change(samples: list[Sample], image: int, **values: Any) -> list[Sample]:
    return [replace(one, **values) if k == image else one for k, one in enumerate(samples)]


places = st.integers(0, NUM_IMAGES - 1), st.integers(0, PER_IMAGE - 1)


@settings(max_examples=12)
@given(st.integers(0, 100), *places, st.integers(0, 3), st.sampled_from((-1, 1)))
def test_a_moved_edge_is_first(seed: int, image: int, box: int, side: int, way: int) -> None:
    samples, found = grid(seed)
    boxes = samples[image].boxes.clone()
    boxes[box, side] += way * 15
    ranking = rank(change(samples, image, boxes=boxes), found)
    first = ranking.suspects["suspect-edge"][0]
    assert (first.image, first.annotation, first.worst_side) == (image, box, side)
    assert first.z is not None
    assert first.z[side] * way > 4
    reported = ranking.reported(THRESHOLDS)
    assert [len(reported[kind]) for kind in SUSPECT_KINDS if kind != "suspect-edge"] == [0, 0, 0]
    outward = (way > 0) == (side >= 2)
    text = describe_suspect(first, NAMES)
    assert text.startswith(("left", "top", "right", "bottom")[side])
    assert ("outside" if outward else "inside") in text


@settings(max_examples=8)
@given(st.integers(0, 100), *places)
def test_a_removed_box_is_missing(seed: int, image: int, box: int) -> None:
    samples, found = grid(seed)
    keep = torch.arange(PER_IMAGE) != box
    whole = samples[image]
    cut: dict[str, Any] = {"boxes": whole.boxes[keep], "labels": whole.labels[keep], "crowd": whole.crowd[keep]}
    reported = rank(change(samples, image, **cut), found).reported(THRESHOLDS)
    (one,) = reported["suspect-missing-box"]
    assert (one.image, one.annotation, one.label) == (image, None, int(whole.labels[box]))
    assert one.box == pytest.approx(found[image].boxes[box].tolist())
    # An ignored region is not an annotation that is missing, nor one to be reviewed.
    crowd = rank(change(samples, image, crowd=~keep), found).reported(THRESHOLDS)
    assert not any(crowd.values())


@settings(max_examples=8)
@given(st.integers(0, 100), *places, st.sampled_from((1, 2)))
def test_another_class_is_first(seed: int, image: int, box: int, shift: int) -> None:
    samples, found = grid(seed)
    labels = samples[image].labels.clone()
    labels[box] = (labels[box] + shift) % 3
    ranking = rank(change(samples, image, labels=labels), found)
    (one,) = ranking.reported(THRESHOLDS)["suspect-class"]
    assert (one.image, one.annotation, one.label) == (image, box, int(labels[box]))
    assert one.suggested_label == int(samples[image].labels[box])
    reported = ranking.reported(THRESHOLDS)  # the object is there, and so is its box
    assert not reported["suspect-missing-box"]
    assert not reported["suspect-extra-box"]


@settings(max_examples=8)
@given(st.integers(0, 100), st.integers(0, NUM_IMAGES - 1))
def test_an_added_box_is_one_too_many(seed: int, image: int) -> None:
    samples, found = grid(seed)
    whole = samples[image]
    more: dict[str, Any] = {
        "boxes": torch.cat([whole.boxes, torch.tensor([[500.0, 200.0, 560.0, 260.0]])]),
        "labels": torch.cat([whole.labels, torch.tensor([1])]),
        "crowd": torch.zeros(PER_IMAGE + 1, dtype=torch.bool),
    }
    ranking = rank(change(samples, image, **more), found)
    (one,) = ranking.reported(THRESHOLDS)["suspect-extra-box"]
    assert (one.image, one.annotation) == (image, PER_IMAGE)
    assert ranking.suspects["suspect-extra-box"][0] == one


def test_ranks_are_by_evidence_and_nothing_is_reported_of_good_annotations() -> None:
    samples, found = grid(0)
    ranking = rank(samples, found)
    for kind in SUSPECT_KINDS:
        evidence = [one.evidence for one in ranking.suspects[kind]]
        assert evidence == sorted(evidence, reverse=True)
    assert not any(ranking.reported(THRESHOLDS).values())
    assert (ranking.num_images, ranking.num_boxes) == (NUM_IMAGES, NUM_IMAGES * PER_IMAGE)


def test_images_that_no_model_may_review_are_left_out() -> None:
    samples, found = grid(0)
    proposals: list[Proposals | None] = [combine(one, None, range(3)) for one in found]
    proposals[2] = None
    ranking = rank_suspects(samples, proposals, KNOWN)
    assert ranking.num_images == NUM_IMAGES - 1
    assert all(one.image != 2 for same in ranking.suspects.values() for one in same)


def test_objects_of_classes_that_the_model_lacks_are_not_reviewed_but_are_not_missing() -> None:
    samples, found = grid(0)
    ranking = rank_suspects(samples, [combine(one, None, (0, 1, -1)) for one in found], (True, True, False))
    assert all(one.label != 2 for same in ranking.suspects.values() for one in same)
    # A detection of a cat on an owl's box: no box is missing there.
    as_cats = [replace(one, labels=torch.zeros_like(one.labels)) for one in found]
    ranking = rank_suspects(samples, [combine(one, None, (0, 1, -1)) for one in as_cats], (True, True, False))
    assert not ranking.suspects["suspect-missing-box"]


def test_nothing_is_said_of_edges_of_a_few_boxes() -> None:
    few = MIN_BOXES - 1
    edges = MatchedEdges(
        torch.randn(few, 4).double(), torch.zeros(few, 4, 5).double(), torch.zeros(few, 4).double(),
        torch.zeros(few, dtype=torch.int64), None,
    )  # fmt: skip
    assert not deviations(edges)[0].any()


def test_a_calibrated_spread_is_taken_as_it_is() -> None:
    errors, std = torch.tensor([[6.0, -3.0, 0.0, 8.0]]).double(), torch.full((1, 4), 2.0).double()
    features, levels = torch.zeros(1, 4, 5).double(), torch.zeros(1, dtype=torch.int64)
    z, spread = deviations(MatchedEdges(errors, features, torch.zeros(1, 4).double(), levels, std))
    assert z.tolist() == [[3.0, -1.5, 0.0, 4.0]]
    # What differs between an image and its mirror image is uncertain too.
    differences = torch.tensor([[0.0, 0.0, 0.0, 1.5]]).double()
    z, spread = deviations(MatchedEdges(errors, features, differences, levels, std))
    assert spread.tolist() == [[2.0, 2.0, 2.0, 2.5]]


def mirror(found: Detections) -> Detections:
    x1, y1, x2, y2 = found.boxes.unbind(1)
    flipped = torch.stack([SIZE[1] - x2, y1, SIZE[1] - x1, y2], 1)
    return replace(found, boxes=flipped, edges=found.edges[:, [2, 1, 0, 3]])


def test_a_detector_that_sees_the_same_in_the_mirror_image_is_as_sure_as_before() -> None:
    _, found = grid(3)
    alone, both = combine(found[0], None, range(3)), combine(found[0], mirror(found[0]), range(3))
    for name in ("boxes", "scores", "features", "differences"):
        assert torch.allclose(getattr(alone, name), getattr(both, name), atol=1e-4), name


def test_what_the_mirror_image_lacks_counts_half() -> None:
    _, found = grid(3)
    both = combine(found[0], mirror(found[0]).select(slice(1, None)), range(3))
    assert float(both.scores[0]) == pytest.approx(float(found[0].scores[0]) / 2)
    assert float(both.scores[1]) == pytest.approx(float(found[0].scores[1]))
    assert not both.differences[0].any()
    none = combine(found[0], mirror(found[0]).select(slice(0, 0)), range(3))
    assert torch.allclose(none.scores, found[0].scores.double() / 2)


def test_the_scale_of_images_does_not_matter() -> None:
    samples, found = grid(5)
    boxes = samples[1].boxes.clone()
    boxes[2, 1] -= 25
    samples = change(samples, 1, boxes=boxes)
    larger = [replace(one, boxes=3 * one.boxes, size=(1800, 2400)) for one in samples]
    found_larger = [
        replace(one, boxes=3 * one.boxes, bin_sizes=3 * one.bin_sizes, size=(1800, 2400)) for one in found
    ]
    small = rank(samples, found).suspects["suspect-edge"]
    large = rank(larger, found_larger).suspects["suspect-edge"]
    assert [(a.image, a.annotation) for a in small[:5]] == [(b.image, b.annotation) for b in large[:5]]
    assert [a.evidence for a in small] == pytest.approx([b.evidence for b in large], rel=0.02)
