#!/usr/bin/env bash
# Guess: a timm classifier's state dict fits the same network made with features_only=True, but for the final layers: their
#   parameters have the same names.
# Behaviour: so it is for ResNet. Of networks whose stages stand in an nn.Sequential (ConvNeXt, HGNetV2), or whose stem does
#   (CSPNet), the first dot becomes an underscore: stages.0 is stages_0. With strict=False nothing at all of a ConvNeXt is loaded,
#   without an error. create_model(pretrained=True) is not affected, because it loads before the renaming.
# Versions: timm 1.0.31, torch 2.14.1. Source: the results below (timm/models/_features.py, FeatureListNet). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1 numpy==2.3.5
cat >"$place/look.py" <<'PY'
import timm
import torch

print("timm", timm.__version__, "torch", torch.__version__)
missing = {}
for name in ("resnet18", "convnext_atto", "hgnetv2_b0", "cspresnet50"):
    classifier = timm.create_model(name, pretrained=False).state_dict()
    features = timm.create_model(name, pretrained=False, features_only=True)
    keys = features.load_state_dict(classifier, strict=False)
    total = len(features.state_dict())
    missing[name] = len(keys.missing_keys) / total
    renamed = {key.replace(".", "_", 1) for key in classifier}
    print(f"{name:14} {len(keys.missing_keys)} of {total} tensors missing, such as {keys.missing_keys[:2]}")
    assert set(keys.missing_keys) <= renamed, "the first dot became an underscore in all of them"
assert missing["resnet18"] == 0
assert missing["convnext_atto"] == 1
assert 0 < missing["hgnetv2_b0"] < 1
assert 0 < missing["cspresnet50"] < 1
PY
"$place/venv/bin/python" "$place/look.py"
