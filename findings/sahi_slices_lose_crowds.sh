#!/usr/bin/env bash
# Guess: slicing a COCO dataset into tiles keeps the flags of its annotations; at most boxes and areas change.
# Behaviour: SAHI's slice_coco writes "iscrowd": 0 for every annotation, also where no cut was needed, although its
#   classes have the field. A crowd region becomes an ordinary object of the tile: trained as one box, and counted
#   as a missed object in evaluation. The stated area is replaced by that of the box, in whole pixels.
# Versions: sahi 0.12.8. Source: sahi/slicing.py and sahi/utils/coco.py; COCO's format page. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps sahi==0.12.8
pip numpy pillow shapely pyyaml requests tqdm click fire matplotlib pycocotools==2.0.11 opencv-python-headless
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, io, json, os
from importlib.metadata import version
from PIL import Image
from sahi.slicing import slice_coco

os.makedirs("images"); os.makedirs("tiles")
Image.new("RGB", (100, 100)).save("images/a.png")
json.dump({"images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 100}],
           "categories": [{"id": 1, "name": "person"}],
           "annotations": [
               {"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 30, 30], "area": 700.5, "iscrowd": 0},
               {"id": 2, "image_id": 1, "category_id": 1, "bbox": [10, 60, 30, 30], "area": 812.5, "iscrowd": 1}]},
          open("a.json", "w"))
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    data, _ = slice_coco("a.json", "images", "tiles", output_dir="tiles", slice_height=50, slice_width=50,
                         overlap_height_ratio=0, overlap_width_ratio=0)
rows = [(a["bbox"], a["area"], a["iscrowd"]) for a in data["annotations"]]
print("sahi", version("sahi"), " box, area, iscrowd of each annotation in its tile (the second was a crowd):")
for row in rows:
    print(*row)
assert [r[2] for r in rows] == [0, 0], rows
assert [r[1] for r in rows] == [900, 900], rows
PY
