#!/usr/bin/env bash
# Guess: boxes with whole coordinates survive a change of format and back, or are refused where halves would be
#   needed.
# Behaviour: torchvision's BoundingBoxes made from integers stay integers, and every step cuts fractions off without
#   a warning: (0, 0, 5, 5) to center, width and height and back is (0, 0, 4, 4), (1, 1, 4, 6) is (0, 0, 3, 5), and
#   resizing by 3 / 2 makes the first 7 wide instead of 7.5. COCO's float boxes are not affected; annotations of
#   whole pixels (Pascal VOC, many own formats), turned into a tensor as they are, lose up to a pixel with each
#   transform.
# Versions: torchvision 0.29.1. Source: run here; torchvision/transforms/v2/functional/_meta.py. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1
cd "$place"
"$place/venv/bin/python" - <<'PY'
import torch
import torchvision
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

def there_and_back(values):
    boxes = tv_tensors.BoundingBoxes(values, format="XYXY", canvas_size=(10, 10))
    center = F.convert_bounding_box_format(boxes, new_format="CXCYWH")
    return F.convert_bounding_box_format(center, new_format="XYXY").tolist(), F.resize(boxes, [15, 15]).tolist()

whole = [[0, 0, 5, 5], [1, 1, 4, 6]]
integers, floats = there_and_back(whole), there_and_back([[float(v) for v in box] for box in whole])
print("torchvision", torchvision.__version__, " boxes", whole)
for name, (back, resized) in (("integers", integers), ("floats", floats)):
    print(f"{name}: after XYXY -> CXCYWH -> XYXY {back}, resized to 3 / 2 {resized}")
assert floats == (whole, [[0, 0, 7.5, 7.5], [1.5, 1.5, 6, 9]]), floats
assert integers == ([[0, 0, 4, 4], [0, 0, 3, 5]], [[0, 0, 7, 7], [1, 1, 6, 9]]), integers
PY
