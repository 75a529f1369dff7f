"""Tracks: ids stay with their objects, lines of a file replay them, and R of the edges weighs each box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibrations import NUM_BINS, calibration, detections
from gfocal.inference.tracking import Tracker, covariance_of_edges

pytest.importorskip("trackers", reason="needs the extra track: pip install 'gfocal[track]'")

UNCORRELATED = np.eye(4).tolist()


def moving(frame: int) -> list[list[float]]:
    """Two objects that move toward each other and pass one above the other."""
    x = 10.0 + 4 * frame
    return [[x, 10, x + 40, 50], [210 - x, 40, 250 - x, 80]]


@pytest.mark.parametrize("correlation", [None, UNCORRELATED])
def test_objects_keep_their_ids(correlation: list[list[float]] | None) -> None:
    tracker = Tracker(30.0, correlation)
    seen = []
    for frame in range(50):
        boxes = moving(frame)
        order = [0, 1] if frame % 2 else [1, 0]
        ids = tracker.update([boxes[i] for i in order], [True, True], [[2.0] * 4] * 2, frame / 30)
        seen.append([ids[order.index(i)] for i in range(2)])
    assert seen[0] == [None, None]
    assert {tuple(ids) for ids in seen[1:]} in ({(1, 2)}, {(2, 1)})


def test_boxes_below_the_threshold_continue_tracks_and_begin_none() -> None:
    tracker = Tracker(30.0)
    ids = [tracker.update(moving(frame), [frame < 5, False], None, frame / 30) for frame in range(10)]
    assert [one[0] for one in ids] == [None, *[1] * 9]
    assert {one[1] for one in ids} == {None}
    assert tracker.update([], [], None, 1.0) == []


@pytest.mark.parametrize(("x", "is_sure", "continues"), [(10, False, True), (20, False, False), (20, True, True)])
def test_a_box_below_the_threshold_continues_a_track_only_where_that_is_expected(
    x: float, is_sure: bool, continues: bool
) -> None:
    """A box of 40 pixels is moved by 10, an IoU of 0.6, and by 20, one of 0.33."""
    tracker = Tracker(30.0)
    for frame in range(20):
        tracker.update([[0, 0, 40, 40]], [True], None, frame / 30)
    assert tracker.update([[x, 0, x + 40, 40]], [is_sure], None, 20 / 30) == [1 if continues else None]


def test_of_boxes_of_one_object_in_several_classes_one_is_tracked() -> None:
    """The best of those that are sure: with thresholds of each class it need not be the best of all."""
    tracker = Tracker(30.0)
    boxes = [[0, 0, 42, 40], [0, 0, 40, 40], [0, 0, 40, 40], [1, 0, 40, 40], [100, 0, 140, 40]]
    is_sure = [False, True, True, False, True]
    ids = [tracker.update(boxes, is_sure, None, frame / 30) for frame in range(5)]
    assert ids[-1] == [None, 1, None, None, 2]
    assert tracker.update(boxes[:4], [False] * 4, None, 5 / 30) == [1, None, None, None]


def test_a_box_that_is_unsure_of_its_edges_moves_its_track_less() -> None:
    """The same outlier: a track follows it where the detector is sure, and hardly where it is not."""
    places = {}
    for std in (1.0, 30.0):
        tracker = Tracker(30.0, UNCORRELATED)
        for frame in range(20):
            assert tracker.update([[100, 100, 200, 200]], [True], [[1.0] * 4], frame / 30)
        tracker.update([[100, 100, 240, 200]], [True], [[1.0, 1.0, std, 1.0]], 20 / 30)
        places[std] = float(tracker._tracker.tracks[0].get_state_bbox()[2])
    assert places[1.0] > 235
    assert places[30.0] < 210


def test_the_covariance_is_that_of_the_detections() -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[10.0, 20.0, 60.0, 80.0], [5.0, 5.0, 90.0, 50.0]])
    edges = torch.rand(2, 4, NUM_BINS, generator=generator).softmax(-1)
    known = calibration()
    found = replace(detections(boxes, torch.rand(2), torch.zeros(2), edges), calibration=known)
    assert found.calibration is not None
    covariance = covariance_of_edges(found.edge_std.tolist(), np.asarray(found.calibration.correlation))
    np.testing.assert_allclose(covariance, found.edge_covariance().numpy(), rtol=1e-4)


@pytest.mark.parametrize("correlation", [None, UNCORRELATED])
def test_what_a_line_leaves_out_changes_no_track(correlation: list[list[float]] | None) -> None:
    """Of many boxes, most below the threshold and some twice: those that are neither sure nor of a track."""
    generator = np.random.default_rng(0)
    all_boxes, of_lines = Tracker(30.0, correlation), Tracker(30.0, correlation)
    num_left_out = num_continued = 0
    for frame in range(60):
        boxes = np.concatenate([moving(frame)] * 4) + generator.normal(0, 6, (8, 4)).round()
        boxes = np.concatenate([boxes, boxes[:2]])
        is_sure = generator.random(10) < 0.2
        stds = generator.uniform(1, 9, (10, 4))
        ids = all_boxes.update(boxes.tolist(), is_sure.tolist(), stds.tolist(), frame / 30)
        keep = [i for i, one in enumerate(ids) if is_sure[i] or one is not None]
        again = of_lines.update(boxes[keep].tolist(), is_sure[keep].tolist(), stds[keep].tolist(), frame / 30)
        assert again == [ids[i] for i in keep]
        num_left_out += len(ids) - len(keep)
        num_continued += sum(not is_sure[i] for i in keep)
    assert num_left_out > 100
    assert num_continued > 10
