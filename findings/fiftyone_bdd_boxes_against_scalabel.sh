#!/usr/bin/env bash
# Guess: box2d in FiftyOne's BDD exports means what it means to Scalabel, the library of the people who made the
#   format.
# Behaviour: a detection over a whole image of 60 x 40 pixels is written with x2 = 60 and y2 = 40. For Scalabel x2
#   and y2 are the last pixel inside, so it reads 61 x 41, and the other way round FiftyOne takes a pixel off every
#   official box.
# Versions: fiftyone 1.22.1, scalabel 0.3.1. Source: run here; scalabel/label/transforms.py. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip fiftyone==1.22.1
pip --no-deps scalabel==0.3.1
pip pydantic toml nanoid plyfile motmetrics scikit-image joblib pycocotools pyparsing
cd "$place"
export FIFTYONE_DO_NOT_TRACK=1 HOME="$place"
"$place/venv/bin/python" - <<'PY'
import glob, json, os, warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
import fiftyone as fo
import fiftyone.core.metadata as fom
import fiftyone.utils.bdd as foub
from PIL import Image
from scalabel.label.transforms import bbox_to_box2d, box2d_to_bbox
from scalabel.label.typing import Box2D

Image.new("RGB", (60, 40)).save("a.png")
path = os.path.abspath("a.png")
exporter = foub.BDDDatasetExporter(export_dir="bdd")
with exporter:
    whole = fo.Detections(detections=[fo.Detection(label="car", bounding_box=[0, 0, 1, 1])])
    exporter.export_sample(path, {"detections": whole}, metadata=fom.ImageMetadata.build_for(path))
(labels,) = glob.glob("bdd/**/*.json", recursive=True)
(label,) = json.load(open(labels))[0]["labels"]
stated = label["box2d"]
read = [float(v) for v in box2d_to_bbox(Box2D(**stated))]
official = bbox_to_box2d([0, 0, 60, 40])
print("fiftyone", version("fiftyone"), "writes", stated)
print("scalabel", version("scalabel"), "reads x, y, width, height", read)
print("scalabel writes the same box as x2, y2", (official.x2, official.y2))
assert (stated["x2"], stated["y2"]) == (60, 40), stated
assert read == [0, 0, 61, 41], read
assert (official.x2, official.y2) == (59, 39), official
PY
