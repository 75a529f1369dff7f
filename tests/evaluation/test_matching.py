"""One matching: COCO's AP follows from it, and it is that of a loop over the detections."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coco_ap import scene

from gfocal.data.dataset import Sample
from gfocal.data.readers.coco import read_coco
from gfocal.evaluation import matching
from gfocal.evaluation.coco_ap import CocoResult, coco_ap
from gfocal.evaluation.curves import precision_recall
from gfocal.evaluation.matching import NONE, Boxes, collect_boxes, compute_overlaps, match

scenes = {
    "seed": st.integers(0, 10**6),
    "num_classes": st.integers(1, 4),
    "num_found": st.sampled_from([0, 1, 8, 30]),
    "crowd": st.sampled_from([0.0, 0.3, 1.0]),
    "levels": st.sampled_from([1, 3, 1000]),
}


def check_ap(result: CocoResult, boxes: Boxes) -> None:
    pairs = compute_overlaps(boxes)
    for iou, key in ((0.5, "ap50"), (0.75, "ap75")):
        curves = precision_recall(boxes, match(boxes, pairs, iou))
        for (name, theirs), curve in zip(result.per_class.items(), curves, strict=True):
            expected = getattr(theirs, key)
            assert (curve is None) == (expected is None), name
            if curve is not None:
                assert curve.mean() == pytest.approx(expected, abs=1e-9), (name, key)
    ious = np.linspace(0.5, 0.95, 10)
    every = [[c.mean() for c in precision_recall(boxes, match(boxes, pairs, t)) if c is not None] for t in ious]
    assert (np.mean(every) if every[0] else None) == pytest.approx(result.ap, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(**scenes)
def test_the_curves_have_the_area_that_coco_counts(seed, num_classes, num_found, crowd, levels):
    samples, found, names, _, _ = scene(seed, 6, num_classes, num_found, crowd, levels)
    check_ap(coco_ap(samples, found, names), collect_boxes(samples, found, names))


def test_only_the_best_100_of_a_class_and_image_count():
    samples, found, names, _, _ = scene(5, 4, 1, 260, 0.2, 1000)
    boxes = collect_boxes(samples, found, names)
    assert np.bincount(boxes.image).max() == 100
    check_ap(coco_ap(samples, found, names), boxes)


def test_the_area_is_that_of_coco_on_coco(shared: Path):
    data = read_coco(shared / "data" / "coco_ccby" / "annotations" / "instances_val2017.json")
    rng = np.random.default_rng(0)
    found = {}
    for sample in data.samples:
        twice = torch.cat([sample.boxes, sample.boxes]).double()
        guess = twice + torch.from_numpy(np.round(rng.normal(0, 5, twice.shape), 2))
        guess[:, 2:] = torch.maximum(guess[:, 2:], guess[:, :2] + 1)
        labels = torch.cat([sample.labels, sample.labels])
        other = torch.from_numpy(rng.random(len(labels)) < 0.1)
        found[sample.image_id] = SimpleNamespace(
            boxes=guess.float(),
            scores=torch.from_numpy(rng.random(len(labels), dtype=np.float32)),
            labels=torch.where(other, 0, labels),
        )
    result = coco_ap(data.samples, found, data.names)
    assert result.ap50 is not None
    assert 0.3 < result.ap50 < 0.95
    assert any(bool(sample.crowd.any()) for sample in data.samples)
    check_ap(result, collect_boxes(list(data.samples), found, data.names))


def by_turns(boxes: Boxes, iou_threshold: float, selected, any_class: bool):
    """The rule as a loop: best first, each takes the free box that it overlaps most, of equals the last."""
    pairs = compute_overlaps(boxes)
    of = {}
    for d, t, iou in zip(pairs.detection.tolist(), pairs.ground_truth.tolist(), pairs.iou.tolist(), strict=True):
        of.setdefault(d, []).append((iou, t))
    taken, ignored = np.full(len(boxes.score), NONE), np.zeros(len(boxes.score), bool)
    free = ~boxes.crowd
    for d in range(len(boxes.score)):
        fit = [
            (iou, t)
            for iou, t in of.get(d, [])
            if selected[d] and iou >= iou_threshold and (any_class or boxes.label[d] == boxes.gt_label[t])
        ]
        open_ones = [pair for pair in fit if free[pair[1]]]
        if open_ones:
            taken[d] = max(open_ones)[1]
            free[taken[d]] = False
        else:
            ignored[d] = any(boxes.crowd[t] for _, t in fit)
    return taken, ignored


@settings(max_examples=30, deadline=None)
@given(**scenes, any_class=st.booleans(), iou=st.sampled_from([0.3, 0.5, 0.75]))
def test_all_at_once_is_the_same_as_one_after_the_other(seed, num_classes, num_found, crowd, levels, any_class, iou):
    samples, found, names, _, _ = scene(seed, 4, num_classes, num_found, crowd, levels)
    boxes = collect_boxes(samples, found, names)
    selected = np.random.default_rng(seed).random(len(boxes.score)) < 0.7
    matched = match(boxes, compute_overlaps(boxes), iou, selected=selected, any_class=any_class)
    taken, ignored = by_turns(boxes, iou, selected, any_class)
    assert (matched.gt_index == taken).all()
    assert (matched.ignored == ignored).all()
    takers = {int(t): d for d, t in enumerate(taken) if t != NONE}
    assert matched.detection_index.tolist() == [takers.get(t, NONE) for t in range(len(boxes.crowd))]


def test_of_equal_ious_the_last_ground_truth_box_is_matched():
    two = torch.tensor([[0.0, 0, 10, 10], [0.0, 0, 10, 10]])
    sample = Sample(1, None, two, torch.tensor([0, 0]), torch.tensor([False, False]))
    one = SimpleNamespace(boxes=two[:1], scores=torch.tensor([0.5]), labels=torch.tensor([0]))
    boxes = collect_boxes([sample], {1: one}, ["a"])
    assert match(boxes, compute_overlaps(boxes)).gt_index.tolist() == [1]


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_the_overlaps_are_the_same_in_parts(monkeypatch: pytest.MonkeyPatch, at_once: int):
    samples, found, names, _, _ = scene(3, 5, 3, 20, 0.2, 1000)
    boxes = collect_boxes(samples, found, names)
    whole = compute_overlaps(boxes)
    monkeypatch.setattr(matching, "PAIRS_AT_ONCE", at_once)
    parts = compute_overlaps(boxes)
    assert len(whole.iou) > 50
    for name in ("detection", "ground_truth", "iou"):
        assert (getattr(parts, name) == getattr(whole, name)).all()


def test_images_without_ground_truth_or_without_detections_or_in_any_order():
    def sample(image_id, boxes):
        return Sample(
            image_id, None, torch.tensor(boxes).reshape(-1, 4), torch.zeros(len(boxes), dtype=torch.int64),
            torch.zeros(len(boxes), dtype=torch.bool),
        )  # fmt: skip

    box = [0.0, 0.0, 10.0, 10.0]
    one = SimpleNamespace(boxes=torch.tensor([box]), scores=torch.tensor([0.5]), labels=torch.tensor([0]))
    boxes = collect_boxes([sample(9, [box]), sample(4, []), sample(2, [box])], {9: one, 4: one}, ["a"])
    assert boxes.image_ids.tolist() == [2, 4, 9]
    matched = match(boxes, compute_overlaps(boxes))
    assert boxes.image_ids[boxes.image].tolist() == [4, 9]
    assert matched.true_positive.tolist() == [False, True]
    assert matched.detection_index.tolist() == [NONE, 1]
    empty = collect_boxes([sample(4, [])], {}, ["a"])
    assert len(compute_overlaps(empty).iou) == len(match(empty, compute_overlaps(empty)).gt_index) == 0
