#!/usr/bin/env bash
# Guess: class-wise NMS never lets boxes of two classes suppress each other, wherever they lie.
# Behaviour: torchvision's batched_nms and OpenCV's NMSBoxesBatched move each class to a place of its own, by the
#   class index times the largest coordinate plus 1, and run one NMS. A box with negative coordinates, as unclipped
#   detections at the left or upper border have, lands on the class before: of two boxes with IoU 0 and different
#   classes one is gone. torchvision's documentation asks for 0 <= x1 < x2, but nothing checks it, and above 1000
#   boxes on a CPU it takes another way, which is right, so results depend on how many boxes there are. Clip boxes
#   to the image first.
# Versions: torchvision 0.29.1, OpenCV 5.0.0. Source: torchvision/ops/boxes.py and its documentation; run here.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1 opencv-python-headless==5.0.0.93
cd "$place"
"$place/venv/bin/python" - <<'PY'
import cv2
import torch
import torchvision
from torchvision.ops import batched_nms, box_iou, nms

boxes = torch.tensor([[90.0, 90.0, 100.0, 100.0], [-11.0, -11.0, -1.0, -1.0]])
scores, labels = torch.tensor([0.9, 0.8]), torch.tensor([0, 1])
each = [int(torch.where(labels == c)[0][k]) for c in (0, 1)
        for k in nms(boxes[labels == c], scores[labels == c], 0.5)]
together = batched_nms(boxes, scores, labels, 0.5).tolist()

steps = torch.arange(1100).unsqueeze(1)  # 1100 more boxes of class 0, far from these and from each other
more = torch.cat([torch.zeros_like(steps), 200 + 4 * steps, torch.full_like(steps, 2), 202 + 4 * steps], 1).float()
many = batched_nms(torch.cat([boxes, more]), torch.cat([scores, torch.full((1100,), 0.1)]),
                   torch.cat([labels, torch.zeros(1100, dtype=torch.int64)]), 0.5)
shifted = boxes.clone(); shifted[:, 2:] -= shifted[:, :2]
opencv = sorted(int(i) for i in cv2.dnn.NMSBoxesBatched(shifted.tolist(), scores.tolist(), labels.tolist(), 0.0, 0.5))
print("torchvision", torchvision.__version__, " OpenCV", cv2.__version__, " IoU", float(box_iou(boxes, boxes)[0, 1]))
print("kept, NMS of each class alone:      ", each)
print("kept, torchvision's batched_nms:    ", together)
print("kept of these two among 1102 boxes: ", sorted(i for i in many.tolist() if i < 2))
print("kept, OpenCV's NMSBoxesBatched:     ", opencv)
assert each == [0, 1] and together == [0] and opencv == [0], (each, together, opencv)
assert sorted(i for i in many.tolist() if i < 2) == [0, 1]
PY
