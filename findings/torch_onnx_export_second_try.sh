#!/usr/bin/env bash
# Guess: what torch.onnx.export(dynamo=True) exports with a dynamic batch, torch.export.export exports too: the first
#   is documented to call the second.
# Behaviour: len(x) in a forward makes the batch a constant for torch.export, which refuses the dynamic dimension, while
#   torch.onnx.export succeeds: after the same failure it tries again in strict mode, where len(x) stays symbolic. The
#   export so takes two captures, and a program for torch.export.save cannot be had from the same module without
#   strict=True. x.shape[0] works in both.
# Versions: torch 2.14.1, onnx 1.23.2, onnxscript 0.7.2. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 onnx==1.23.2 onnxscript==0.7.2
cd "$place"
"$place/venv/bin/python" - <<'PY'
import torch

class ByLen(torch.nn.Module):
    def forward(self, x):
        return x.reshape(len(x), -1)

class ByShape(torch.nn.Module):
    def forward(self, x):
        return x.reshape(x.shape[0], -1)

def works(export, module, **more):
    try:
        export(module, (torch.zeros(2, 3, 4),), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), **more)
        return True
    except Exception as error:
        print(f"  {type(error).__name__}: {str(error).strip().splitlines()[0][:100]}")
        return False

print("torch", torch.__version__)
found = {}
for module in (ByLen(), ByShape()):
    name = type(module).__name__
    found[name] = (
        works(torch.export.export, module),
        works(torch.export.export, module, strict=True),
        works(torch.onnx.export, module, dynamo=True, verbose=False),
    )
    print(f"{name}: torch.export {found[name][0]}, strict {found[name][1]}, torch.onnx.export {found[name][2]}")
assert found == {"ByLen": (False, True, True), "ByShape": (True, True, True)}, found
PY
