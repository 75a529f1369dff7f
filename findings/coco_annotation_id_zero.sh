#!/usr/bin/env bash
# Guess: ids are names: any distinct numbers do, and perfect detections of every object have an AP of 1.
# Behaviour: an annotation with the id 0 can never be found. pycocotools stores the id of the matched object with
#   each detection and later asks whether that number is true, so a match with 0 is a false positive and the object
#   is missed. faster-coco-eval gives the same number (with a warning), hotcoco does not. Label Studio's COCO export
#   counts annotations from 0, so its first object is lost in every evaluation: much of the AP of a class with few
#   objects.
# Versions: pycocotools 2.0.11, faster-coco-eval 1.8.0, hotcoco 1.3.0, label-studio-sdk 2.1.2.
# Source: pycocotools/cocoeval.py, label_studio_sdk/converter/converter.py; COCO's format page asks for no first id.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps label-studio-sdk==2.1.2
pip ijson ujson xmljson lxml requests pillow numpy pandas nltk pyjwt appdirs defusedxml
pip pycocotools==2.0.11 faster-coco-eval==1.8.0 hotcoco==1.3.0
cd "$place"
"$place/venv/bin/python" - <<'PY'
import contextlib, copy, io, json, os, warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
from PIL import Image
from label_studio_sdk.converter import Converter

Image.new("RGB", (100, 50)).save("a.png")
CONFIG = ('<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
          '<Label value="cat"/></RectangleLabels></View>')
regions = [{"id": f"r{x}", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "original_width": 100,
            "original_height": 50, "value": {"x": x, "y": 10, "width": 20, "height": 40, "rotation": 0,
                                             "rectanglelabels": ["cat"]}} for x in (5, 60)]
task = {"id": 1, "data": {"image": os.path.abspath("a.png")}, "annotations": [{"id": 1, "result": regions}]}
json.dump([task], open("task.json", "w"))
Converter(CONFIG, os.getcwd(), download_resources=False).convert_to_coco("task.json", "out", is_dir=False)
exported = json.load(open("out/result.json"))
from_one = copy.deepcopy(exported)
for annotation in from_one["annotations"]:
    annotation["id"] += 1
found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 0.9} for a in exported["annotations"]]
json.dump(found, open("found.json", "w"))

def evaluate(name, data):
    json.dump(data, open("gt.json", "w"))
    with contextlib.redirect_stdout(io.StringIO()):
        if name == "hotcoco":
            import hotcoco
            gt = hotcoco.COCO("gt.json"); run = hotcoco.COCOeval(gt, gt.load_res("found.json"), "bbox")
        elif name == "pycocotools":
            from pycocotools.coco import COCO
            from pycocotools.cocoeval import COCOeval
            gt = COCO("gt.json"); run = COCOeval(gt, gt.loadRes("found.json"), "bbox")
        else:
            from faster_coco_eval import COCO, COCOeval_faster
            gt = COCO("gt.json"); run = COCOeval_faster(gt, gt.loadRes("found.json"), "bbox")
        run.evaluate(); run.accumulate(); run.summarize()
    return round(float(run.stats[0]), 3)

print("label-studio-sdk", version("label-studio-sdk"), "exports ids", [a["id"] for a in exported["annotations"]])
results = {}
for name in ("pycocotools", "faster-coco-eval", "hotcoco"):
    results[name] = evaluate(name, exported), evaluate(name, from_one)
    print(f"{name} {version(name)}: AP of perfect detections {results[name][0]}, with ids from 1 {results[name][1]}")
assert [a["id"] for a in exported["annotations"]] == [0, 1], exported
for name in ("pycocotools", "faster-coco-eval"):
    assert results[name][0] < 0.6 and results[name][1] == 1.0, results
assert results["hotcoco"] == (1.0, 1.0), results
PY
