#!/usr/bin/env bash
# Guess: timm's tf_efficientnet_lite0 is exported with free height and width about as fast as efficientnet_lite0, which
#   has the same layers; they differ in how five convolutions of stride 2 are padded.
# Behaviour: padding as TensorFlow has it is computed from the size, ceil(size / stride) and a maximum, which sympy does
#   not simplify. The height's formula contains the one before it several times: 21 characters after all of
#   efficientnet_lite0, 73, 260 and 847 after one, two and three of the five strides of the other. torch.export takes
#   longer for these three than for the other's whole network, and does not end in twenty times the time for all five.
# Versions: torch 2.14.1, timm 1.0.31, torchvision 0.29.1. Source: the results below. Date: 2026-11-30.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31
cd "$place"
cat > export.py <<'PY'
import sys
import time

import timm
import torch

name, num_blocks = sys.argv[1], int(sys.argv[2])
model = timm.create_model(name).eval()
net = torch.nn.Sequential(model.conv_stem, model.bn1, model.blocks[:num_blocks])
free = torch.export.Dim.DYNAMIC
begin = time.process_time()
program = torch.export.export(net, (torch.zeros(2, 3, 160, 288),), dynamic_shapes=({0: free, 2: free, 3: free},))
seconds = time.process_time() - begin
last = [node for node in program.graph.nodes if node.op == "call_function"][-1]
print(f"{seconds:.1f} {len(str(last.meta['val'].shape[2]))}")
PY
"$place/venv/bin/python" - <<'PY'
import resource
import subprocess
import sys


def export(name, num_blocks, limit=600):
    """Processor seconds, and characters of the formula of the height; None beyond the limit."""
    run = subprocess.run(
        [sys.executable, "export.py", name, str(num_blocks)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (limit, limit)),
    )
    found = run.stdout.split()
    print(f"{name}, {num_blocks} of 7 blocks:", f"{found[0]} s, {found[1]} characters" if found else f"over {limit} s")
    assert found or run.returncode in (-9, -24), run.stderr  # SIGKILL, SIGXCPU
    return (float(found[0]), int(found[1])) if found else None


plain = export("efficientnet_lite0", 7)
same = [export("tf_efficientnet_lite0", blocks) for blocks in (1, 2, 3)]
whole = export("tf_efficientnet_lite0", 7, int(20 * plain[0]) + 20)
lengths = [length for _, length in same]
assert plain[1] < 40 and lengths[1] > 3 * lengths[0] and lengths[2] > 3 * lengths[1], (plain, same)
assert same[2][0] > plain[0], (plain, same)
assert whole is None, whole
PY
