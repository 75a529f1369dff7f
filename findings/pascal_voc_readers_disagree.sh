#!/usr/bin/env bash
# Guess: libraries that read Pascal VOC agree on the box that an xml file states.
# Behaviour: for xmin 11, ymin 21, xmax 30, ymax 40 supervision gives (10, 20, 30, 40), 20 x 20 pixels: numbers
#   count from 1 and the last pixel belongs to the box, as in the dataset. globox gives (11, 21, 30, 40), 19 x 19.
#   Files of tools that write edges from 0 are a pixel too wide in the first, files of the dataset one too small in
#   the second. A round trip through either alone shows nothing, since each writes as it reads; written by
#   supervision and read by globox, an object of 8 x 8 pixels has an IoU of 0.77 with itself.
# Versions: supervision 0.31.2, globox 2.9.0. Source: run here; Pascal VOC's development kit counts pixels from 1.
# Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps supervision==0.31.2 globox==2.9.0
pip numpy pillow pyyaml requests scipy matplotlib tqdm rich av defusedxml "pydeprecate<0.14" opencv-python-headless
cd "$place"
"$place/venv/bin/python" - <<'PY'
import os
from importlib.metadata import version
import numpy as np
import supervision as sv
from globox import AnnotationSet
from PIL import Image

os.makedirs("images"); os.makedirs("xml")
Image.new("RGB", (97, 61)).save("images/a.png")
open("xml/a.xml", "w").write(
    "<annotation><folder>images</folder><filename>a.png</filename><size><width>97</width><height>61</height>"
    "<depth>3</depth></size><object><name>cat</name><bndbox><xmin>11</xmin><ymin>21</ymin><xmax>30</xmax>"
    "<ymax>40</ymax></bndbox></object></annotation>")

def with_globox(folder):
    (image,) = AnnotationSet.from_pascal_voc(folder)
    (box,) = image.boxes
    return [box.xmin, box.ymin, box.xmax, box.ymax]

def with_supervision(folder):
    data = sv.DetectionDataset.from_pascal_voc("images", folder)
    return next(iter(data.annotations.values())).xyxy[0].tolist()

first, second = with_supervision("xml"), with_globox("xml")
small = sv.Detections(xyxy=np.array([[40.0, 10.0, 48.0, 18.0]]), class_id=np.array([0]))
path = "images/a.png"
sv.DetectionDataset(classes=["cat"], images=[path], annotations={path: small}).as_pascal_voc(
    annotations_directory_path="written")
back = with_globox("written")
iou = (back[2] - back[0]) * (back[3] - back[1]) / 64  # the box that came back lies inside the other
print("supervision", version("supervision"), "reads", first)
print("globox", version("globox"), "reads", second)
print("written by supervision", small.xyxy[0].tolist(), "read by globox", back, "IoU", round(iou, 3))
assert first == [10, 20, 30, 40] and second == [11, 21, 30, 40], (first, second)
assert back == [41, 11, 48, 18], back
PY
