#!/usr/bin/env bash
# Guess: IoU and AP have no unit: boxes in pixels and the same boxes as fractions of the image (as YOLO files and
#   many networks have them) get the same AP.
# Behaviour: mean-average-precision and mapcalc add 1 to every width and height, as the first Pascal VOC tools did
#   for pixel indices. With fractions this makes every box larger than the image: boxes that do not even touch
#   match, and AP is 1.0 instead of 0.0. Neither names a unit or warns.
# Versions: mean-average-precision 2024.1.5.0, mapcalc 0.2.2. Source: their README files and code. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps mean-average-precision==2024.1.5.0 mapcalc==0.2.2
pip numpy pandas
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version
import numpy as np
from mapcalc import calculate_map
from mean_average_precision import MetricBuilder

def evaluate(size):
    """AP at IoU 0.5 of one detection beside the object: a gap of 5 percent of the image lies between them."""
    gt = np.array([0.40, 0.40, 0.50, 0.50]) * size
    found = np.array([0.55, 0.40, 0.65, 0.50]) * size
    metric = MetricBuilder.build_evaluation_metric("map_2d", async_mode=False, num_classes=1)
    metric.add(np.array([[*found, 0, 0.9]]), np.array([[*gt, 0, 0, 0]]))
    first = float(metric.value(iou_thresholds=0.5)["mAP"])
    second = calculate_map({"boxes": [gt.tolist()], "labels": [1]},
                           {"boxes": [found.tolist()], "labels": [1], "scores": [0.9]}, 0.5)
    return first, float(second)

pixels, fractions = evaluate(640), evaluate(1)
for i, name in enumerate(("mean-average-precision", "mapcalc")):
    print(f"{name} {version(name)}: AP50 in pixels {pixels[i]}, as fractions {fractions[i]}")
assert pixels == (0.0, 0.0), pixels
assert fractions == (1.0, 1.0), fractions
PY
