#!/usr/bin/env bash
# Guess: torchmetrics' MeanAveragePrecision with its pycocotools backend gives the numbers of pycocotools.
# Behaviour: it hands pycocotools IoU and recall thresholds from torch.linspace in float32, so an IoU that is exactly 0.6,
#   0.7, 0.8 or 0.9 falls on the other side of some thresholds, and recall points move. The same boxes get another AP.
#   Thresholds from numpy, given as iou_thresholds and rec_thresholds, restore the numbers of pycocotools.
# Versions: torchmetrics 1.9.0, pycocotools 2.0.11. Source: torchmetrics/detection/mean_ap.py. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 pycocotools==2.0.11 torch torchvision
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, io, warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
import numpy as np, torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchmetrics.detection import MeanAveragePrecision

# 20 objects of 100 x 10 pixels; each detection is 50, 55, ... 95 pixels of one: IoU 0.50, 0.55, ... 0.95 exactly.
boxes = torch.tensor([[0.0, 20.0 * i, 100.0, 20.0 * i + 10] for i in range(20)])
found = boxes.clone(); found[:, 2] = torch.tensor([50.0 + 5 * (i % 10) for i in range(20)])
scores = torch.linspace(0.9, 0.1, 20)
labels = torch.zeros(20, dtype=torch.int64)

def metric(**more):
    m = MeanAveragePrecision(box_format="xyxy", backend="pycocotools", **more)
    m.update([{"boxes": found, "scores": scores, "labels": labels}], [{"boxes": boxes, "labels": labels}])
    return float(m.compute()["map"])

xywh = lambda b: [float(b[0]), float(b[1]), float(b[2] - b[0]), float(b[3] - b[1])]
gt = COCO(); gt.dataset = {"images": [{"id": 1}], "categories": [{"id": 1, "name": "a"}], "annotations": [
    {"id": i + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": xywh(b), "area": 1000.0}
    for i, b in enumerate(boxes)]}
with contextlib.redirect_stdout(io.StringIO()):
    gt.createIndex()
    run = COCOeval(gt, gt.loadRes([{"image_id": 1, "category_id": 1, "bbox": xywh(b), "score": float(s)}
                                   for b, s in zip(found, scores)]), "bbox")
    run.evaluate(); run.accumulate(); run.summarize()
original = float(run.stats[0])
default = metric()
exact = metric(iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(), rec_thresholds=np.linspace(0, 1, 101).tolist())
print("torchmetrics", version("torchmetrics"), " pycocotools", version("pycocotools"))
print(f"AP of pycocotools                       {original:.6f}")
print(f"AP of torchmetrics, defaults            {default:.6f}")
print(f"AP of torchmetrics, numpy's thresholds  {exact:.6f}")
assert abs(default - original) > 1e-3, (default, original)
assert abs(exact - original) < 1e-6, (exact, original)
PY
