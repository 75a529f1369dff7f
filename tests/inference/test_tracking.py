"""Tracks: ids stay with their objects, lines of a file replay them, and R of the edges weighs each box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibrations import NUM_BINS, calibration, detections
from gfocal.inference.tracking import Tracker, covariance_of_edges
from gfocal.inference.video_lines import tracker_input

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


def test_the_lines_of_a_file_replay_tracks() -> None:
    record = {
        "scores": [0.9, 0.2],
        "boxes": [[0, 0, 1, 1], [1, 1, 2, 2]],
        "edge_std": [[1] * 4, [2] * 4],
        "is_sure": [True, False],
        "unreported": {"scores": [0.3], "boxes": [[3, 3, 4, 4]], "edge_std": [[3] * 4]},
    }
    boxes, is_sure, stds = tracker_input(record)
    assert boxes == [[0, 0, 1, 1], [3, 3, 4, 4], [1, 1, 2, 2]]
    assert is_sure == [True, False, False]
    assert stds == [[1] * 4, [3] * 4, [2] * 4]
