#!/usr/bin/env bash
# Guess: with exclude_not_in_annotations=False, its default, mean_average_precision_for_boxes of map-boxes counts detections
#   in images that have no annotations as false, and the order of the rows of a table of scored detections does not matter.
# Behaviour: it goes through the images of the annotations only, whatever the option says: nine confident detections in
#   an empty image leave AP at 1.0. Only a row whose label is NaN makes an empty image count (AP 0.1). Within an image and a
#   class objects are given to detections in the order of their rows, not of their scores: the same two
#   detections of an object have AP 1.0 with the better score first, and 0.5 with the worse first.
# Versions: map-boxes 1.0.6, pandas 2.3.3. Source: the results below (map_boxes/__init__.py, whose description of the option is
#   "exclude image IDs which are not exist in annotations"). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check map-boxes==1.0.6 pandas==2.3.3 numpy==2.3.5
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version

import numpy as np
from map_boxes import mean_average_precision_for_boxes


def evaluate(annotations, detections, **more):
    """mAP of rows (image, class, x1, x2, y1, y2) and (image, class, score, x1, x2, y1, y2)."""
    tables = (np.array(rows, dtype=object) for rows in (annotations, detections))
    return round(float(mean_average_precision_for_boxes(*tables, verbose=False, **more)[0]), 3)


print("map-boxes", version("map-boxes"))
objects = [["street", "car", 0, 100, 0, 100]]
found = [["street", "car", 0.5, 0, 100, 0, 100]]
false = [["meadow", "car", 0.9, 50 * i, 50 * i + 40, 0, 40] for i in range(9)]
ap = [evaluate(objects, found + false, exclude_not_in_annotations=option) for option in (True, False)]
print("nine false detections in an image without objects: AP", ap[0], "excluded,", ap[1], "not excluded")
assert ap == [1.0, 1.0], ap
ap = evaluate([*objects, ["meadow", np.nan, 0, 0, 0, 0]], found + false)
print("the same, with a row of NaN for that image:        AP", ap)
assert ap == 0.1, ap

twice = [["street", "car", 0.9, 0, 100, 0, 100], ["street", "car", 0.1, 0, 100, 0, 90]]
ap = [evaluate(objects, rows) for rows in (twice, twice[::-1])]
print("two detections of one object, best row first: AP", ap[0], "; best row last: AP", ap[1])
assert ap == [1.0, 0.5], ap
PY
