"""TIDE's error types: each by hand, all against a slow reading of the paper, and against its authors' program."""

from __future__ import annotations

import contextlib
import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coco_ap import scene
from torchvision.ops import box_iou

from gfocal.data.dataset import Sample
from gfocal.evaluation import curves
from gfocal.evaluation.coco_ap import coco_ap
from gfocal.evaluation.error_analysis import IGNORED, TYPE_NAMES, ErrorTypes, error_types
from gfocal.evaluation.matching import collect_boxes, compute_overlaps, match

NAMES = ["cat", "dog"]
CAT, DOG = 0, 1
Found = list[tuple[list[float], int, float]]  # box, label, score


def evaluation(ground_truth: list[tuple[list[float], int]], found: Found, crowd: int = 0) -> ErrorTypes:
    """Of one image, the last ``crowd`` of whose ground-truth boxes are crowd regions."""
    flags = torch.arange(len(ground_truth)) >= len(ground_truth) - crowd
    boxes = torch.tensor([box for box, _ in ground_truth], dtype=torch.float32).reshape(-1, 4)
    sample = Sample(1, None, boxes, torch.tensor([label for _, label in ground_truth]), flags)
    one = SimpleNamespace(
        boxes=torch.tensor([box for box, _, _ in found], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for _, label, _ in found]),
        scores=torch.tensor([score for _, _, score in found]),
    )
    laid = collect_boxes([sample], {1: one}, NAMES)
    pairs = compute_overlaps(laid)
    return error_types(laid, pairs, match(laid, pairs))


def right(iou: float, x: float = 0.0) -> list[float]:
    """A box that overlaps [x, 0, x + 10, 10] with that IoU, by being higher."""
    return [x, 0.0, x + 10, 10 / iou]


HERE, THERE = [0.0, 0.0, 10.0, 10.0], [100.0, 0.0, 110.0, 10.0]
NOWHERE = [300.0, 300.0, 310.0, 310.0]


@pytest.mark.parametrize(
    ("found", "kind", "missed"),
    [
        ((right(0.6), DOG, 0.9), "classification", 0),
        ((right(0.3), CAT, 0.9), "localization", 0),
        ((right(0.3), DOG, 0.9), "both", 1),
        ((right(0.09), CAT, 0.9), "background", 1),
        ((NOWHERE, CAT, 0.9), "background", 1),
    ],
)
def test_each_type(found: tuple[list[float], int, float], kind: str, missed: int) -> None:
    errors = evaluation([(HERE, CAT), (THERE, DOG)], [found, (THERE, DOG, 0.5)])
    assert {name: n for name, n in errors.counts.items() if n} == {kind: 1} | ({"missed": 1} if missed else {})
    assert errors.ap50 == pytest.approx(0.5 if found[1] == CAT else 0.25, abs=0.01)


def test_a_second_one_on_a_taken_object_is_a_duplicate() -> None:
    errors = evaluation([(HERE, CAT)], [(HERE, CAT, 0.9), (right(0.8), CAT, 0.8)])
    assert errors.counts["duplicate"] == 1
    assert sum(errors.counts.values()) == 1
    assert errors.cost["duplicate"] == 0  # it comes after all that is right


def test_what_lies_on_a_crowd_is_no_error_and_a_crowd_is_not_missed() -> None:
    errors = evaluation([(HERE, CAT), (THERE, CAT)], [(HERE, CAT, 0.5), (THERE, CAT, 0.9)], crowd=1)
    assert errors.kind.tolist() == [IGNORED, 0]
    assert sum(errors.counts.values()) == 0
    assert errors.ap50 == 1


def test_what_each_type_costs_by_hand() -> None:
    # dog on the cat (0.9), the dog (0.8), nothing (0.7); AP: cat 0, dog 1/2 up to recall 1.
    errors = evaluation([(HERE, CAT), (THERE, DOG)], [(HERE, DOG, 0.9), (THERE, DOG, 0.8), (NOWHERE, DOG, 0.7)])
    assert errors.ap50 == pytest.approx(0.25)
    assert errors.cost["classification"] == pytest.approx(0.75)  # the cat is found, and the dog comes first
    assert errors.cost["background"] == pytest.approx(0)  # it comes after the dog
    assert errors.false_positives == pytest.approx(0.25)  # the dog comes first; nobody finds the cat
    assert errors.counts["missed"] == 0  # the classification error covers the cat
    assert errors.largest == "classification"


def test_only_the_best_error_about_an_object_is_mended() -> None:
    # Two badly placed ones on the same cat: with both fixed the second is a duplicate, so only the first stays.
    errors = evaluation(
        [(HERE, CAT), (THERE, CAT)], [(right(0.4), CAT, 0.9), (right(0.3), CAT, 0.8), (THERE, CAT, 0.7)]
    )
    assert errors.counts["localization"] == 2
    assert errors.ap50 == pytest.approx(51 / 101 / 3)
    assert errors.cost["localization"] == pytest.approx(1 - 51 / 101 / 3)


