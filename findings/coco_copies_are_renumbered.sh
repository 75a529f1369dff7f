#!/usr/bin/env bash
# Guess: reading COCO json and writing it again leaves the ids of images and categories alone, since results files,
#   and COCO's own gaps among category ids (1..90 for 80 classes), refer to them.
# Behaviour: supervision numbers images and categories from 1 in the order of its lists; datumaro keeps the ids of
#   images and numbers categories from 1. Categories 3 and 90 become 1 and 2: results of a detector trained on the
#   original are evaluated under other classes or none, without an error where the numbers exist in both.
# Versions: supervision 0.31.2, datumaro 1.13.12. Source: run here; both document names, neither promises ids.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps supervision==0.31.2 datumaro==1.13.12
pip "numpy<2.5" "pillow<13" pyyaml requests scipy matplotlib tqdm av defusedxml "pydeprecate<0.14" \
  "opencv-python-headless<5"
pip typing-extensions attrs cachetools imagesize json-stream lxml orjson "pandas<3" pyarrow pycocotools \
  ruamel.yaml shapely
cd "$place"
"$place/venv/bin/python" - <<'PY'
import glob, json, os, shutil, warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
import datumaro as dm
import supervision as sv
from PIL import Image

os.makedirs("in/annotations"); os.makedirs("in/images/val")
Image.new("RGB", (97, 61)).save("in/images/val/a.png")
json.dump({"images": [{"id": 7, "file_name": "a.png", "width": 97, "height": 61}],
           "categories": [{"id": 3, "name": "zebra"}, {"id": 90, "name": "ant"}],
           "annotations": [{"id": 5, "image_id": 7, "category_id": 90, "bbox": [1, 2, 10, 12], "area": 120,
                            "iscrowd": 0}]}, open("in/annotations/instances_val.json", "w"))

def ids(path):
    data = json.load(open(path))
    return [i["id"] for i in data["images"]], {c["name"]: c["id"] for c in data["categories"]}

before = ids("in/annotations/instances_val.json")
sv.DetectionDataset.from_coco("in/images/val", "in/annotations/instances_val.json").as_coco(annotations_path="sv")
dm.Dataset.import_from("in", "coco_instances").export("dm", "coco_instances")
(written,) = glob.glob("dm/**/*.json", recursive=True)
first, second = ids("sv"), ids(written)
print("original ids of images and categories:", *before)
print("supervision", version("supervision"), *first)
print("datumaro", version("datumaro"), *second)
assert before == ([7], {"zebra": 3, "ant": 90}), before
assert first == ([1], {"zebra": 1, "ant": 2}), first
assert second == ([7], {"zebra": 1, "ant": 2}), second
PY
