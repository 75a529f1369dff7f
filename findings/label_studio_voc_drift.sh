#!/usr/bin/env bash
# Guess: a box that was drawn at whole pixels is at the same pixels in an exported Pascal VOC file: percentages are
#   rounded.
# Behaviour: Converter.convert_to_voc of label-studio-sdk cuts the fraction off. Label Studio stores percent of the
#   image: 65 of 97 pixels is 67.0103..., and that share of 97 is 64.99999999999999 in floating point, which becomes
#   64. Each turn of "VOC to Label Studio to VOC" can move a box another pixel left or up. Of 1920 whole positions
#   211 are hit.
# Versions: label-studio-sdk 2.1.2. Source: label_studio_sdk/converter/converter.py; its COCO export of the same
#   task keeps the fraction. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps label-studio-sdk==2.1.2
pip ijson ujson xmljson lxml requests pillow numpy pandas nltk pyjwt appdirs defusedxml
cd "$place"
"$place/venv/bin/python" - <<'PY'
import glob, json, os, re
from importlib.metadata import version
from PIL import Image
from label_studio_sdk.converter import Converter

WIDTH, HEIGHT = 97, 61
os.makedirs("in")
Image.new("RGB", (WIDTH, HEIGHT)).save("in/a.png")
CONFIG = ('<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
          '<Label value="cat"/></RectangleLabels></View>')

def to_voc(box, turn):
    """x, y, width and height in pixels -> percent in a task -> what the exported xml says, as x, y, width, height."""
    x, y, w, h = box
    value = {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "width": w / WIDTH * 100, "height": h / HEIGHT * 100}
    region = {"id": "r", "type": "rectanglelabels", "from_name": "label", "to_name": "image", "original_width": WIDTH,
              "original_height": HEIGHT, "image_rotation": 0,
              "value": {**value, "rotation": 0, "rectanglelabels": ["cat"]}}
    task = {"id": 1, "data": {"image": os.path.abspath("in/a.png")}, "annotations": [{"id": 1, "result": [region]}]}
    json.dump([task], open("task.json", "w"))
    converter = Converter(CONFIG, os.getcwd(), download_resources=False)
    converter.convert_to_voc("task.json", f"voc{turn}", is_dir=False)
    (xml,) = glob.glob(f"voc{turn}/**/*.xml", recursive=True)
    found = {k: int(v) for k, v in re.findall(r"<(xmin|ymin|xmax|ymax)>(\d+)<", open(xml).read())}
    return found["xmin"], found["ymin"], found["xmax"] - found["xmin"], found["ymax"] - found["ymin"]

print("label-studio-sdk", version("label-studio-sdk"))
boxes = [(65, 20, 20, 15)]
for turn in range(4):
    boxes.append(to_voc(boxes[-1], turn))
print("x, y, width, height drawn:", boxes[0])
print("after each VOC export:    ", *boxes[1:])
hit = sum(int(k / 1920 * 100 / 100 * 1920) < k for k in range(1920))
print("positions of 0..1919 that a width of 1920 pixels moves:", hit)
assert [box[0] for box in boxes] == [65, 64, 63, 62, 61], boxes
assert hit == 211, hit
PY
