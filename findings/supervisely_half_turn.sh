#!/usr/bin/env bash
# Guess: the upright box around a rectangle turned by 180 degrees is the rectangle itself; 90 degrees swap its
#   sides.
# Behaviour: a box of 40 x 20 pixels becomes 41 x 21 at 180 degrees and 21 x 41 at 90: one more column at the left
#   and row at the top. Corners are the first and the last pixel, the center between them is rounded to a whole
#   pixel (29.5 -> 30), and half sizes are then rounded outward about it. Angle 0 is right, so only turned objects
#   grow.
# Versions: supervisely 6.74.51. Source: run here; supervisely/geometry/oriented_bbox.py. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip supervisely==6.74.51
cd "$place"
"$place/venv/bin/python" - <<'PY'
import logging, math, warnings
warnings.filterwarnings("ignore"); logging.disable(logging.CRITICAL)
from importlib.metadata import version
import supervisely as sly

sizes = {}
for degrees in (0, 90, 180):
    box = sly.OrientedBBox(top=20, left=10, bottom=39, right=49, angle=math.radians(degrees)).to_bbox()
    sizes[degrees] = (box.left, box.top, box.right, box.bottom), (box.width, box.height)
print("supervisely", version("supervisely"), " left, top, right, bottom (both included); width, height")
for degrees, (corners, size) in sizes.items():
    print(f"{degrees:3d} degrees:", corners, size)
assert sizes[0] == ((10, 20, 49, 39), (40, 20)), sizes
assert sizes[180] == ((9, 19, 49, 39), (41, 21)), sizes
assert sizes[90][1] == (21, 41), sizes
PY
