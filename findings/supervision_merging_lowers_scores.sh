#!/usr/bin/env bash
# Guess: supervision's Detections.with_nmm (non-maximum merging) does to boxes what with_nms does, but unites what it would
#   drop: at one threshold both leave as many boxes, and a united box has the score of the best.
# Behaviour: a united box has the mean of the scores, weighted by area: a duplicate of the same size with 0.3 makes 0.6 of a
#   detection with 0.9, so that a threshold of 0.7 on scores then loses an object that was found well. And boxes are united at
#   IoU >= threshold where with_nms drops at IoU > threshold: at 0 two boxes that do not touch become one around both.
# Versions: supervision 0.31.2. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.3.5
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
import supervision


def detections(boxes, scores):
    """Of one class."""
    return supervision.Detections(
        xyxy=np.array(boxes, float), confidence=np.array(scores), class_id=np.zeros(len(boxes), int)
    )


def show(found):
    return [[round(float(side)) for side in box] for box in found.xyxy], [round(float(s), 3) for s in found.confidence]


print("supervision", version("supervision"))
twice = detections([[0, 0, 100, 100], [2, 0, 102, 100]], [0.9, 0.3])
nms, nmm = show(twice.with_nms(0.5)), show(twice.with_nmm(0.5))
print("an object and its duplicate, 0.9 and 0.3: with_nms", nms, "with_nmm", nmm)
assert nms == ([[0, 0, 100, 100]], [0.9]), nms
assert nmm == ([[0, 0, 102, 100]], [0.6]), nmm
apart = detections([[0, 0, 10, 10], [90, 90, 100, 100]], [0.9, 0.8])
nms, nmm = show(apart.with_nms(0.0)), show(apart.with_nmm(0.0))
print("two boxes that do not touch, threshold 0: with_nms", nms, "with_nmm", nmm)
assert len(nms[0]) == 2, nms
assert nmm == ([[0, 0, 100, 100]], [0.85]), nmm
PY
