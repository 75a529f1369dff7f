#!/usr/bin/env bash
# Guess: torchmetrics' detection metrics IntersectionOverUnion, GIoU, DIoU and CIoU are means over matched pairs, a detection
#   and its object: 1 when every object is found exactly, less when one is missed.
# Behaviour: nothing is matched. The mean is over all pairs of a detection and an object of one class in one image: two
#   cats, both found exactly, have an IoU of 0.5 (generalized: 0.33), ten have 0.1. Finding one of the two cats gives
#   the same 0.5 as finding both, and an object whose class is not detected in its image costs nothing. With iou_threshold
#   the mean is over pairs above it, so that missed objects and false detections leave no trace beside one good pair.
# Versions: torchmetrics 1.9.0, torch 2.14.1, torchvision 0.29.1. Source: the results below (torchmetrics/detection/iou.py,
#   update and compute). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 torchvision==0.29.1 \
    numpy==2.3.5
cd "$place"
"$place/venv/bin/python" - <<'PY'
from importlib.metadata import version

import torch
from torchmetrics.detection import (
    CompleteIntersectionOverUnion,
    DistanceIntersectionOverUnion,
    GeneralizedIntersectionOverUnion,
    IntersectionOverUnion,
)


def boxes(count):
    """Squares of 10 x 10 pixels in a row, 10 pixels apart."""
    x = torch.arange(count).unsqueeze(1) * 20.0
    return torch.cat([x, torch.zeros_like(x), x + 10, torch.full_like(x, 10.0)], 1)


def measure(found, objects, metric=IntersectionOverUnion, **more):
    """The value for one image; each argument is boxes and labels."""
    one = metric(**more)
    one.update([{"boxes": found[0], "labels": torch.tensor(found[1])}],
               [{"boxes": objects[0], "labels": torch.tensor(objects[1])}])
    (value,) = one.compute().values()
    return round(float(value), 4)


print("torchmetrics", version("torchmetrics"))
two = (boxes(2), [0, 0])
for count, expected in ((1, 1.0), (2, 0.5), (10, 0.1)):
    all_of_them = (boxes(count), [0] * count)
    value = measure(all_of_them, all_of_them)
    print(f"{count:2} objects of one class, all found exactly:            IoU {value}")
    assert value == expected, value
value = measure((boxes(1), [0]), two)
print(f"one of two found:                                      IoU {value}")
assert value == 0.5
value = measure((boxes(1), [0]), (boxes(2), [0, 1]))
print(f"one of two found, the other is of another class:       IoU {value}")
assert value == 1
value = measure((boxes(10), [0] * 10), (torch.cat([boxes(1), boxes(30)[20:]]), [0] * 11), iou_threshold=0.5)
print(f"one of 11 found, 9 false detections, iou_threshold 0.5: IoU {value}")
assert value == 1
for metric in (GeneralizedIntersectionOverUnion, DistanceIntersectionOverUnion, CompleteIntersectionOverUnion):
    value = measure(two, two, metric)
    print(f"two objects, both found exactly: {metric.__name__} {value}")
    assert value < 0.5, value
PY
