#!/usr/bin/env bash
# Guess: the categories of a COCO export are the labels of the controls that draw boxes.
# Behaviour: choices that describe a box (<Choices perRegion="true">, say "difficult") become categories as well,
#   sorted among the classes. No annotation uses them, but the ids of the real classes move and a detector gets more
#   outputs.
# Versions: label-studio-sdk 2.1.2. Source: run here, Label Studio's documentation of perRegion. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip --no-deps label-studio-sdk==2.1.2
pip ijson ujson xmljson lxml requests pillow numpy pandas nltk pyjwt appdirs defusedxml
cd "$place"
"$place/venv/bin/python" - <<'PY'
import json, os
from importlib.metadata import version
from PIL import Image
from label_studio_sdk.converter import Converter

Image.new("RGB", (100, 50)).save("a.png")
LABELS = ('<RectangleLabels name="label" toName="image"><Label value="cat"/><Label value="dog"/></RectangleLabels>')
FLAGS = ('<Choices name="flag" toName="image" perRegion="true"><Choice value="difficult"/><Choice value="blurred"/>'
         "</Choices>")

def categories(controls, folder):
    where = {"id": "r", "from_name": "label", "to_name": "image", "original_width": 100, "original_height": 50}
    place = {"x": 10, "y": 10, "width": 20, "height": 20, "rotation": 0}
    result = [{**where, "type": "rectanglelabels", "value": {**place, "rectanglelabels": ["dog"]}}]
    if "Choices" in controls:
        result.append({**where, "from_name": "flag", "type": "choices", "value": {**place, "choices": ["difficult"]}})
    task = {"id": 1, "data": {"image": os.path.abspath("a.png")}, "annotations": [{"id": 1, "result": result}]}
    json.dump([task], open("task.json", "w"))
    config = f'<View><Image name="image" value="$image"/>{controls}</View>'
    Converter(config, os.getcwd(), download_resources=False).convert_to_coco("task.json", folder, is_dir=False)
    data = json.load(open(f"{folder}/result.json"))
    return {c["name"]: c["id"] for c in data["categories"]}, [a["category_id"] for a in data["annotations"]]

plain, flagged = categories(LABELS, "plain"), categories(LABELS + FLAGS, "flagged")
print("label-studio-sdk", version("label-studio-sdk"))
print("boxes of cat and dog:            categories", plain[0], "ids used", plain[1])
print("with choices of each box, too:   categories", flagged[0], "ids used", flagged[1])
assert set(plain[0]) == {"cat", "dog"}, plain
assert set(flagged[0]) == {"blurred", "cat", "difficult", "dog"}, flagged
PY
