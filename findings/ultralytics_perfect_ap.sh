#!/usr/bin/env bash
# Guess: the AP of a detector that finds every object, with no false positive, is 1.
# Behaviour: Ultralytics' ap_per_class gives 0.995. Its curve of precision is closed with a point (recall 1,
#   precision 0), and the area is taken by the trapezoid rule at 101 recalls, so the last interval counts half:
#   0.005 are lost. The same holds below a recall of 1: an AP from Ultralytics and one of COCO's evaluators differ
#   for the same boxes and matches. A mAP50 of 0.995 is therefore its maximum.
# Versions: ultralytics 8.4.190, pycocotools's rule as in its cocoeval.py. Source: ultralytics/utils/metrics.py.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1
pip --no-deps ultralytics==8.4.190
pip numpy matplotlib opencv-python-headless pillow pyyaml requests psutil polars scipy
cd "$place"
export YOLO_OFFLINE=1 YOLO_CONFIG_DIR="$PWD"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version
import numpy as np
from ultralytics.utils.metrics import ap_per_class

def average_precisions(true_positive, num_objects):
    """AP at one IoU threshold by Ultralytics, and by COCO's rule: mean of the precision envelope at 101 recalls."""
    count = len(true_positive)
    scores, zeros = np.linspace(0.9, 0.1, count), np.zeros(count)
    rows = np.repeat(true_positive[:, None], 10, 1)
    first = float(ap_per_class(rows, scores, zeros, np.zeros(num_objects))[5][0, 0])
    hits = true_positive.cumsum()
    recall, precision = hits / num_objects, hits / np.arange(1, count + 1)
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return round(first, 4), round(float(envelope[np.searchsorted(recall, np.linspace(0, 1, 101))].mean()), 4)

perfect = average_precisions(np.ones(50, bool), 50)
half = average_precisions(np.tile([True, False], 25), 40)
print("ultralytics", version("ultralytics"), " AP of Ultralytics, AP by COCO's rule")
print("50 objects, all found, nothing else:      ", perfect)
print("40 objects, 25 found, 25 false positives: ", half)
assert perfect == (0.995, 1.0), perfect
assert half[0] != half[1], half
PY
