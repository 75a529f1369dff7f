#!/usr/bin/env bash
# Guess: globox's COCOEvaluator, which has COCO's twelve numbers, agrees with pycocotools on plain boxes: no crowds,
#   no masks, no equal scores.
# Behaviour: AP over all sizes agrees, AP of a size does not. COCO leaves a detection out of "medium" when it
#   matches a large object. globox prefers any medium object of the image, even one that the detection does not
#   touch, looks no further, and then finds the overlap too low: the detection becomes a false positive of "medium".
#   It takes an image with objects on both sides of a limit (32 or 96 pixels squared) and a detection slightly
#   smaller than its object.
# Versions: globox 2.9.0, pycocotools 2.0.11. Source: globox/evaluation.py, pycocotools/cocoeval.py. Date:
#   2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps globox==2.9.0
pip numpy rich tqdm pycocotools==2.0.11
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, io
from importlib.metadata import version
from globox import Annotation, AnnotationSet, BoundingBox, COCOEvaluator
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

objects = [[0.0, 0.0, 60.0, 60.0], [200.0, 200.0, 97.0, 97.0]]  # x, y, width, height: medium and large
found = [[0.0, 0.0, 60.0, 60.0, 0.8], [200.0, 200.0, 95.9, 95.9, 0.9]]  # the second is just below 96 x 96

def with_pycocotools():
    with contextlib.redirect_stdout(io.StringIO()):
        gt = COCO(); gt.dataset = {
            "images": [{"id": 1, "width": 400, "height": 400}], "categories": [{"id": 1, "name": "a"}],
            "annotations": [{"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": b, "area": b[2] * b[3]}
                            for i, b in enumerate(objects, 1)]}
        gt.createIndex()
        run = COCOeval(gt, gt.loadRes([{"image_id": 1, "category_id": 1, "bbox": f[:4], "score": f[4]}
                                       for f in found]), "bbox")
        run.evaluate(); run.accumulate(); run.summarize()
    return [round(float(v), 3) for v in run.stats[[0, 4, 5]]]

def annotations(rows):
    boxes = [BoundingBox(label="a", xmin=r[0], ymin=r[1], xmax=r[0] + r[2], ymax=r[1] + r[3],
                         confidence=r[4] if len(r) == 5 else None) for r in rows]
    return AnnotationSet([Annotation(image_id="1", image_size=(400, 400), boxes=boxes)])

run = COCOEvaluator(ground_truths=annotations(objects), predictions=annotations(found))
globox = [round(float(v), 3) for v in (run.ap(), run.ap_medium(), run.ap_large())]
original = with_pycocotools()
print("AP, AP medium, AP large")
print("pycocotools", version("pycocotools"), original)
print("globox", version("globox"), "      ", globox)
assert original[0] == globox[0] and original[2] == globox[2], (original, globox)
assert original == [1.0, 1.0, 1.0] and globox[1] < 0.6, (original, globox)
PY