def test_missed_truth_stretches_the_curve() -> None:
    errors = evaluation([(HERE, CAT), (THERE, CAT)], [(HERE, CAT, 0.9)])
    assert errors.counts["missed"] == 1
    assert errors.cost["missed"] == errors.false_negatives == pytest.approx(1 - 51 / 101)


def test_a_class_of_which_nothing_is_found_costs_what_it_is_worth() -> None:
    errors = evaluation([(HERE, CAT), (THERE, DOG)], [(HERE, CAT, 0.9), (NOWHERE, DOG, 0.8)])
    assert errors.ap50 == 0.5
    assert errors.cost["missed"] == errors.false_negatives == 0.5
    assert errors.cost["background"] == 0
    assert evaluation([(HERE, CAT)], [(NOWHERE, CAT, 0.9)]).cost["missed"] == 1


def test_without_truth_there_is_no_cost_and_without_errors_no_largest() -> None:
    nothing = evaluation([], [(HERE, CAT, 0.9)])
    assert nothing.ap50 is None
    assert nothing.counts["background"] == 1
    assert set(nothing.cost.values()) == {None}
    assert nothing.largest is None
    assert evaluation([(HERE, CAT)], [(HERE, CAT, 0.9)]).largest is None


# ---- a slow reading of the paper -----------------------------------------------------------------------------------


def slow_ap(rows: list[tuple[int, bool]], num_ground_truth: dict[int, int], classes: list[int]) -> float:
    """Mean AP50; rows are (label, right), best first."""
    aps = []
    for c in classes:
        hits = [hit for label, hit in rows if label == c]
        if not num_ground_truth[c]:
            continue
        points = [(sum(hits[: k + 1]) / num_ground_truth[c], sum(hits[: k + 1]) / (k + 1)) for k in range(len(hits))]
        grid = np.linspace(0, 1, 101)
        aps.append(np.mean([max([p for r, p in points if r >= recall], default=0.0) for recall in grid]))
    return float(np.mean(aps)) if aps else 1.0


def slow(samples, found):
    """Counts, costs and the two special errors, image by image and detection by detection."""
    rows = []  # score, image id, place, label, kind, ground-truth box
    ground_truth, state = {}, {}
    for s in sorted(samples, key=lambda one: one.image_id):
        for g in range(len(s.boxes)):
            ground_truth[s.image_id, g] = int(s.labels[g])
            state[s.image_id, g] = "crowd" if s.crowd[g] else "free"
        one = found[s.image_id]
        iou = box_iou(one.boxes.double(), s.boxes.double()).numpy()
        order = sorted(range(len(one.scores)), key=lambda d: -float(one.scores[d]))
        waiting = []
        for d in order:
            label = int(one.labels[d])
            own = [g for g in range(len(s.boxes)) if ground_truth[s.image_id, g] == label]
            fits = [g for g in own if state[s.image_id, g] == "free" and iou[d, g] >= 0.5]
            if fits:
                g = max(fits, key=lambda g: (iou[d, g], g))
                state[s.image_id, g] = "taken"
                rows.append((float(one.scores[d]), s.image_id, d, label, "hit", (s.image_id, g)))
                continue
            sides = [
                np.minimum(one.boxes[d, 2:].double(), s.boxes[g, 2:].double())
                - np.maximum(one.boxes[d, :2].double(), s.boxes[g, :2].double())
                for g in own
                if state[s.image_id, g] == "crowd"
            ]
            area = float((one.boxes[d, 2:].double() - one.boxes[d, :2].double()).prod())
            if any((side > 0).all() and float(side.prod()) / area >= 0.5 for side in sides):
                continue
            waiting.append(d)
        for d in waiting:
            label = int(one.labels[d])
            real = [g for g in range(len(s.boxes)) if state[s.image_id, g] != "crowd"]
            own = max([(iou[d, g], g) for g in real if ground_truth[s.image_id, g] == label], default=(0.0, None))
            other = max([(iou[d, g], g) for g in real if ground_truth[s.image_id, g] != label], default=(0.0, None))
            about = None
            if 0.1 <= own[0] < 0.5:
                kind, about = "localization", (s.image_id, own[1])
            elif other[0] >= 0.5:
                kind, about = "classification", (s.image_id, other[1])
            elif own[0] >= 0.5:
                kind = "duplicate"
            elif max(own[0], other[0]) <= 0.1:
                kind = "background"
            else:
                kind = "both"
            rows.append((float(one.scores[d]), s.image_id, d, label, kind, about))
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    covered = {row[5] for row in rows if row[4] in ("localization", "classification")}
    missed = [key for key, what in state.items() if what == "free" and key not in covered]
    real = [key for key, what in state.items() if what != "crowd"]
    classes = sorted({ground_truth[key] for key in real})
    amount = {c: sum(ground_truth[key] == c for key in real) for c in classes}
    base = slow_ap([(row[3], row[4] == "hit") for row in rows], amount, classes)
    counts = {name: sum(row[4] == name for row in rows) for name in TYPE_NAMES.values()} | {"missed": len(missed)}
    cost = {}
    for name in TYPE_NAMES.values():
        fixed, done = [], set()
        for row in rows:
            if row[4] != name:
                fixed.append((row[3], row[4] == "hit"))
            elif row[5] is not None and state[row[5]] == "free" and row[5] not in done:
                done.add(row[5])
                fixed.append((ground_truth[row[5]], True))
        cost[name] = slow_ap(fixed, amount, classes) - base
    as_is = [(row[3], row[4] == "hit") for row in rows]
    fewer = {c: amount[c] - sum(ground_truth[key] == c for key in missed) for c in classes}
    cost["missed"] = slow_ap(as_is, fewer, classes) - base
    taken = {c: sum(ground_truth[k] == c and what == "taken" for k, what in state.items()) for c in classes}
    false_positives = slow_ap([row for row in as_is if row[1]], amount, classes) - base
    return base, counts, cost, false_positives, slow_ap(as_is, taken, classes) - base


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_classes=st.integers(1, 4),
    num_found=st.sampled_from([1, 8, 20]),
    crowd=st.sampled_from([0.0, 0.3]),
    levels=st.sampled_from([3, 1000]),
)
def test_equal_to_a_slow_reading_of_the_paper(seed, num_classes, num_found, crowd, levels):
    samples, found, names, _, _ = scene(seed, 6, num_classes, num_found, crowd, levels)
    boxes = collect_boxes(samples, found, names)
    pairs = compute_overlaps(boxes)
    errors = error_types(boxes, pairs, match(boxes, pairs))
    assert errors.ap50 == pytest.approx(coco_ap(samples, found, names).ap50, abs=1e-9)
    if errors.ap50 is None:
        return
    base, counts, cost, false_positives, false_negatives = slow(samples, found)
    assert errors.counts == counts
    assert errors.ap50 == pytest.approx(base, abs=1e-9)
    for name, expected in cost.items():
        assert errors.cost[name] == pytest.approx(expected, abs=1e-9), name
    assert errors.false_positives == pytest.approx(false_positives, abs=1e-9)
    assert errors.false_negatives == pytest.approx(false_negatives, abs=1e-9)


