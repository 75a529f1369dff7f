#!/usr/bin/env bash
# Guess: the box of a mask covers its pixels: 10 x 10 pixels give a box 10 wide, as box_area, NMS and training
#   count.
# Behaviour: masks_to_boxes returns the indices of the last column and row, not their far edges: 10 x 10 pixels give
#   (0, 0, 9, 9) of area 81, and an object one pixel wide gives a box without area, although the documentation
#   promises x1 < x2. SanitizeBoundingBoxes then removes that object, and its IoU with anything is 0 or not a
#   number.
# Versions: torchvision 0.29.1. Source: documentation and code of torchvision.ops.masks_to_boxes. Date: 2026-11-29.
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
from torchvision.ops import box_area, box_iou, masks_to_boxes
from torchvision.transforms.v2 import SanitizeBoundingBoxes

masks = torch.zeros(2, 20, 20, dtype=torch.bool)
masks[0, :10, :10] = True  # 100 pixels
masks[1, 5:15, 3] = True  # one pixel wide: 10 pixels
boxes = masks_to_boxes(masks)
kept = SanitizeBoundingBoxes(labels_getter=None)(
    tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(20, 20)))
edges = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
print("torchvision", torchvision.__version__)
print("pixels", masks.sum((1, 2)).tolist(), "boxes", boxes.tolist(), "areas", box_area(boxes).tolist())
print("IoU of the first with the box of its pixels' edges:", round(float(box_iou(boxes[:1], edges)), 3))
print("left by SanitizeBoundingBoxes:", len(kept))
assert boxes.tolist() == [[0, 0, 9, 9], [3, 5, 3, 14]], boxes
assert len(kept) == 1
PY
