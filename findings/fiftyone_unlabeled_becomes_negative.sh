#!/usr/bin/env bash
# Guess: a sample whose label field is None, that is, one that nobody has looked at yet, is left out of a COCO
#   export or marked in it, as FiftyOne's own format does.
# Behaviour: COCODetectionDatasetExporter lists it among the images without annotations, exactly as a sample that
#   was labeled as empty. Trained on, every object in it is background; evaluated, every detection in it is false.
#   FiftyOne's VOC exporter writes no file for it, so there the difference stays.
# Versions: fiftyone 1.22.1. Source: run here; FiftyOne's documentation of label fields that are None. Date:
#   2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip fiftyone==1.22.1
cd "$place"
export FIFTYONE_DO_NOT_TRACK=1 HOME="$place"
"$place/venv/bin/python" - <<'PY'
import glob, json, os, warnings
warnings.filterwarnings("ignore")
from importlib.metadata import version
import fiftyone as fo
import fiftyone.core.metadata as fom
import fiftyone.utils.coco as fouc
import fiftyone.utils.voc as fouv
from PIL import Image

samples = {"empty": fo.Detections(detections=[]), "unlabeled": None}
for name in samples:
    Image.new("RGB", (40, 30)).save(f"{name}.png")

def export(exporter):
    with exporter:
        for name, label in samples.items():
            path = os.path.abspath(f"{name}.png")
            exporter.export_sample(path, label, metadata=fom.ImageMetadata.build_for(path))

export(fouc.COCODetectionDatasetExporter(export_dir="coco", classes=["cat"]))
export(fouv.VOCDetectionDatasetExporter(export_dir="voc"))
data = json.load(open("coco/labels.json"))
coco = sorted(os.path.splitext(i["file_name"])[0] for i in data["images"])
voc = sorted(os.path.splitext(os.path.basename(p))[0] for p in glob.glob("voc/**/*.xml", recursive=True))
print("fiftyone", version("fiftyone"))
print("images in the COCO export:", coco, " annotations:", data["annotations"])
print("label files in the VOC export:", voc)
assert coco == ["empty", "unlabeled"] and data["annotations"] == [], data
assert voc == ["empty"], voc
PY
