#!/usr/bin/env bash
# Guess: rotating an image and its boxes with expand=True gives both the same size of canvas.
# Behaviour: in torchvision's transforms v2 the image grows outward to whole pixels about its center, the boxes'
#   canvas from their own corner, which is not rounded: for most angles they differ by a pixel in width or height
#   (60 x 100 by 2 degrees: image 64 x 104, canvas of the boxes 64 x 103), and boxes lie beside the pixels by up to
#   a pixel. What comes after and uses the canvas (clamping, flips, crops) works with another size than the image's.
# Versions: torchvision 0.29.1. Source: torchvision/transforms/v2/functional/_geometry.py. Date: 2026-11-29.
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

height, width = 60, 100
image = tv_tensors.Image(torch.zeros(1, height, width, dtype=torch.uint8))
mask = tv_tensors.Mask(torch.zeros(1, height, width, dtype=torch.uint8))
boxes = tv_tensors.BoundingBoxes([[20.0, 10.0, 40.0, 25.0]], format="XYXY", canvas_size=(height, width))
sizes = {angle: (tuple(F.rotate(image, angle, expand=True).shape[-2:]),
                 tuple(F.rotate(mask, angle, expand=True).shape[-2:]),
                 tuple(F.rotate(boxes, angle, expand=True).canvas_size)) for angle in range(360)}
differ = [angle for angle, (of_image, _, of_boxes) in sizes.items() if of_image != of_boxes]
print("torchvision", torchvision.__version__)
for angle in (0, 2, 4, 30, 90):
    print(f"{angle:3d} degrees: image {sizes[angle][0]} mask {sizes[angle][1]} boxes {sizes[angle][2]}")
print(f"the canvas of the boxes differs from the image for {len(differ)} of 360 whole angles")
assert all(of_image == of_mask for of_image, of_mask, _ in sizes.values())
assert 100 < len(differ) < 360 and 0 not in differ and 90 not in differ, len(differ)
PY
