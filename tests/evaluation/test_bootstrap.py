"""Intervals of AP: a resample has the AP that COCO gives its images, and the intervals hold what they promise."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_coco_ap import scene

from gfocal.evaluation import bootstrap
from gfocal.evaluation.bootstrap import (
    MatchTable,
    ap_intervals,
    ap_of,
    confidence_interval,
    difference_of_ap,
    match_at_thresholds,
    read_matches,
    resample_ap,
    write_matches,
)
from gfocal.evaluation.coco_ap import coco_ap
from gfocal.evaluation.matching import collect_boxes, compute_overlaps

scenes = {
    "seed": st.integers(0, 10**6),
    "num_classes": st.integers(1, 4),
    "num_found": st.sampled_from([0, 1, 8, 30]),
    "crowd": st.sampled_from([0.0, 0.3]),
}


def table_of(samples, found, names) -> MatchTable:
    boxes = collect_boxes(samples, found, names)
    return match_at_thresholds(boxes, compute_overlaps(boxes))


def one_class(images: int, found: float, seed: int, false_positives: int = 2) -> MatchTable:
    """Images with an object each, which is found with the probability ``found``."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), 1 + false_positives)
    is_object = np.arange(len(image)) % (1 + false_positives) == 0
    hit = is_object & (rng.random(len(image)) < found)
    score = np.where(hit, rng.normal(0.6, 0.2, len(image)), rng.normal(0.3, 0.2, len(image)))
    order = np.argsort(-score)
    return MatchTable(
        names=("thing",),
        image_ids=np.arange(images),
        gt_image=np.arange(images),
        gt_label=np.zeros(images, dtype=np.int64),
        image=image[order],
        label=np.zeros(len(image), dtype=np.int64),
        matched=np.where(hit, 2**10 - 1, 0).astype(np.uint16)[order],
        ignored=np.zeros(len(image), dtype=np.uint16),
    )


@settings(max_examples=30, deadline=None)
@given(**scenes)
def test_all_images_once_have_the_ap_of_coco(seed, num_classes, num_found, crowd):
    samples, found, names, _, _ = scene(seed, 6, num_classes, num_found, crowd, 1000)
    result, ours = coco_ap(samples, found, names), ap_of(table_of(samples, found, names))
    expected = [np.nan if value is None else value for value in (result.ap, result.ap50)]
    assert [ours.ap[0], ours.ap50[0]] == pytest.approx(expected, abs=1e-6, nan_ok=True)
    per_class = [np.nan if one.ap is None else one.ap for one in result.per_class.values()]
    assert ours.class_ap[0].tolist() == pytest.approx(per_class, abs=1e-6, nan_ok=True)


@settings(max_examples=30, deadline=None)
@given(**scenes)
def test_a_resample_has_the_ap_of_its_images(seed, num_classes, num_found, crowd):
    # No equal scores: those of an image drawn twice count together here, and one after another in COCO.
    samples, found, names, _, _ = scene(seed, 6, num_classes, num_found, crowd, 10**9)
    ours = resample_ap(table_of(samples, found, names), 1, seed)
    drawn = np.random.default_rng(seed).integers(6, size=6)
    ordered = sorted(samples, key=lambda sample: sample.image_id)
    again = [replace(ordered[i], image_id=k, stated=None) for k, i in enumerate(drawn)]
    theirs = {k: found[ordered[i].image_id] for k, i in enumerate(drawn) if ordered[i].image_id in found}
    result = coco_ap(again, theirs, names)
    expected = [np.nan if value is None else value for value in (result.ap, result.ap50)]
    assert [ours.ap[0], ours.ap50[0]] == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_the_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    table = one_class(30, 0.7, 1)
    whole = resample_ap(table, 50, 3)
    monkeypatch.setattr(bootstrap, "VALUES_AT_ONCE", 200)
    assert np.array_equal(resample_ap(table, 50, 3).ap, whole.ap)


@pytest.mark.parametrize(("images", "found"), [(20, 0.7), (100, 0.5)])
def test_nineteen_in_twenty_intervals_hold_the_ap_of_many_images(images: int, found: float):
    expected = float(ap_of(one_class(20_000, found, 12345)).ap[0])
    held = 0
    for seed in range(120):
        interval = ap_intervals(one_class(images, found, seed), 200, seed).ap
        assert interval is not None
        held += interval.low <= expected <= interval.high
    assert 0.89 <= held / 120 <= 0.99


