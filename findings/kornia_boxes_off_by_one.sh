#!/usr/bin/env bash
# Guess: kornia's augmentations move boxes given as "bbox_xyxy" with the pixels: after a flip, a rotation by 180
#   degrees or a resize the box still surrounds the object.
# Behaviour: corners are transformed as if they were centers of pixels. An object at columns 20..39 of 100 with the
#   box (20, 40) is at 60..79 after a horizontal flip, its box at (59, 79): one pixel aside, half of the time in
#   training. Resizing multiplies by 49 / 99 in place of 50 / 100. Large objects hardly notice; one of 8 pixels
#   keeps an IoU of 0.78.
# Versions: kornia 0.9.0. Source: run here; kornia/geometry/boxes.py and its matrices of flips. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1 kornia==0.9.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
import warnings
warnings.filterwarnings("ignore")
import kornia
import torch
from kornia.augmentation import AugmentationSequential, RandomHorizontalFlip, RandomRotation, Resize

image = torch.zeros(1, 1, 60, 100)
image[..., 10:25, 20:40] = 1.0
box = torch.tensor([[[20.0, 10.0, 40.0, 25.0]]])

def surround(pixels):
    y, x = torch.where(pixels[0, 0] > 0.5)
    return [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]

print("kornia", kornia.__version__, " box", box[0, 0].tolist(), "pixels", surround(image))
results = {}
for name, one in (("flip", RandomHorizontalFlip(p=1.0)), ("half turn", RandomRotation((180.0, 180.0), p=1.0)),
                  ("half size", Resize((30, 50)))):
    pixels, moved = AugmentationSequential(one, data_keys=["input", "bbox_xyxy"])(image, box)
    results[name] = [round(v, 2) for v in moved[0, 0].tolist()], surround(pixels)
    print(f"{name}: box {results[name][0]} pixels {results[name][1]}")
assert results["flip"] == ([59.0, 10.0, 79.0, 25.0], [60, 10, 80, 25]), results
assert results["half turn"] == ([59.0, 34.0, 79.0, 49.0], [60, 35, 80, 50]), results
assert results["half size"][0][:3:2] == [9.9, 19.8] and results["half size"][1][:3:2] == [10, 20], results
PY