# ---- the authors' own program -----------------------------------------------------------------------------------

THEIR_NAMES = {
    "Cls": "classification",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
}


def theirs(tidecv, samples, found):
    ground_truth, guesses = tidecv.Data("ground_truth", max_dets=10**6), tidecv.Data("found", max_dets=10**6)
    for s in samples:
        ground_truth.add_image(s.image_id, str(s.image_id))
        for (x0, y0, x1, y1), label in zip(s.boxes.double().tolist(), s.labels.tolist(), strict=True):
            ground_truth.add_ground_truth(s.image_id, label, [x0, y0, x1 - x0, y1 - y0])
        one = found[s.image_id]
        rows = zip(one.boxes.double().tolist(), one.scores.tolist(), one.labels.tolist(), strict=True)
        for (x0, y0, x1, y1), score, label in rows:
            guesses.add_detection(s.image_id, label, score, [x0, y0, x1 - x0, y1 - y0])
    tide = tidecv.TIDE()
    with contextlib.redirect_stdout(io.StringIO()):
        run = tide.evaluate(ground_truth, guesses, mode="bbox")
    counts = {THEIR_NAMES[kind.short_name]: len(errors) for kind, errors in run.error_dict.items()}
    cost = {THEIR_NAMES[name]: value / 100 for name, value in tide.get_main_errors()["found"].items()}
    special = {name: value / 100 for name, value in tide.get_special_errors()["found"].items()}
    return run.ap / 100, counts, cost, special


@pytest.mark.parametrize("seed", range(12))
def test_equal_to_the_authors_program(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tidecv = pytest.importorskip("tidecv", reason="tidecv is not installed", exc_type=ImportError)
    # Scores without ties, whose order it leaves open, and its recall points: not COCO's in the last bit.
    monkeypatch.setattr(curves, "RECALL_POINTS", np.array([x / 100 for x in range(101)]))
    samples, found, names, _, _ = scene(seed, 12, 3, 12, 0.0, 1000)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(10_000)).float() / 10_001
    place = 0
    for one in found.values():
        one.scores = order[place : place + len(one.scores)]
        place += len(one.scores)
    boxes = collect_boxes(samples, found, names)
    pairs = compute_overlaps(boxes)
    matching = match(boxes, pairs)
    errors = error_types(boxes, pairs, matching)
    ap50, counts, cost, special = theirs(tidecv, samples, found)
    assert errors.ap50 == pytest.approx(ap50, abs=1e-9)
    assert errors.counts == counts
    # Where an object has an error of both kinds it fixes only the better of the two, in the oracles of both.
    about = {kind: set(errors.gt_index[errors.kind == kind].tolist()) for kind in TYPE_NAMES}
    shared = {t for t in about[2] & about[3] if matching.detection_index[t] == -1}
    for name, expected in cost.items():
        if name in ("classification", "localization") and shared:
            continue
        assert max(errors.cost[name], 0) == pytest.approx(expected, abs=1e-9), name
    assert errors.false_positives == pytest.approx(special["FalsePos"], abs=1e-9)
    assert errors.false_negatives == pytest.approx(special["FalseNeg"], abs=1e-9)
