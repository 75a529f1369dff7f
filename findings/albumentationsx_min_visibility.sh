#!/usr/bin/env bash
# Guess: min_visibility=0.5 drops objects of which less than half of the annotated box is left after the whole
#   pipeline.
# Behaviour: the share is taken anew at each transform, of the box that the one before left. Two crops that each cut
#   off less than half keep a box of which 37 % is visible, while one crop to the same rectangle drops it. Only
#   check_each_transform=False compares with the annotation. A pipeline of several geometric transforms so keeps
#   slivers that the setting was meant to remove.
# Versions: albumentationsx 2.5.1, torch 2.14.1 (it cannot be imported without). Source: docstring of BboxParams
#   ("minimum fraction of area for a bounding box to remain"; it does not say of which area). Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 "albumentationsx[headless]==2.5.1"
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version
import numpy as np
import albumentations as A

image = np.zeros((100, 100, 3), np.uint8)
box = np.array([[20.0, 20.0, 86.0, 86.0]])

def kept(transforms, **more):
    params = A.BboxParams(coord_format="pascal_voc", label_fields=["labels"], min_visibility=0.5, **more)
    boxes = A.Compose(transforms, bbox_params=params)(image=image, bboxes=box, labels=[1])["bboxes"]
    return [[round(float(v), 3) for v in b] for b in boxes]

two, one = [A.Crop(0, 0, 60, 100, p=1), A.Crop(0, 0, 60, 60, p=1)], [A.Crop(0, 0, 60, 60, p=1)]
print("albumentationsx", version("albumentationsx"), " visible share", round(40 * 40 / 66**2, 3))
results = kept(one), kept(two), kept(two, check_each_transform=False)
for name, boxes in zip(("one crop", "two crops to the same rectangle", "two crops, checked at the end"), results):
    print(f"{name}: {boxes}")
assert results == ([], [[20.0, 20.0, 60.0, 60.0]], []), results
PY
