#!/usr/bin/env bash
# Guess: the Kalman filter of a ByteTrack tracker has noise in proportion to the size of the box, as in the published
#   code of DeepSORT and ByteTrack (standard deviations of h / 20 and h / 160).
# Behaviour: ByteTrackTracker and SORTTracker of the package trackers have the same noise for boxes of 10 and of 1000
#   pixels, R = 0.1 and Q = 0.01 square pixels, and no argument for another. A filter whose matrices are constant has a
#   gain that does not depend on what it sees: a video at ten times the resolution is tracked alike, and the covariance
#   that the filter states is of no box. state_estimator_class takes a filter of one's own, which can set another noise.
# Versions: trackers 2.6.1, supervision 0.31.2. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check trackers==2.6.1 supervision==0.31.2
cd "$place"
"$place/venv/bin/python" - <<'PY'
import inspect
import warnings

import numpy as np
import supervision as sv
import trackers
from trackers import ByteTrackTracker, SORTTracker

warnings.filterwarnings("ignore")
noise = {}
for kind in (ByteTrackTracker, SORTTracker):
    for size in (10.0, 1000.0):
        tracker = kind()
        box = np.array([[0.0, 0.0, size, size]])
        tracker.update(sv.Detections(xyxy=box, confidence=np.array([0.9], np.float32)))
        kf = tracker.tracks[0].state_estimator.kf
        noise[kind.__name__, size] = round(float(kf.measurement_noise[0, 0]), 6), round(float(kf.process_noise[0, 0]), 6)
    arguments = [name for name in inspect.signature(kind).parameters if "noise" in name or "covariance" in name]
    print(kind.__name__, {size: noise[kind.__name__, size] for size in (10.0, 1000.0)}, "arguments for it:", arguments)
    assert not arguments and "state_estimator_class" in inspect.signature(kind).parameters, arguments
assert set(noise.values()) == {(0.1, 0.01)}, noise

def follow(scale):
    """Corners and covariance after ten frames of a box that moves unevenly."""
    tracker = ByteTrackTracker()
    for frame in range(10):
        box = np.array([[3.0 * frame, 0.0, 3.0 * frame + 40, 30.0 + frame % 3]]) * scale
        tracker.update(sv.Detections(xyxy=box, confidence=np.array([0.9], np.float32)))
    track = tracker.tracks[0]
    return np.ravel(track.get_state_bbox()), track.state_estimator.kf.state_covariance.copy()

(small, small_covariance), (large, large_covariance) = follow(1), follow(10)
print("after ten frames:", small.round(3).tolist(), " ten times as large:", large.round(3).tolist())
assert np.allclose(10 * small, large) and np.allclose(small_covariance, large_covariance)
PY