def test_more_images_make_the_interval_narrower():
    widths = []
    for images in (20, 80, 320, 1280):
        interval = ap_intervals(one_class(images, 0.7, 0)).ap
        assert interval is not None
        widths.append(interval.high - interval.low)
    assert all(1.6 < a / b < 2.6 for a, b in pairwise(widths)), widths


def test_one_image_or_no_objects_have_no_interval():
    assert ap_intervals(one_class(1, 1.0, 0)).ap is None
    nothing = one_class(5, 0.5, 0)
    nothing = replace(nothing, gt_image=nothing.gt_image[:0], gt_label=nothing.gt_label[:0])
    intervals = ap_intervals(replace(nothing, matched=nothing.matched * 0))
    assert intervals.ap is None
    assert intervals.to_json()["per_class"] == {"thing": None}
    assert difference_of_ap(nothing, nothing) is None


def test_the_difference_of_two_detectors_is_narrower_than_their_intervals():
    first = one_class(200, 0.6, 0)
    lost = first.matched.copy()
    lost[np.flatnonzero(lost)[::12]] = 0  # a twelfth of what was found
    second = replace(first, matched=lost)
    difference, alone = difference_of_ap(second, first), ap_intervals(first).ap
    assert difference is not None
    assert alone is not None
    assert difference.is_clear
    assert difference.ap == pytest.approx(float(ap_of(first).ap[0] - ap_of(second).ap[0]))
    assert difference.ap_interval.high - difference.ap_interval.low < 0.8 * (alone.high - alone.low)
    same = difference_of_ap(first, first)
    assert same is not None
    assert same.ap_interval == (0, 0)
    assert not same.is_clear
    with pytest.raises(ValueError, match="same images"):
        difference_of_ap(first, one_class(199, 0.6, 0))


def test_matches_are_written_and_read_again(tmp_path):
    samples, found, names, _, _ = scene(3, 6, 3, 30, 0.3, 1000)
    table = table_of(samples, found, names)
    write_matches(tmp_path / "matches.npz", table)
    again = read_matches(tmp_path / "matches.npz")
    assert again.has_same_ground_truth(table)
    assert np.array_equal(resample_ap(again, 20).ap, resample_ap(table, 20).ap)


@pytest.mark.parametrize("damage", ["empty", "text", "missing", "outside", "long"])
def test_damaged_matches_are_a_value_error(damage: str, tmp_path):
    path = tmp_path / "matches.npz"
    table = one_class(4, 0.5, 0)
    write_matches(path, table)
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    if damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("not an archive")
    else:
        if damage == "missing":
            del arrays["image"]
        elif damage == "outside":
            arrays["image"] = arrays["image"] + 1000
        else:
            arrays["label"] = arrays["label"][:-1]
        np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"matches\.npz"):
        read_matches(path)


def test_an_interval_is_as_wide_as_the_resamples_are_spread():
    values = np.r_[np.tile([0.35, 0.55], 500), np.nan]  # a standard deviation of 0.1
    interval = confidence_interval(0.45, values, 10)
    half = 2.262 * 0.1 * (10 / 9) ** 0.5  # Student's t of 9 degrees of freedom
    assert interval == pytest.approx((0.45 - half, 0.45 + half), abs=5e-4)
    assert interval is not None
    assert interval.describe() == "0.212 to 0.688"
    # By as much as resamples lie higher, times 2.4, the interval reaches further down; in the same way up.
    assert confidence_interval(0.45, values + 0.02, 10) == pytest.approx(
        (0.45 - half - 0.0483, 0.45 + half), abs=5e-4
    )
    assert confidence_interval(0.45, values - 0.02, 10) == pytest.approx(
        (0.45 - half, 0.45 + half + 0.0483), abs=5e-4
    )
    assert confidence_interval(0.45, np.array([np.nan]), 10) is None
    assert confidence_interval(np.nan, values, 10) is None


def test_intervals_of_ap_stay_between_0_and_1():
    interval = ap_intervals(one_class(4, 0.9, 1)).ap
    assert interval is not None
    assert 0 <= interval.low <= interval.high <= 1
