#!/usr/bin/env bash
# Guess: an evaluator of COCO files either refuses annotations without "area", as pycocotools does, or computes the
#   area from the box.
# Behaviour: faster-coco-eval takes a missing "area" for 0, without a warning: every object counts as small, AP of medium
#   and large objects is -1 ("no such objects"), and AP small is that of all sizes. pycocotools raises KeyError: 'area'.
# Versions: faster-coco-eval 1.8.0, pycocotools 2.0.11. Source: run here; COCO's format page lists "area" as a field of
#   every annotation, which tools that write boxes alone leave out. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check faster-coco-eval==1.8.0 pycocotools==2.0.11
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, io
from importlib.metadata import version
from faster_coco_eval import COCO as FastCOCO, COCOeval_faster
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

sides = (20, 60, 200)  # small, medium and large by COCO's limits of 32 and 96 pixels squared
def truth(with_area):
    notes = [{"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [10.0, 250.0 * (i - 1), s, s],
              **({"area": float(s * s)} if with_area else {})} for i, s in enumerate(sides, 1)]
    return {"images": [{"id": 1, "width": 800, "height": 800}], "annotations": notes,
            "categories": [{"id": 1, "name": "thing"}]}
found = [{"image_id": 1, "category_id": 1, "bbox": n["bbox"], "score": 0.9} for n in truth(True)["annotations"]]

def fast(data):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = FastCOCO(data)
        run = COCOeval_faster(gt, gt.loadRes([dict(f) for f in found]), "bbox")
        run.run()
    return [round(float(v), 3) for v in run.stats[[0, 3, 4, 5]]]

def original(data):
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(); gt.dataset = data; gt.createIndex()
        run = COCOeval(gt, gt.loadRes([dict(f) for f in found]), "bbox")
        run.evaluate(); run.accumulate(); run.summarize()
    return [round(float(v), 3) for v in run.stats[[0, 3, 4, 5]]]

print("faster-coco-eval", version("faster-coco-eval"), " pycocotools", version("pycocotools"))
print("AP all, small, medium, large")
with_area, without = fast(truth(True)), fast(truth(False))
print("faster-coco-eval, area stated ", with_area)
print("faster-coco-eval, area missing", without)
try:
    told = original(truth(False))
except KeyError as error:
    told = f"KeyError: {error}"
print("pycocotools,      area missing", told)
assert with_area == [1.0, 1.0, 1.0, 1.0], with_area
assert without == [1.0, 1.0, -1.0, -1.0], without
assert told == "KeyError: 'area'", told
PY
