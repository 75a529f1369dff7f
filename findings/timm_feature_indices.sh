#!/usr/bin/env bash
# Guess: timm.create_model(name, features_only=True, out_indices=(2, 3, 4)) gives the maps at strides 8, 16 and 32 of any
#   convolutional network, as it does of every ResNet.
# Behaviour: the index counts a network's own maps. DLA-34, CSPDarknet-53 and VGG-16 have one at stride 1 or 2 more, so that the
#   same indices are strides 4, 8 and 16, without a warning; ConvNeXt, HGNetV2 and FastViT have none at stride 2, and raise an
#   IndexError that names neither. (-3, -2, -1) is strides 8, 16 and 32 in all of them; feature_info.reduction() tells.
# Versions: timm 1.0.31, torch 2.14.1. Source: the results below (timm/models/_features.py). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.3.5
cat >"$place/look.py" <<'PY'
import timm
import torch

print("timm", timm.__version__, "torch", torch.__version__)


def strides(name, indices):
    try:
        network = timm.create_model(name, pretrained=False, features_only=True, out_indices=indices).eval()
    except IndexError as error:
        return f"IndexError: {error}"
    shapes = [tuple(found.shape) for found in network(torch.zeros(1, 3, 64, 64))]
    assert [64 // shape[-1] for shape in shapes] == network.feature_info.reduction()
    return network.feature_info.reduction()


for name, expected in {
    "resnet18": [8, 16, 32],
    "regnety_002": [8, 16, 32],
    "dla34": [4, 8, 16],
    "cspdarknet53": [4, 8, 16],
    "vgg16_bn": [4, 8, 16],
    "convnext_atto": "IndexError: list index out of range",
    "hgnetv2_b0": "IndexError: list index out of range",
    "fastvit_t8": "IndexError: list index out of range",
}.items():
    first, last = strides(name, (2, 3, 4)), strides(name, (-3, -2, -1))
    print(f"{name:14} (2, 3, 4): {first}; (-3, -2, -1): {last}")
    assert first == expected, (name, first)
    assert last == [8, 16, 32], (name, last)
PY
"$place/venv/bin/python" "$place/look.py"
