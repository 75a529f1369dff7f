#!/usr/bin/env bash
# Guess: an annotation with "ignore": 1 is left out of an evaluation: the code of pycocotools reads that key and
#   works with a flag of that name throughout, and exporters (Label Studio's) write it.
# Behaviour: the flag is overwritten by "iscrowd" before anything uses it, so an ignored object counts as missed
#   like any other. Only "iscrowd": 1 takes an object out, and that changes the overlap as well (share of the
#   detection).
# Versions: pycocotools 2.0.11, faster-coco-eval 1.8.0. Source: pycocotools/cocoeval.py. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip pycocotools==2.0.11 faster-coco-eval==1.8.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, copy, io
from importlib.metadata import version
from faster_coco_eval import COCO as FastCOCO, COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

def evaluate(flags, kind, run_type):
    boxes = [[10.0, 10.0, 50.0, 50.0], [100.0, 100.0, 50.0, 50.0]]
    data = {"images": [{"id": 1, "width": 200, "height": 200}], "categories": [{"id": 1, "name": "person"}],
            "annotations": [{"id": i, "image_id": 1, "category_id": 1, "bbox": b, "area": 2500.0, "iscrowd": 0}
                            for i, b in enumerate(boxes, 1)]}
    data["annotations"][1].update(flags)
    found = [{"image_id": 1, "category_id": 1, "bbox": boxes[0], "score": 0.9}]
    with contextlib.redirect_stdout(io.StringIO()):
        gt = kind(); gt.dataset = copy.deepcopy(data); gt.createIndex()
        run = run_type(gt, gt.loadRes(found), "bbox")
        run.evaluate(); run.accumulate(); run.summarize()
    return round(float(run.stats[0]), 3)

for name, kind, run_type in (("pycocotools", COCO, COCOeval), ("faster-coco-eval", FastCOCO, COCOeval_faster)):
    plain, ignored, crowd = (evaluate(f, kind, run_type) for f in ({}, {"ignore": 1}, {"iscrowd": 1}))
    print(f"{name} {version(name)}: one of two objects found, AP {plain}; the other with ignore 1: {ignored}; "
          f"with iscrowd 1: {crowd}")
    assert plain == ignored < 0.6 and crowd == 1.0, (plain, ignored, crowd)
PY
