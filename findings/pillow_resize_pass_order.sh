#!/usr/bin/env bash
# Guess: torch's antialiased bilinear resize of uint8 images, documented to match Pillow for downsampling, gives
#   Pillow's pixels for other sizes too: both resize one axis, round to bytes, and resize the other.
# Behaviour: where both sides shrink all values agree; where the height shrinks and the width grows a quarter of the
#   values differs by one: Pillow then takes the vertical pass first, torch never does. A detector that was trained
#   with one of the two and is run with the other sees other pixels only for such sizes.
# Versions: torch 2.14.1, pillow 13.0.0, numpy 2.4.6. Source: the two programs' results below; documentation of
#   torch.nn.functional.interpolate, under antialias. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 pillow==13.0.0 numpy==2.4.6
cd "$place"
"$place/venv/bin/python" - <<'PY'
import numpy as np
import PIL
import torch
from PIL import Image

print("torch", torch.__version__, "pillow", PIL.__version__)
image = np.random.default_rng(0).integers(0, 256, (159, 155, 3), np.uint8)
maps = torch.from_numpy(image).permute(2, 0, 1)[None]
share = {}
for height, width in ((80, 78), (143, 385)):
    by_torch = torch.nn.functional.interpolate(maps, (height, width), mode="bilinear", antialias=True)
    by_torch = by_torch[0].permute(1, 2, 0).numpy().astype(int)
    by_pillow = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)).astype(int)
    share[height] = (by_torch != by_pillow).mean()
    print(f"159x155 -> {height}x{width}: {share[height]:.1%} of the values differ, by {abs(by_torch - by_pillow).max()}")

first = Image.fromarray(image).resize((155, 143), Image.Resampling.BILINEAR)
second = np.asarray(first.resize((385, 143), Image.Resampling.BILINEAR)).astype(int)
once = np.asarray(Image.fromarray(image).resize((385, 143), Image.Resampling.BILINEAR)).astype(int)
print("Pillow at once equals its vertical pass, then its horizontal one:", bool((once == second).all()))
assert share[80] < 0.005 < 0.1 < share[143] and (once == second).all()
PY
