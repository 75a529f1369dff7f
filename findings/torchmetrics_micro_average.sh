#!/usr/bin/env bash
# Guess: average="micro" of MeanAveragePrecision pools the detections of all classes into one curve; what counts as
#   a true positive stays the same: the right class at the right place.
# Behaviour: all labels are replaced by one before matching. A detection of a dog on a cat is a true positive, so
#   micro AP says nothing of classification; and the limit of 100 detections, which is per image and class, becomes
#   one of 100 per image. 60 cats and 60 dogs in an image, all found, get 1.0 with "macro" and less with "micro".
# Versions: torchmetrics 1.9.0, pycocotools 2.0.11. Source: torchmetrics/detection/mean_ap.py; its documentation
#   calls it a method for averaging over labels. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1 torchmetrics==1.9.0 pycocotools==2.0.11
cd "$place"
"$place/venv/bin/python" - <<'PY'
import warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
import torch
from torchmetrics.detection import MeanAveragePrecision

def evaluate(boxes, found, objects, **more):
    metric = MeanAveragePrecision(**more)
    metric.update([{"boxes": boxes, "scores": torch.linspace(0.9, 0.5, len(boxes)), "labels": found}],
                  [{"boxes": boxes, "labels": objects}])
    return round(float(metric.compute()["map_50"]), 3)

one = torch.tensor([[10.0, 10.0, 50.0, 50.0]])
wrong = [evaluate(one, torch.tensor([2]), torch.tensor([1]), average=a) for a in ("macro", "micro")]
x = torch.arange(120).unsqueeze(1) * 20.0
many = torch.cat([x, torch.zeros_like(x), x + 15, torch.full_like(x, 15.0)], 1)
classes = torch.arange(120) % 2
crowded = [evaluate(many, classes, classes, average=a) for a in ("macro", "micro")]
print("torchmetrics", version("torchmetrics"), " AP50 with macro, micro")
print("one cat, found as a dog:                ", wrong)
print("60 cats and 60 dogs, all found as such: ", crowded)
assert wrong == [0.0, 1.0], wrong
assert crowded[0] == 1.0 and crowded[1] < 0.9, crowded
PY
