#!/usr/bin/env bash
# Guess: in a CocoDetection wrapped for transforms v2, an image without annotations has empty "boxes" and "labels",
#   and target_keys decides which keys a target has.
# Behaviour: its target is {"image_id": ...} alone, whatever target_keys asks for. A loader that reads
#   target["boxes"] raises KeyError at the first background image. Crowd regions, in contrast, come as ordinary
#   boxes unless asked for iscrowd.
# Versions: torchvision 0.29.1, pycocotools 2.0.11. Source: torchvision/tv_tensors/_dataset_wrapper.py.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1 pycocotools==2.0.11
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, io, json
import torchvision
from PIL import Image
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2

for name in ("a", "b"):
    Image.new("RGB", (40, 30)).save(f"{name}.png")
json.dump({"images": [{"id": i, "file_name": f"{n}.png", "width": 40, "height": 30} for i, n in enumerate("ab", 1)],
           "categories": [{"id": 1, "name": "cat"}],
           "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": [1.5, 2.5, 10, 10], "area": 100,
                            "iscrowd": i - 1, "segmentation": []} for i in (1, 2)]}, open("a.json", "w"))
with contextlib.redirect_stdout(io.StringIO()):
    data = wrap_dataset_for_transforms_v2(CocoDetection(".", "a.json"), target_keys={"boxes", "labels"})
with_objects, background = data[0][1], data[1][1]
print("torchvision", torchvision.__version__, " target_keys {'boxes', 'labels'}")
print("image with an object and a crowd:", {k: v.tolist() for k, v in with_objects.items()})
print("image without annotations:       ", background)
assert set(with_objects) == {"boxes", "labels"} and len(with_objects["boxes"]) == 2, with_objects
assert background == {"image_id": 2}, background
PY
