#!/usr/bin/env bash
# Guess: building a network under torch.device("meta") is the cheap way to its shapes: no values are drawn, nothing is loaded.
# Behaviour: the first normal_ on a meta tensor is answered by the Python references, which import torch._dynamo and sympy:
#   some 900 modules, a second of processor time in a fresh process. uniform_ (nn.Conv2d's own initialization) does not,
#   nor does normal_ of a tensor with values.
# Versions: torch 2.14.1, CPU. Source: the results below (torch/_refs). Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.3.5
cat >"$place/look.py" <<'PY'
import sys
import time

import torch

device, method = sys.argv[1:]
values = torch.empty(2, 2, device=device)
before, modules = time.process_time(), len(sys.modules)
getattr(values, method)()
took, more = time.process_time() - before, len(sys.modules) - modules
has = "torch._dynamo" in sys.modules
print(f"torch {torch.__version__}: {method} on {device}: {took:.3f} s of processor time, {more} more modules, torch._dynamo {has}")
assert has == ((device, method) == ("meta", "normal_"))
PY
for device in cpu meta; do
  for method in uniform_ normal_; do "$place/venv/bin/python" "$place/look.py" "$device" "$method"; done
done
