#!/usr/bin/env bash
# Guess: annotations["invalid"] of torchvision's WIDERFace is the flag that the dataset calls invalid.
# Behaviour: the last three columns of the annotation file are named occlusion, pose, invalid; the dataset's readme
#   lists them as invalid, occlusion, pose. A filter on "invalid" therefore drops faces of atypical pose and keeps
#   invalid ones. The readme gives occlusion three levels (0, 1, 2), invalid and pose two, so a 2 in the middle
#   column is occlusion.
# Versions: torchvision 0.29.1. Source: torchvision/datasets/widerface.py against wider_face_split/readme.txt of the
#   dataset. Date: 2026-11-29.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
pip() { "$place/venv/bin/pip" install --quiet --disable-pip-version-check "$@"; }
pip torch==2.14.1 torchvision==0.29.1
cd "$place"
"$place/venv/bin/python" - <<'PY'
import pathlib
import torchvision
from torchvision.datasets import WIDERFace

split = pathlib.Path("widerface/wider_face_split"); split.mkdir(parents=True)
# One face in the readme's order: x, y, w, h, blur 0, expression 0, illumination 0, invalid 1, occlusion 2, pose 0.
(split / "wider_face_train_bbx_gt.txt").write_text("0--Parade/a.jpg\n1\n1 2 3 4 0 0 0 1 2 0 \n")

class WithoutImages(WIDERFace):
    def _check_integrity(self):  # the annotation file is enough here
        return True

columns = WithoutImages(".", "train").img_info[0]["annotations"]
read = {name: columns[name].tolist() for name in ("invalid", "occlusion", "pose")}
print("torchvision", torchvision.__version__)
print("stated: {'invalid': [1], 'occlusion': [2], 'pose': [0]}")
print("read:  ", read)
assert read == {"invalid": [0], "occlusion": [1], "pose": [2]}, read
PY
